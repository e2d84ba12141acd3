"""Who takes the steps that a trainer asks for."""

import collections
from collections.abc import Callable, Generator
import functools
import logging
import time
from typing import Any, NamedTuple

import jax

from lvdecode.training import optimizer as optimizer_lib
from lvdecode.training import parallel
from lvdecode.training import parts
from lvdecode.training import settings as settings_lib
from lvdecode.training import step as step_lib

ENCODER = 'encoder'


class Request(NamedTuple):
  """A step that a `Trainer` wants taken.

  Attributes:
    step: the number of steps taken before it.
    batch: the host batch.
    moving: what moves: the name of a stage of the optimiser, or `ENCODER` for
      the encoder alone.
    anew: whether the decoder begins anew before it.
  """

  step: int
  batch: Any
  moving: str
  anew: bool


def next_request(
  requests: Generator[Request, step_lib.Metrics, None],
  metrics: step_lib.Metrics | None,
) -> Request | None:
  """Answers a trainer by a step's metrics, at first by None.

  Returns:
    What it wants next; None when it is done.
  """
  try:
    return next(requests) if metrics is None else requests.send(metrics)
  except StopIteration:
    return None


def train_step(
  task: step_lib.Task,
  optimizer: optimizer_lib.Optimizer,
  *,
  moving: Any,
  axis_name: str | None,
  accumulate: int,
  spread: Callable[[Any], Any] | None,
  ema: float,
) -> Callable[[step_lib.TrainState, Any], tuple]:
  """step(state, batch) -> (state, metrics), not compiled."""
  return functools.partial(
    step_lib.train_step,
    loss_fn=task.loss,
    next_carry=task.next_carry,
    tx=optimizer.tx,
    trainable=optimizer.trainable,
    moving=moving,
    axis_name=axis_name,
    accumulate=accumulate,
    spread=spread,
    ema=ema,
  )


class Pace:
  """Keeps the host a little ahead of the devices, and says what compiles."""

  def __init__(self) -> None:
    self._compiled: set[tuple] = set()
    self._running: collections.deque = collections.deque()
    # Simulated devices deadlock when two steps are under way on few cores.
    simulated = jax.default_backend() == 'cpu' and jax.device_count() > 1
    self._ahead = 1 if simulated else 2

  def call(self, step: Callable, state: Any, batch: Any, *rest: Any) -> tuple:
    """step(state, *rest), where rest holds the host batch placed."""
    shapes = batch_shapes(batch)
    first = (id(step), shapes) not in self._compiled
    if first:
      self._compiled.add((id(step), shapes))
      logging.info('compiling the training step for batch %s', shapes)
    while len(self._running) >= self._ahead:
      jax.block_until_ready(self._running.popleft())
    begin = time.perf_counter()
    state, metrics = step(state, *rest)
    self._running.append(metrics)
    if first:
      jax.block_until_ready(metrics)
      seconds = time.perf_counter() - begin
      logging.info('compiled and took the first step in %.1f s', seconds)
    return state, metrics


def batch_shapes(batch: Any) -> tuple:
  """Each needs a program of its own."""
  return tuple(x.shape for x in jax.tree.leaves(batch))


class Steps:
  """Takes the steps of one run."""

  def __init__(
    self,
    task: step_lib.Task,
    optimizer: optimizer_lib.Optimizer,
    *,
    settings: settings_lib.TrainingSettings,
    devices: parallel.Devices,
    state: step_lib.TrainState,
  ):
    """`state` is placed on the devices."""
    self._task = task
    self._optimizer = optimizer
    self._settings = settings
    self._devices = devices
    self._pace = Pace()
    self._reset = devices.compile_change(
      functools.partial(parts.reset, task=task, optimizer=optimizer)
    )
    self._steps: dict[tuple[str, int], Callable] = {}
    self.state = state

  def take(self, request: Request) -> step_lib.Metrics:
    """One step, without waiting for it.

    Raises:
      UserError: the batch does not divide.
    """
    if request.anew:
      self.state = self._reset(self.state)
    # Before the rows are placed, which want to divide as well.
    accumulate = parallel.micro_batches(
      batch_shapes(request.batch)[0][0] * jax.process_count(),
      self._devices.count,
      self._settings.accumulate,
      self._settings.micro_batch,
    )
    key = (request.moving, accumulate)
    if key not in self._steps:
      self._steps[key] = self._compiled(*key)
    batch = self._devices.shard(request.batch)
    self.state, metrics = self._pace.call(
      self._steps[key], self.state, request.batch, batch
    )
    return metrics

  def _compiled(self, moving: str, accumulate: int) -> Callable:
    step = train_step(
      self._task,
      self._optimizer,
      moving=self._mask(moving),
      axis_name=self._devices.axis_name,
      accumulate=accumulate,
      spread=self._devices.spread,
      ema=self._settings.ema,
    )
    return self._devices.compile(step)

  def _mask(self, moving: str) -> Any:
    """Tree of bools, True for what moves."""
    if moving == ENCODER:
      return parts.of(self._task.part, self._optimizer.trainable, ENCODER)
    stages = {stage.name: stage.moving for stage in self._optimizer.stages}
    return stages[moving]

  def read(self) -> step_lib.TrainState:
    """The state as it lies on the devices; gone after the next step."""
    return self.state

  def whole(self, params: step_lib.Params) -> step_lib.Params:
    """Parameters of that state on one device; gone after the next step."""
    return self._devices.whole(params)
