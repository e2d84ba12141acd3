"""Numbers that change over training, as pure functions of the step."""

from collections.abc import Callable
import dataclasses
import math
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lvdecode import errors

# A float, or an array where one compiled step serves many values of it.
Number = float | jax.Array

_UNITS = {'step': 'steps', 'epoch': 'epochs'}
_DURATION = re.compile(r'(\d+(?:\.\d+)?) ?(steps?|epochs?|%)')


class Duration(NamedTuple):
  """How long something takes, in 'steps', 'epochs' or '%' of the run."""

  amount: float
  unit: str

  def steps(self, total_steps: int, epoch_steps: int) -> int:
    """Rounded to whole steps, at least one.

    Args:
      total_steps: of the run.
      epoch_steps: batches an epoch.
    """
    of = {'steps': 1, 'epochs': epoch_steps, '%': total_steps / 100}[self.unit]
    return max(1, round(self.amount * of))


def parse_duration(key: str, text: str) -> Duration:
  """'2500 steps', '3 epochs' or '60 %'; `key` is named in the error."""
  found = _DURATION.fullmatch(text.strip())
  if found is None or not float(found[1]):
    raise errors.UserError(
      f'{key} = {text!r}: write a number above 0 and its unit, as in '
      "'2500 steps', '3 epochs' or '60 %'"
    )
  duration = Duration(float(found[1]), _UNITS.get(found[2], found[2]))
  if duration.unit == 'steps' and not duration.amount.is_integer():
    raise errors.UserError(f'{key} = {text!r}: steps are whole numbers')
  return duration


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleSettings:
  """How a number goes from `start` to `end`.

  'linear', 'sigmoid' and 'cosine' rise once. The others consist of cycles: flat
  at `start`, rising in one of those shapes, flat at `end`.

  Attributes:
    kind: 'constant'; 'linear'; 'sigmoid'; 'cosine'; 'cyclical' (Fu et al.
      2019: no flat start); 'zero_then_ramp' (OPTIMUS, Li et al. 2020: one
      cycle, half at `start`, a quarter rising, a quarter at `end`);
      'ramp_hold_reset' (TransformerCVAE, Fang et al. 2021: in its code a cycle
      of 101,640 steps waits for 26,640, rises for 50,000, then holds).
    start: value at step 0 (not used by 'constant').
    end: value from the end of the duration on.
    duration: of the change, of all cycles together: '2500 steps', '3 epochs'
      or '60 %' of the run. Not used by 'constant'.
    shape: of a cycle's rise, 'linear', 'sigmoid' or 'cosine'.
    cycles: number of cycles ('cyclical', 'ramp_hold_reset').
    wait: the part of a cycle at `start` before the rise ('ramp_hold_reset').
    ratio: the part of a cycle that rises ('cyclical', 'ramp_hold_reset').
  """

  kind: str
  start: Number
  end: Number
  duration: str
  shape: str
  cycles: int
  wait: float
  ratio: float

  def __post_init__(self):
    for key, value, known in (
      ('kind', self.kind, KINDS),
      ('shape', self.shape, tuple(SHAPES)),
    ):
      errors.one_of(f'schedule.{key}', value, known)
    parse_duration('schedule.duration', self.duration)
    errors.at_least('schedule.start', self.start, 0.0)
    errors.at_least('schedule.end', self.end, 0.0)
    if self.kind in ('cyclical', 'ramp_hold_reset'):
      errors.at_least('schedule.cycles', self.cycles, 1)
      if not 0 < self.ratio <= 1:
        raise errors.UserError(
          f'schedule.ratio = {self.ratio}: it must be in (0, 1]'
        )
    if self.kind == 'ramp_hold_reset':
      errors.at_least('schedule.wait', self.wait, 0.0)
      if self.wait + self.ratio > 1:
        raise errors.UserError(
          f'schedule.wait = {self.wait}, schedule.ratio = {self.ratio}: '
          'together they are more than a cycle'
        )


def _linear(done):
  return done


def _sigmoid(done):
  """The logistic function from -6 to 6, stretched to end at 0 and 1."""
  return 0.5 + 0.5 * jnp.tanh(6 * (done - 0.5)) / math.tanh(3)


def _cosine(done):
  return 0.5 - 0.5 * jnp.cos(jnp.pi * done)


# The part of a rise's time that is over -> the part of the change that is done.
SHAPES: dict[str, Callable] = {
  'linear': _linear,
  'sigmoid': _sigmoid,
  'cosine': _cosine,
}
KINDS = ('constant', *SHAPES, 'cyclical', 'zero_then_ramp', 'ramp_hold_reset')


class _Cycles(NamedTuple):
  number: int
  wait: float
  ratio: float
  shape: str


def _cycles(settings: ScheduleSettings) -> _Cycles:
  """Every kind but 'constant' as a number of equal cycles."""
  if settings.kind == 'cyclical':
    return _Cycles(settings.cycles, 0.0, settings.ratio, settings.shape)
  if settings.kind == 'zero_then_ramp':
    return _Cycles(1, 0.5, 0.25, settings.shape)
  if settings.kind == 'ramp_hold_reset':
    return _Cycles(
      settings.cycles, settings.wait, settings.ratio, settings.shape
    )
  return _Cycles(1, 0.0, 1.0, settings.kind)


def resolve(
  key: str, settings: ScheduleSettings, total_steps: int, epoch_steps: int
) -> ScheduleSettings:
  """The same with its duration in steps, which is what `value` needs.

  Args:
    key: the section's, named in the error.
    settings: of the schedule.
    total_steps: of the run.
    epoch_steps: batches an epoch.

  Raises:
    UserError: the schedule would not end within the run.
  """
  duration = parse_duration(f'{key}.duration', settings.duration)
  steps = duration.steps(total_steps, epoch_steps)
  if settings.kind != 'constant' and steps > total_steps:
    raise errors.UserError(
      f'{key}.duration = {settings.duration!r} is {steps} steps, '
      f'training.steps = {total_steps}: the schedule would not end within the '
      'run'
    )
  return dataclasses.replace(settings, duration=f'{steps} steps')


def value(
  settings: ScheduleSettings, step: Int[Array, ''] | int
) -> Float[Array, '']:
  """The number at `step`; traceable, so usable inside a compiled step.

  `start` and `end` may be traced as well; the duration is one in steps.
  """
  end = jnp.asarray(settings.end, jnp.float32)
  if settings.kind == 'constant':
    return end
  duration = parse_duration('schedule.duration', settings.duration)
  if duration.unit != 'steps':
    raise ValueError(f'{settings.duration!r} was not resolved to steps')
  steps = int(duration.amount)
  number, wait, ratio, shape = _cycles(settings)
  step = jnp.clip(jnp.asarray(step), 0, steps)
  # In integers, so that a cycle starts exactly where it should.
  tau = (step * number) % steps / steps
  # Fu et al. 2019, equations 6 and 7, after the wait.
  done = SHAPES[shape](jnp.clip((tau - wait) / ratio, 0.0, 1.0))
  between = settings.start + (end - settings.start) * done
  # At the end of a rise exactly `end`, whatever the rounding of the difference.
  at_end = (step == steps) | (done == 1.0)
  return jnp.where(at_end, end, between).astype(jnp.float32)
