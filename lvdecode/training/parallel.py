"""How a step is spread over the devices, of this process and of others.

All devices form one mesh of the axes `data`, which shares a batch out, and
`model`, which shares layers out. Its first axis goes through one process after
the other, so that process p of P holds rows [p B / P, (p + 1) B / P) of every
global batch, as `pipeline.train_batches` reads them.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from lvdecode import errors
from lvdecode.training import sharding

KINDS = ('pmap', 'jit', 'mesh', 'fsdp')

# For a program that runs once: a third of the time to compile it.
_ONCE = {
  'xla_backend_optimization_level': 0,
  'xla_llvm_disable_expensive_passes': True,
}
_EVERYWHERE = sharding.Spec()
_ROWS = sharding.Spec(sharding.DATA)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Devices:
  """The devices of a run, and where its arrays lie on them.

  Attributes:
    kind: 'pmap': every device takes the step on its rows, and sums are taken
      over `axis_name` (`jax.pmap`, written as what it is built on, so that
      arrays are global ones on many hosts, too). 'mesh': the step sees the
      whole batch, and the compiler divides the work. 'fsdp': in the same way,
      with parameters and moments split. 'jit': one device.
    mesh: all devices.
    rules: of 'fsdp'.
  """

  kind: str
  mesh: jax.sharding.Mesh
  rules: sharding.Rules

  @property
  def count(self) -> int:
    """How many share a batch, over all processes."""
    return self.mesh.shape[sharding.DATA]

  @property
  def axis_name(self) -> str | None:
    """The mapped axis; None where the step sees the whole batch."""
    return sharding.DATA if self.kind == 'pmap' else None

  @property
  def spread(self) -> Callable[[Any], Any] | None:
    """Micro-batches [n, b, ...] -> the same, the rows of each shared out.

    Within a step; None where it sees no rows of other devices.
    """
    if self.axis_name is not None or self.count == 1:
      return None
    rows = self._on(sharding.Spec(None, sharding.DATA))
    return functools.partial(jax.lax.with_sharding_constraint, shardings=rows)

  def shardings(self, state: Any) -> Any:
    """Where each array of a state (or of its shapes) lies.

    Raises:
      UserError: rules that do not fit the parameters.
    """
    if self.kind != 'fsdp':
      return jax.tree.map(lambda _: self._on(_EVERYWHERE), state)
    specs = sharding.of_state(state, self.rules, dict(self.mesh.shape))
    return jax.tree.map(
      self._on, specs, is_leaf=lambda x: isinstance(x, sharding.Spec)
    )

  def place(self, state: Any) -> Any:
    """A state of NumPy arrays, or of arrays of this process, on the devices.

    Arrays that are there already are not copied, and the compiled step gives
    them away.
    """
    return jax.tree.map(_placed, state, self.shardings(state))

  def create(self, initial: Callable[[], Any]) -> Any:
    """The state that `initial` makes, on the devices.

    Compiled: a hundred small programs would be found in the cache one by one,
    and split over devices none ever holds all of it.
    """
    return jax.jit(
      initial,
      out_shardings=self.shardings(jax.eval_shape(initial)),
      compiler_options=_ONCE if jax.default_backend() == 'cpu' else None,
    )()

  def whole(self, tree: Any) -> Any:
    """Placed parameters -> on one device of this process.

    Without a copy, and gone after the next step, unless they are split.
    """
    if self.kind == 'fsdp':
      tree = self._gather(tree)
    return jax.tree.map(lambda x: x.addressable_data(0), tree)

  @functools.cached_property
  def _gather(self) -> Callable[[Any], Any]:
    return jax.jit(lambda x: x, out_shardings=self._on(_EVERYWHERE))

  def shard(self, batch: Any) -> Any:
    """This process' rows of a host batch -> as the compiled step wants it."""
    rows = self._on(_ROWS)
    if jax.process_count() == 1 or self.kind == 'jit':
      return jax.device_put(batch, rows)
    return jax.tree.map(
      lambda x: jax.make_array_from_process_local_data(
        rows, x, (len(x) * jax.process_count(), *x.shape[1:])
      ),
      batch,
    )

  def compile(self, step: Callable) -> Callable:
    """step(state, batch) -> compiled step(placed state, sharded batch).

    It gives the old state's memory to the new one, which lies where the old
    one lay.
    """
    if self.axis_name is not None:
      step = jax.shard_map(
        step,
        mesh=self.mesh,
        in_specs=(_EVERYWHERE, _ROWS),
        out_specs=_EVERYWHERE,
        check_vma=False,  # what it returns is equal everywhere after its sums
      )
      return jax.jit(step, donate_argnums=0)

    @functools.cache
    def compiled(treedef, shardings):
      places = jax.tree.unflatten(treedef, shardings)
      return jax.jit(
        step,
        donate_argnums=0,
        out_shardings=(places, self._on(_EVERYWHERE)),
      )

    def call(state, batch):
      leaves, treedef = jax.tree.flatten(state)
      return compiled(treedef, tuple(x.sharding for x in leaves))(state, batch)

    return call

  def compile_change(self, change: Callable[[Any], Any]) -> Callable:
    """change(state) -> state, compiled; what it makes lies where states lie."""

    def call(state):
      shardings = self.shardings(state)
      return jax.jit(change, out_shardings=shardings)(state)

    return call

  def _on(self, spec: sharding.Spec) -> jax.sharding.NamedSharding:
    return jax.sharding.NamedSharding(self.mesh, spec)


def _placed(x: Any, where: jax.sharding.Sharding) -> jax.Array:
  if isinstance(x, jax.Array) and x.sharding == where:
    return x
  if where.is_fully_addressable:
    return jax.device_put(x, where)
  if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
    data = _placed(jax.random.key_data(x), where)
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
  # `device_put` would compare the values of all processes.
  host = np.asarray(x)
  return jax.make_array_from_callback(
    host.shape, where, lambda index: host[index]
  )


def make(kind: str, model_axis: int = 1, rules: sharding.Rules = ()) -> Devices:
  """The devices, as `training.parallel` and the keys beside it name them.

  Raises:
    UserError: an unknown kind, or devices that do not divide.
  """
  check_kind(kind)
  if kind == 'jit':
    if jax.process_count() > 1:
      raise errors.UserError(
        f"training.parallel 'jit' is one device, and there are "
        f'{jax.process_count()} processes: use pmap, mesh or fsdp'
      )
    devices = jax.local_devices()[:1]
  else:
    devices = sorted(jax.devices(), key=lambda d: (d.process_index, d.id))
  if jax.local_device_count() % model_axis:
    raise errors.UserError(
      f'training.model_axis {model_axis} does not divide the '
      f'{jax.local_device_count()} devices of a process'
    )
  grid = np.array(devices).reshape(-1, model_axis)
  # Not jax.make_mesh, which may change the order of the processes.
  mesh = jax.sharding.Mesh(
    grid, sharding.AXES, axis_types=(jax.sharding.AxisType.Auto,) * 2
  )
  return Devices(kind=kind, mesh=mesh, rules=rules)


def check_kind(kind: str) -> None:
  """Refuses what is not one of `KINDS`."""
  if kind not in KINDS:
    raise errors.UserError(
      f'training.parallel {kind!r} is not one of {", ".join(KINDS)}'
    )


def micro_batches(
  batch_size: int, devices: int, accumulate: int, micro_batch: int
) -> int:
  """How many micro-batches each device works a global batch off in.

  Args:
    batch_size: of the global batch.
    devices: that share it.
    accumulate: as many, where `micro_batch` is 0.
    micro_batch: most examples a device works on at once.

  Raises:
    UserError: they would not all have the same size.
  """
  if batch_size % (devices * accumulate):
    raise errors.UserError(
      f'a batch of {batch_size} examples does not divide by {devices} devices '
      f'x training.accumulate {accumulate}: make the batch size a multiple of '
      f'{devices * accumulate}, or use training.parallel jit'
    )
  if not micro_batch:
    return accumulate
  share = batch_size // devices
  least = -(-share // micro_batch)
  return next(n for n in range(least, share + 1) if share % n == 0)
