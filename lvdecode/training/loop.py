"""Training from the first step, or the last checkpoint, to the end."""

import collections
from collections.abc import Callable, Iterator, Mapping
import dataclasses
import functools
import logging
import pathlib
import time
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from lvdecode import errors
from lvdecode.training import checkpoint
from lvdecode.training import interrupt
from lvdecode.training import optimizer as optimizer_lib
from lvdecode.training import parallel
from lvdecode.training import parts
from lvdecode.training import progress
from lvdecode.training import step as step_lib
from lvdecode.training import tally as tally_lib

Evaluate = Callable[[step_lib.Params], Mapping[str, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSettings:
  """How long to train, and what to keep of it.

  Attributes:
    steps: optimiser steps in all.
    accumulate: micro-batches per device and step.
    ema: decay of the parameters' running average; 0 for none.
    encoder_updates: of the encoder for one of the decoder, as long as the
      mutual information of the evaluations rises (He et al. 2019); 1 for none.
    parallel: one of `parallel.KINDS`.
    log_every: steps between lines.
    evaluate_every: steps between evaluations; 0 for one at the end only.
    checkpoint_every: steps between checkpoints; one more at the end.
    keep: the latest checkpoints to keep.
    keep_period: every checkpoint whose step divides by it is kept too; 0: off.
    best_metric: figure of the evaluation; the checkpoint with the least is
      kept too; '': off.
    max_skipped: consecutive steps without a finite loss and gradient after
      which the run stops.
  """

  steps: int
  accumulate: int
  ema: float
  encoder_updates: int
  parallel: str
  log_every: int
  evaluate_every: int
  checkpoint_every: int
  keep: int
  keep_period: int
  best_metric: str
  max_skipped: int

  def __post_init__(self):
    for key in (
      'steps accumulate encoder_updates log_every checkpoint_every keep '
      'max_skipped'
    ).split():
      if getattr(self, key) < 1:
        raise errors.UserError(
          f'training.{key} is {getattr(self, key)}, must be at least 1'
        )
    for key in ('evaluate_every', 'keep_period'):
      if getattr(self, key) < 0:
        raise errors.UserError(
          f'training.{key} is {getattr(self, key)}, must be 0 (off) or more'
        )
    if not 0 <= self.ema < 1:
      raise errors.UserError(f'training.ema {self.ema} is not in [0, 1)')
    if self.parallel not in parallel.KINDS:
      raise errors.UserError(
        f'training.parallel {self.parallel!r} is not one of '
        f'{", ".join(parallel.KINDS)}'
      )
    if self.encoder_updates > 1 and not self.evaluate_every:
      raise errors.UserError(
        f'training.encoder_updates is {self.encoder_updates} and '
        'training.evaluate_every 0: no evaluation would ever end it'
      )
    for key in ('evaluate_every', 'keep_period'):
      needed = key == 'keep_period' or self.best_metric
      if needed and getattr(self, key) % self.checkpoint_every:
        raise errors.UserError(
          f'training.{key} {getattr(self, key)} is not a multiple of '
          f'training.checkpoint_every {self.checkpoint_every}, so there is no '
          'checkpoint to keep'
        )


@runtime_checkable
class Data(Protocol):
  """An endless iterator of host batches that knows where it is.

  A batch is a NamedTuple of NumPy arrays with a field `weights`, 1 for every
  real target token; grain's `DatasetIterator` is such an iterator.
  """

  def __iter__(self) -> Iterator[Any]: ...

  def __next__(self) -> Any: ...

  def get_state(self) -> dict[str, Any]: ...

  def set_state(self, state: dict[str, Any]) -> None: ...


def run(
  *,
  task: step_lib.Task,
  data: Data,
  evaluate: Evaluate,
  settings: TrainingSettings,
  optimizer_settings: optimizer_lib.OptimizerSettings,
  seed: int,
  reset_at: int,
  workdir: pathlib.Path,
) -> step_lib.TrainState:
  """Trains, going on from the last checkpoint in `workdir` if there is one.

  SIGTERM and the first SIGINT end the run after the step it is in, with a
  checkpoint; the state returned then has a step below `settings.steps`.

  Args:
    task: the model and its loss.
    data: moved to the checkpoint's position when resuming.
    evaluate: parameters (their running average where there is one) on one
      device -> figures. They are gone after the next step: keep no reference.
    settings: of the run.
    optimizer_settings: of the optimiser.
    seed: of parameters and noise.
    reset_at: the step before which the decoder begins anew; 0 for none.
    workdir: a folder held by `workdir.claim`.

  Returns:
    The last state, on the devices.

  Raises:
    UserError: a batch that does not divide over the devices, data that ends, a
      checkpoint that is damaged or of another model, a full disk, or
      `max_skipped` steps without a finite gradient.
  """
  shapes = jax.eval_shape(task.init, jax.random.key(seed))
  optimizer = optimizer_lib.make(optimizer_settings, settings.steps, shapes)
  logging.info(
    'parameters:\n%s', progress.parameter_table(shapes, optimizer.trainable)
  )
  initial = functools.partial(
    step_lib.init_state, task, optimizer.tx, seed, settings.ema
  )
  tally = tally_lib.Tally(settings.max_skipped)
  aggressive = parts.Aggressive(settings.encoder_updates)
  with checkpoint.Checkpoints(
    workdir,
    keep=settings.keep,
    keep_period=settings.keep_period,
    best_metric=settings.best_metric,
  ) as checkpoints:
    state = _start(checkpoints, initial, data, tally, aggressive)
    with (
      progress.Writer(workdir, int(state.step)) as writer,
      progress.Display(int(state.step), settings.steps) as display,
      interrupt.Interrupt() as stop,
    ):
      trainer = _Trainer(
        task=task,
        data=data,
        evaluate=evaluate,
        settings=settings,
        optimizer=optimizer,
        reset_at=reset_at,
        aggressive=aggressive,
        checkpoints=checkpoints,
        writer=writer,
        display=display,
        state=state,
        tally=tally,
      )
      trainer.train(stop)
  return trainer.state


def _start(
  checkpoints, initial, data, tally, aggressive
) -> step_lib.TrainState:
  """The last checkpoint's state, or the initial one."""
  if not checkpoints.steps():
    return initial()
  # Shapes are enough: the initial parameters need not exist.
  state, loop = checkpoints.restore(jax.eval_shape(initial))
  data.set_state(loop['data'])
  tally.set_state(loop['tally'])
  aggressive.set_state(loop['aggressive'])
  logging.info('going on from the checkpoint of step %d', state.step)
  return state


class _Trainer:
  """A run in progress: the step count on the host and what hangs on it."""

  def __init__(
    self,
    *,
    task: step_lib.Task,
    data: Data,
    evaluate: Evaluate,
    settings: TrainingSettings,
    optimizer: optimizer_lib.Optimizer,
    reset_at: int,
    aggressive: parts.Aggressive,
    checkpoints: checkpoint.Checkpoints,
    writer: progress.Writer,
    display: progress.Display,
    state: step_lib.TrainState,
    tally: tally_lib.Tally,
  ):
    self._data = data
    self._evaluate = evaluate
    self._settings = settings
    self._optimizer = optimizer
    self._checkpoints = checkpoints
    self._writer = writer
    self._display = display
    self._tally = tally
    self._aggressive = aggressive
    self._devices = parallel.make(settings.parallel)

    self._reset_at = reset_at
    self._reset = jax.jit(
      functools.partial(parts.reset, task=task, optimizer=optimizer)
    )

    def step(moving):
      one = functools.partial(
        step_lib.train_step,
        loss_fn=task.loss,
        next_carry=task.next_carry,
        tx=optimizer.tx,
        trainable=optimizer.trainable,
        moving=moving,
        axis_name=self._devices.axis_name,
        accumulate=settings.accumulate,
        ema=settings.ema,
      )
      return self._devices.compile(one)

    self._train_step = step(optimizer.trainable)
    self._encoder_step = self._train_step
    if aggressive.on:
      self._encoder_step = step(
        parts.of(task.part, optimizer.trainable, 'encoder')
      )
    self._step = int(state.step)
    self.state = self._devices.place(state)
    self._compiled: set[tuple] = set()
    self._running: collections.deque = collections.deque()
    self._clock = progress.Clock()
    # Simulated devices deadlock when two steps are under way on few cores.
    simulated = jax.default_backend() == 'cpu' and self._devices.count > 1
    self._ahead = 1 if simulated else 2

  def train(self, stop: interrupt.Interrupt) -> None:
    settings = self._settings
    saved = self._step
    while self._step < settings.steps and not stop.requested:
      self._advance()
      if self._due(settings.log_every):
        self._report()
      figures: Mapping[str, float] = {}
      if self._due(settings.evaluate_every):
        figures = self._evaluated()
      if self._due(settings.checkpoint_every):
        self._save(figures)
        saved = self._step
    if saved < self._step:
      self._save({})
    if self._step < settings.steps:
      logging.warning(
        'stopped at step %d of %d, checkpoint written: start the same command '
        'again to go on',
        self._step,
        settings.steps,
      )

  def _due(self, every: int) -> bool:
    if self._step == self._settings.steps:
      return True
    return every > 0 and self._step % every == 0

  def _advance(self) -> None:
    # While the device works on the steps before.
    try:
      batch = next(self._data)
    except StopIteration as error:
      raise errors.UserError(
        f'the training data ended after {self._step} of '
        f'{self._settings.steps} steps: repeat it without end'
      ) from error
    if 0 < self._step == self._reset_at:
      # A checkpoint of this step is from before it.
      logging.info('the decoder begins anew at step %d', self._step)
      self.state = self._devices.place(self._reset(self.state))
    shapes = tuple(x.shape for x in jax.tree.leaves(batch))
    alone = self._aggressive.encoder_alone(self._step)
    first = (alone, shapes) not in self._compiled
    if first:
      self._compiled.add((alone, shapes))
      parallel.check_batch(
        shapes[0][0], self._devices.count, self._settings.accumulate
      )
      logging.info('compiling the training step for batch %s', shapes)
      self._clock.pause()
    while len(self._running) >= self._ahead:
      jax.block_until_ready(self._running.popleft())
    begin = time.perf_counter()
    step = self._encoder_step if alone else self._train_step
    self.state, metrics = step(self.state, self._devices.shard(batch))
    self._running.append(metrics)
    self._tally.add(metrics)
    self._step += 1
    self._display.advance(self._step)
    if first:
      jax.block_until_ready(metrics)
      seconds = time.perf_counter() - begin
      logging.info('compiled and took the first step in %.1f s', seconds)
      self._clock.start()
    else:
      self._clock.count(float(np.sum(batch.weights)))

  def _report(self) -> None:
    self._tally.read()
    figures = self._tally.take()
    speed, step_seconds = self._clock.lap()
    left = (self._settings.steps - self._step) * step_seconds
    figures['learning_rate'] = float(
      self._optimizer.learning_rate(self._step - 1)
    )
    self._display.show(
      progress.line(self._step, self._settings.steps, figures, speed, left)
    )
    figures['tokens_per_second'] = speed
    self._writer.write(
      self._step, {f'train/{name}': v for name, v in figures.items()}
    )
    self._clock.start()

  def _evaluated(self) -> Mapping[str, float]:
    self._clock.pause()
    average = self.state.ema
    params = self.state.params if average is None else average
    figures = self._evaluate(self._devices.gather(params))
    best = self._settings.best_metric
    if best and best not in figures:
      raise errors.UserError(
        f'training.best_metric {best!r} is not a figure of the evaluation; '
        f'there are {", ".join(figures)}'
      )
    self._aggressive.note(figures)
    self._writer.write(
      self._step, {f'evaluate/{name}': v for name, v in figures.items()}
    )
    logging.info(
      'step %d evaluation: %s',
      self._step,
      '  '.join(f'{name} {v:.4g}' for name, v in figures.items()),
    )
    self._clock.start()
    return figures

  def _save(self, figures: Mapping[str, float]) -> None:
    self._tally.read()
    self._clock.pause()
    # Lines first: a checkpoint promises that those up to it are there.
    self._writer.flush()
    loop = {
      'data': self._data.get_state(),
      'tally': self._tally.get_state(),
      'aggressive': self._aggressive.get_state(),
    }
    self._checkpoints.save(self._devices.gather(self.state), loop, figures)
    self._clock.start()
