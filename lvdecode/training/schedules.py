"""Numbers that change over training, as pure functions of the step."""

from collections.abc import Callable
import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lvdecode import errors


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleSettings:
  """How a number goes from `start` to `end`.

  Attributes:
    kind: one of `KINDS`.
    start: value at step 0 (not used by 'constant').
    end: value from step `steps` on.
    steps: length of the change; with 'cyclical', of all cycles together.
    cycles: number of cycles ('cyclical' only).
    ratio: the part of a cycle that rises, in (0, 1] ('cyclical' only).
  """

  kind: str
  start: float
  end: float
  steps: int
  cycles: int
  ratio: float

  def __post_init__(self):
    if self.kind not in KINDS:
      raise errors.UserError(
        f'schedule.kind {self.kind!r} is not one of {", ".join(KINDS)}'
      )
    if self.kind != 'constant' and self.steps < 1:
      raise errors.UserError(
        f'schedule.steps {self.steps} must be at least 1 for {self.kind!r}'
      )
    if self.kind == 'cyclical' and self.cycles < 1:
      raise errors.UserError(f'schedule.cycles {self.cycles} must be >= 1')
    if self.kind == 'cyclical' and not 0 < self.ratio <= 1:
      raise errors.UserError(f'schedule.ratio {self.ratio} is not in (0, 1]')


def _constant(settings: ScheduleSettings, step):
  """The whole change at once."""
  del settings
  return jnp.ones_like(step, dtype=jnp.float32)


def _linear(settings: ScheduleSettings, step):
  return step / settings.steps


def _cyclical(settings: ScheduleSettings, step):
  """Fu et al. 2019, equations 6 and 7: beta = min(tau / R, 1) per cycle."""
  # In integers, so that a cycle starts exactly where it should.
  tau = (step * settings.cycles) % settings.steps / settings.steps
  return jnp.where(step == settings.steps, 1.0, tau / settings.ratio)


# A kind maps a step in [0, steps] to the part of the change that is done;
# above 1 counts as 1.
KINDS: dict[str, Callable] = {
  'constant': _constant,
  'linear': _linear,
  'cyclical': _cyclical,
}


def value(
  settings: ScheduleSettings, step: Int[Array, ''] | int
) -> Float[Array, '']:
  """The number at `step`; traceable, so usable inside a compiled step."""
  step = jnp.clip(jnp.asarray(step), 0, max(settings.steps, 0))
  done = jnp.minimum(KINDS[settings.kind](settings, step), 1.0)
  # At the end exactly `end`, whatever the rounding of the difference.
  between = settings.start + (settings.end - settings.start) * done
  return jnp.where(done == 1.0, settings.end, between).astype(jnp.float32)
