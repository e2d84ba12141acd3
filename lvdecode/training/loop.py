"""Training from the first step, or the last checkpoint, to the end."""

from collections.abc import Callable, Generator, Iterator, Mapping
import contextlib
import dataclasses
import functools
import logging
import pathlib
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from lvdecode import errors
from lvdecode.training import checkpoint
from lvdecode.training import drive
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """All that a run is made of.

  Attributes:
    task: the model and its loss.
    data: moved to the checkpoint's position when resuming.
    evaluate: parameters (their running average where there is one) on one
      device -> figures. They are gone after the next step: keep no reference.
    settings: of the run.
    optimizer_settings: of the optimiser.
    seed: of parameters and noise.
    reset_at: the step before which the decoder begins anew; 0 for none.
    workdir: a folder held by `workdir.claim`.
    name: what its lines begin with, among others; '' for a run on its own.
  """

  task: step_lib.Task
  data: Data
  evaluate: Evaluate
  settings: TrainingSettings
  optimizer_settings: optimizer_lib.OptimizerSettings
  seed: int
  reset_at: int
  workdir: pathlib.Path
  name: str


def run(spec: Run) -> step_lib.TrainState:
  """Trains, going on from the last checkpoint in its folder if there is one.

  SIGTERM and the first SIGINT end the run after the step it is in, with a
  checkpoint; the state returned then has a step below `settings.steps`.

  Returns:
    The last state, on the devices.

  Raises:
    UserError: a batch that does not divide over the devices, data that ends, a
      checkpoint that is damaged or of another model, a full disk, or
      `max_skipped` steps without a finite gradient.
  """
  # The signals are given back last: the last write is not to be cut off.
  with interrupt.Interrupt() as stop, opened(spec) as (trainer, state):
    log_parameters(trainer, state)
    steps = drive.Steps(
      spec.task,
      trainer.optimizer,
      accumulate=spec.settings.accumulate,
      ema=spec.settings.ema,
      kind=spec.settings.parallel,
      state=state,
    )
    del state  # the first step gives it away
    requests = trainer.train(stop, steps.read)
    request = drive.next_request(requests, None)
    while request is not None:
      request = drive.next_request(requests, steps.take(request))
    return steps.state


@contextlib.contextmanager
def opened(spec: Run) -> Iterator[tuple['Trainer', step_lib.TrainState]]:
  """A run with its files open, and the state that it begins with."""
  settings = spec.settings
  shapes = jax.eval_shape(spec.task.init, jax.random.key(spec.seed))
  optimizer = optimizer_lib.make(
    spec.optimizer_settings, settings.steps, shapes
  )
  initial = functools.partial(
    step_lib.init_state, spec.task, optimizer.tx, spec.seed, settings.ema
  )
  tally = tally_lib.Tally(settings.max_skipped)
  aggressive = parts.Aggressive(settings.encoder_updates)
  with checkpoint.Checkpoints(
    spec.workdir,
    keep=settings.keep,
    keep_period=settings.keep_period,
    best_metric=settings.best_metric,
  ) as checkpoints:
    state = _start(spec, checkpoints, initial, tally, aggressive)
    step = int(state.step)
    with (
      progress.Writer(spec.workdir, step) as writer,
      progress.Display(step, settings.steps, spec.name) as display,
    ):
      trainer = Trainer(
        spec=spec,
        optimizer=optimizer,
        aggressive=aggressive,
        checkpoints=checkpoints,
        writer=writer,
        display=display,
        tally=tally,
        step=step,
      )
      yield trainer, state


def log_parameters(trainer: 'Trainer', state: step_lib.TrainState) -> None:
  """Logs what is trained."""
  table = progress.parameter_table(state.params, trainer.optimizer.trainable)
  logging.info('parameters:\n%s', table)


def _start(
  spec, checkpoints, initial, tally, aggressive
) -> step_lib.TrainState:
  """The last checkpoint's state, or the initial one."""
  if not checkpoints.steps():
    return initial()
  # Shapes are enough: the initial parameters need not exist.
  state, loop = checkpoints.restore(jax.eval_shape(initial))
  spec.data.set_state(loop['data'])
  tally.set_state(loop['tally'])
  aggressive.set_state(loop['aggressive'])
  logging.info(
    '%sgoing on from the checkpoint of step %d', _prefix(spec), state.step
  )
  return state


def _prefix(spec: Run) -> str:
  return f'{spec.name}: ' if spec.name else ''


class Trainer:
  """A run in progress: the step count on the host and what hangs on it.

  It has no state and takes no step: whoever drives it does.
  """

  def __init__(
    self,
    *,
    spec: Run,
    optimizer: optimizer_lib.Optimizer,
    aggressive: parts.Aggressive,
    checkpoints: checkpoint.Checkpoints,
    writer: progress.Writer,
    display: progress.Display,
    tally: tally_lib.Tally,
    step: int,
  ):
    self.optimizer = optimizer
    self._spec = spec
    self._settings = spec.settings
    self._checkpoints = checkpoints
    self._writer = writer
    self._display = display
    self._tally = tally
    self._aggressive = aggressive
    self._step = step
    self._stage = ''
    self._seen: set[tuple] = set()
    self._clock = progress.Clock()

  def train(
    self,
    stop: interrupt.Interrupt,
    read: Callable[[], step_lib.TrainState],
  ) -> Generator[drive.Request, step_lib.Metrics, None]:
    """Trains to the end, or until `stop`: yields steps, is sent metrics.

    `read` gives the state after the last one on one device; as with
    `Evaluate`, it is gone after the next.
    """
    settings = self._settings
    saved = self._step
    while self._step < settings.steps and not stop.requested:
      yield from self._advance()
      if self._due(settings.log_every):
        self._report()
      figures: Mapping[str, float] = {}
      if self._due(settings.evaluate_every):
        figures = self._evaluated(read())
      if self._due(settings.checkpoint_every):
        self._save(read(), figures)
        saved = self._step
    if saved < self._step:
      self._save(read(), {})
    if self._step < settings.steps:
      logging.warning(
        '%sstopped at step %d of %d, checkpoint written: start the same '
        'command again to go on',
        _prefix(self._spec),
        self._step,
        settings.steps,
      )

  def _due(self, every: int) -> bool:
    if self._step == self._settings.steps:
      return True
    return every > 0 and self._step % every == 0

  def _advance(self) -> Generator[drive.Request, step_lib.Metrics, None]:
    # While the device works on the steps before.
    try:
      batch = next(self._spec.data)
    except StopIteration as error:
      raise errors.UserError(
        f'the training data ended after {self._step} of '
        f'{self._settings.steps} steps: repeat it without end'
      ) from error
    anew = 0 < self._step == self._spec.reset_at
    if anew:
      # A checkpoint of this step is from before it.
      logging.info('the decoder begins anew at step %d', self._step)
    moving = self._moving()
    program = (moving, drive.batch_shapes(batch))
    first = program not in self._seen
    if first:  # its time is the compiler's
      self._seen.add(program)
      self._clock.pause()
    metrics = yield drive.Request(self._step, batch, moving, anew)
    self._tally.add(metrics)
    self._step += 1
    self._display.advance(self._step)
    if first:
      self._clock.start()
    else:
      self._clock.count(float(np.sum(batch.weights)))

  def _moving(self) -> str:
    """What moves in the next step."""
    if self._aggressive.encoder_alone(self._step):
      return drive.ENCODER
    stage = self.optimizer.stage_at(self._step)
    if self._stage != stage.name and len(self.optimizer.stages) > 1:
      logging.info('%s%s', _prefix(self._spec), stage.line())
    self._stage = stage.name
    return stage.name

  def _report(self) -> None:
    self._tally.read()
    figures = self._tally.take()
    speed, step_seconds = self._clock.lap()
    left = (self._settings.steps - self._step) * step_seconds
    figures['learning_rate'] = float(
      self.optimizer.learning_rate(self._step - 1)
    )
    self._display.show(
      progress.line(self._step, self._settings.steps, figures, speed, left)
    )
    figures['tokens_per_second'] = speed
    self._writer.write(
      self._step, {f'train/{name}': v for name, v in figures.items()}
    )
    self._clock.start()

  def _evaluated(self, state: step_lib.TrainState) -> Mapping[str, float]:
    self._clock.pause()
    params = state.params if state.ema is None else state.ema
    figures = self._spec.evaluate(params)
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
      '%sstep %d evaluation: %s',
      _prefix(self._spec),
      self._step,
      '  '.join(f'{name} {v:.4g}' for name, v in figures.items()),
    )
    self._clock.start()
    return figures

  def _save(
    self, state: step_lib.TrainState, figures: Mapping[str, float]
  ) -> None:
    self._tally.read()
    self._clock.pause()
    # Lines first: a checkpoint promises that those up to it are there.
    self._writer.flush()
    loop = {
      'data': self._spec.data.get_state(),
      'tally': self._tally.get_state(),
      'aggressive': self._aggressive.get_state(),
    }
    self._checkpoints.save(state, loop, figures)
    self._clock.start()
