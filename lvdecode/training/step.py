"""One optimiser step: the same function for one device and for many."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key
import optax

from lvdecode.training import metrics as metrics_lib
from lvdecode.training import randomness
from lvdecode.training import running
from lvdecode.training import trees

Params = Any  # A tree of float32 arrays.
Batch = Any  # A tree of arrays whose first axis counts examples.
Metrics = dict[str, metrics_lib.Mean]
Carry = Any  # A tree of arrays, or None.
LossFn = Callable[
  [Params, Batch, randomness.Streams, str | None, Carry],
  tuple[Float[Array, ''], Metrics],
]
NextCarry = Callable[[Carry, Metrics], Carry]


@runtime_checkable
class Task(Protocol):
  """What is asked of a model; training is handed one and imports none."""

  def init(self, rng: Key[Array, '']) -> Params:
    """Fresh parameters."""

  def init_carry(self) -> Carry:
    """What the loss remembers from step to step, before the first one."""

  def next_carry(self, carry: Carry, metrics: Metrics) -> Carry:
    """The same after a step whose whole batch had these metrics."""

  def loss(
    self,
    params: Params,
    batch: Batch,
    streams: randomness.Streams,
    axis_name: str | None,
    carry: Carry,
  ) -> tuple[Float[Array, ''], Metrics]:
    """The SUM over this device's real examples, and what to report.

    Metrics always hold 'loss', weighted by the number of real examples. A
    loss that couples examples over devices may psum over `axis_name`. A metric
    named as a running statistic is what that becomes: see `running.follow`.
    """

  def part(self, path: str) -> str:
    """Whose the parameter at a path is: 'encoder', 'decoder' or 'both'."""

  def evaluate(
    self, params: Params, batch: Batch, rng: Key[Array, '']
  ) -> dict[str, Float[Array, ' B']]:
    """Figures per example, nothing reduced."""


class TrainState(NamedTuple):
  """All a run needs to go on, apart from the data position; only arrays.

  Attributes:
    step: number of steps taken.
    params: the parameters.
    opt_state: the optimiser's, without any entry for frozen parameters.
    rng: root of every random stream.
    ema: running average of the parameters, or None when off.
    carry: what the loss remembers from step to step, or None.
  """

  step: Int[Array, '']
  params: Params
  opt_state: Any
  rng: Key[Array, '']
  ema: Params | None
  carry: Carry


def init_state(
  task: Task, tx: optax.GradientTransformation, seed: int, ema: float
) -> TrainState:
  """The state at step 0; `ema` is the decay, 0 for no average."""
  init_rng, rng = jax.random.split(jax.random.key(seed))
  params = task.init(init_rng)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    opt_state=tx.init(params),
    rng=rng,
    # A copy: the compiled step gives both trees away.
    ema=jax.tree.map(jnp.copy, params) if ema else None,
    carry=task.init_carry(),
  )


def train_step(
  state: TrainState,
  batch: Batch,
  *,
  loss_fn: LossFn,
  next_carry: NextCarry,
  tx: optax.GradientTransformation,
  trainable: Any = None,
  moving: Any = None,
  axis_name: str | None = None,
  accumulate: int = 1,
  spread: Callable[[Any], Any] | None = None,
  ema: float = 0.0,
  offset: int = 0,
) -> tuple[TrainState, Metrics]:
  """Takes one step on the mean loss over the real examples of all devices.

  A step whose loss or gradient is not finite changes nothing but the step
  count, reports no figure of its own and counts 1 in the metric 'skipped'.

  Args:
    state: the state, equal on every device.
    batch: this device's share, or the whole one where a compiler divides the
      work; its size is a multiple of `accumulate`.
    loss_fn: as `Task.loss`.
    next_carry: as `Task.next_carry`.
    tx: the optimiser; given the step as an extra argument.
    trainable: tree of bools like the parameters; no gradient is computed
      where False. None: all True.
    moving: tree of bools, where this step moves what is trainable; elsewhere
      parameters and moments stay as they are. None: as `trainable`.
    axis_name: the mapped axis of devices; None where `batch` is all there is.
    accumulate: number of micro-batches the share is worked off in. What a
      loss couples over examples is then coupled within a micro-batch only.
    spread: micro-batches [accumulate, b, ...] -> the same, where the devices
      that share a whole batch are to share each of them; None: as they lie.
    ema: decay of the running average, if the state has one.
    offset: place of this process' first example in the global batch.

  Returns:
    The new state and the metrics of all devices, with 'grad_norm' (before
    clipping) and 'skipped' added.
  """
  if trainable is None:
    trainable = jax.tree.map(lambda _: True, state.params)
  streams = randomness.Streams(
    state.rng, state.step, _places(batch, axis_name, offset)
  )
  moving = trainable if moving is None else moving
  free = trees.select(trainable, state.params)

  def gradient(batch, streams):
    def loss(part):
      params = trees.overlay(moving, part, state.params)
      return loss_fn(params, batch, streams, axis_name, state.carry)

    return jax.grad(loss, has_aux=True)(trees.select(moving, state.params))

  grads, metrics = _accumulated(gradient, batch, streams, accumulate, spread)
  if axis_name is not None:
    grads, metrics = lax.psum((grads, metrics), axis_name)
  examples = jnp.maximum(metrics['loss'].weight, 1.0)
  grads = jax.tree.map(lambda g: g / examples, grads)
  norm = optax.tree.norm(grads)
  good = jnp.isfinite(norm) & jnp.isfinite(metrics['loss'].total)

  # 0 where nothing moves; the optimiser knows all that is trainable.
  grads = trees.overlay(
    moving, grads, jax.tree.map(jnp.zeros_like, state.params)
  )
  updates, opt_state = optax.with_extra_args_support(tx).update(
    trees.select(trainable, grads), state.opt_state, free, step=state.step
  )
  opt_state = trees.overlay_moments(
    trees.select(trainable, moving), opt_state, state.opt_state
  )
  moved = jax.tree.map(jnp.add, free, trees.select(trainable, updates))
  params, metrics = running.follow(
    trees.overlay(moving, moved, state.params), metrics
  )
  params = trees.where(good, params, state.params)
  average = state.ema
  if average is not None:
    # In this form a frozen parameter's average stays equal bit for bit.
    average = jax.tree.map(
      lambda a, p: a + (1 - ema) * (p - a), state.ema, params
    )
  new_state = TrainState(
    step=state.step + 1,
    params=params,
    opt_state=trees.where(good, opt_state, state.opt_state),
    rng=state.rng,
    ema=trees.where(good, average, state.ema),
    carry=trees.where(good, next_carry(state.carry, metrics), state.carry),
  )
  one = jnp.ones(())
  metrics = dict(metrics, grad_norm=metrics_lib.Mean(norm, one))
  metrics = trees.where(good, metrics, jax.tree.map(jnp.zeros_like, metrics))
  metrics['skipped'] = metrics_lib.Mean(1.0 - good, one)
  return new_state, metrics


def _places(batch, axis_name, offset) -> Int[Array, ' B']:
  """Device d of N with b examples holds places d*b ... d*b + b-1."""
  size = jax.tree.leaves(batch)[0].shape[0]
  device = 0 if axis_name is None else lax.axis_index(axis_name)
  return offset + device * size + jnp.arange(size)


def _accumulated(gradient, batch, streams, parts: int, spread):
  """The sums of `gradient`'s results over `parts` slices of the batch."""
  if parts == 1:
    return gradient(batch, streams)

  def cut(x):
    return x.reshape(parts, x.shape[0] // parts, *x.shape[1:])

  def body(sums, part):
    batch, place = part
    result = gradient(batch, streams._replace(place=place))
    return jax.tree.map(jnp.add, sums, result), None

  slices = jax.tree.map(cut, (batch, streams.place))
  if spread is not None:
    slices = spread(slices)
  first = jax.tree.map(lambda x: x[0], slices)
  shapes = jax.eval_shape(
    lambda batch, place: gradient(batch, streams._replace(place=place)), *first
  )
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
  return lax.scan(body, zeros, slices)[0]
