"""A run in progress: what happens between its steps."""

from collections.abc import Callable, Generator, Mapping
import logging

import numpy as np

from lvdecode import errors
from lvdecode.training import checkpoint
from lvdecode.training import drive
from lvdecode.training import hosts
from lvdecode.training import interrupt
from lvdecode.training import optimizer as optimizer_lib
from lvdecode.training import parts
from lvdecode.training import progress
from lvdecode.training import spec as spec_lib
from lvdecode.training import step as step_lib
from lvdecode.training import tally as tally_lib


class Trainer:
  """A run in progress: the step count on the host and what hangs on it.

  It has no state and takes no step: whoever drives it does.
  """

  def __init__(
    self,
    *,
    spec: spec_lib.Run,
    optimizer: optimizer_lib.Optimizer,
    aggressive: parts.Aggressive,
    checkpoints: checkpoint.Checkpoints,
    writer: progress.Writer | progress.Silent,
    display: progress.Display | progress.Silent,
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
    whole: Callable[[step_lib.Params], step_lib.Params],
  ) -> Generator[drive.Request, step_lib.Metrics, None]:
    """Trains to the end, or until `stop`: yields steps, is sent metrics.

    `read` gives the state after the last one, and `whole` its parameters on
    one device; as with `Evaluate`, they are gone after the next.
    """
    settings = self._settings
    saved = self._step
    if self._step == 0 and self._spec.begin is not None:
      self._evaluated(read(), whole)
    while self._step < settings.steps and not stop.before(self._step):
      yield from self._advance()
      if self._due(settings.log_every):
        self._report()
      figures: Mapping[str, float] = {}
      if self._due(settings.evaluate_every):
        figures = self._evaluated(read(), whole)
      if self._due(settings.checkpoint_every):
        self._save(read(), figures)
        saved = self._step
    if saved < self._step:
      self._save(read(), {})
    if self._step < settings.steps:
      logging.warning(
        '%sstopped at step %d of %d%s: start the same command again to go on',
        self._spec.prefix,
        self._step,
        settings.steps,
        ', checkpoint written' if self._step else '',
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
      # Of all processes, as if each had as many.
      self._clock.count(float(np.sum(batch.weights)) * hosts.count())

  def _moving(self) -> str:
    """What moves in the next step."""
    if self._aggressive.encoder_alone(self._step):
      return drive.ENCODER
    stage = self.optimizer.stage_at(self._step)
    if self._stage != stage.name and len(self.optimizer.stages) > 1:
      logging.info('%s%s', self._spec.prefix, stage.line())
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

  def _evaluated(
    self,
    state: step_lib.TrainState,
    whole: Callable[[step_lib.Params], step_lib.Params],
  ) -> Mapping[str, float]:
    self._clock.pause()
    params = whole(state.params if state.ema is None else state.ema)
    # What one process finds holds for all: they decide by it.
    figures = hosts.everyone(dict(self._spec.evaluate(params)))[0]
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
      self._spec.prefix,
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
