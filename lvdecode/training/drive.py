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
    ema=ema,
  )


class Pace:
  """Keeps the host a little ahead of the devices, and says what compiles."""

  def __init__(self, devices: int, accumulate: int):
    """A batch is divided over so many devices and micro-batches."""
    self._devices = devices
    self._accumulate = accumulate
    self._compiled: set[tuple] = set()
    self._running: collections.deque = collections.deque()
    # Simulated devices deadlock when two steps are under way on few cores.
    simulated = jax.default_backend() == 'cpu' and jax.local_device_count() > 1
    self._ahead = 1 if simulated else 2

  def call(self, step: Callable, state: Any, batch: Any, *rest: Any) -> tuple:
    """step(state, *rest), where rest holds the host batch placed.

    Raises:
      UserError: the batch does not divide.
    """
    shapes = batch_shapes(batch)
    first = (id(step), shapes) not in self._compiled
    if first:
      self._compiled.add((id(step), shapes))
      parallel.check_batch(shapes[0][0], self._devices, self._accumulate)
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
    accumulate: int,
    ema: float,
    kind: str,
    state: step_lib.TrainState,
  ):
    """`kind` is of `parallel.KINDS`."""
    self._task = task
    self._optimizer = optimizer
    self._devices = parallel.make(kind)
    self._pace = Pace(self._devices.count, accumulate)
    self._reset = jax.jit(
      functools.partial(parts.reset, task=task, optimizer=optimizer)
    )

    def compiled(moving):
      return self._devices.compile(
        train_step(
          task,
          optimizer,
          moving=moving,
          axis_name=self._devices.axis_name,
          accumulate=accumulate,
          ema=ema,
        )
      )

    self._compile = compiled
    self._steps: dict[str, Callable] = {}
    self.state = self._devices.place(state)

  def take(self, request: Request) -> step_lib.Metrics:
    """One step, without waiting for it."""
    if request.anew:
      self.state = self._devices.place(self._reset(self.state))
    if request.moving not in self._steps:
      self._steps[request.moving] = self._compile(self._mask(request.moving))
    batch = self._devices.shard(request.batch)
    self.state, metrics = self._pace.call(
      self._steps[request.moving], self.state, request.batch, batch
    )
    return metrics

  def _mask(self, moving: str) -> Any:
    """Tree of bools, True for what moves."""
    if moving == ENCODER:
      return parts.of(self._task.part, self._optimizer.trainable, ENCODER)
    stages = {stage.name: stage.moving for stage in self._optimizer.stages}
    return stages[moving]

  def read(self) -> step_lib.TrainState:
    """The state on one device; gone after the next step."""
    return self._devices.gather(self.state)
