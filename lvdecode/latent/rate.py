"""A target for the KL in place of a schedule of its weight."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lvdecode import errors
from lvdecode.latent import bounds

KINDS = ('none', 'distance', 'dual', 'pi')
OF_A_BATCH = ('distance',)  # couple its texts


@dataclasses.dataclass(frozen=True, kw_only=True)
class RateSettings:
  """How the KL is held at, or above, a target; beta is the schedule's value.

  Attributes:
    kind: 'none', cost beta KL;
      'distance', beta |mean_b KL - target| (Burgess et al. 2018), the mean over
      the global batch (over the micro-batch where steps accumulate);
      'dual', beta KL + lambda (target - KL) with lambda >= 0, the multiplier
      of KL >= target, by dual ascent (Rezende & Viola 2018; the minimum
      desired rate of Pelsmaeker & Aziz 2020);
      'pi', the output of a controller times KL (ControlVAE, Shao et al. 2020);
      the schedule goes unused.
    target: of the mean KL, in nats per sequence.
    dual_step: 'dual': what lambda gains at a step for each nat that is missing.
    proportional: 'pi': Kp.
    integral: 'pi': Ki, for each nat and step.
    beta_min: 'pi': the least output, and the first.
    beta_max: 'pi': the largest output.
  """

  kind: str
  target: float | jax.Array
  dual_step: float
  proportional: float
  integral: float
  beta_min: float
  beta_max: float

  def __post_init__(self):
    errors.one_of('objective.rate.kind', self.kind, KINDS)
    for key in ('target', 'dual_step', 'proportional', 'integral', 'beta_min'):
      errors.at_least(f'objective.rate.{key}', getattr(self, key), 0.0)
    errors.at_least('objective.rate.beta_max', self.beta_max, self.beta_min)


class Multiplier(NamedTuple):
  """What 'dual' remembers: lambda."""

  value: Float[Array, '']


class Controller(NamedTuple):
  """What 'pi' remembers.

  Attributes:
    beta: the output, which the next step takes.
    integral: -Ki times the sum of the errors, within limits.
  """

  beta: Float[Array, '']
  integral: Float[Array, '']


Memory = Multiplier | Controller | None


class Charge(NamedTuple):
  """What a step pays for the KL.

  Attributes:
    cost: [B], in nats; its mean over real examples is that of `RateSettings`.
    weight: of the KL in the cost's gradient.
  """

  cost: Float[Array, ' B']
  weight: Float[Array, '']


def start(settings: RateSettings) -> Memory:
  """The memory before the first step."""
  if settings.kind == 'dual':
    return Multiplier(jnp.zeros(()))
  if settings.kind == 'pi':
    return Controller(jnp.float32(settings.beta_min), jnp.zeros(()))
  return None


def charge(
  settings: RateSettings,
  memory: Memory,
  beta: Float[Array, ''],
  kl: Float[Array, ' B'],
  real: Float[Array, ' B'],
  axis_name: str | None,
) -> Charge:
  """The cost of each example's KL; real is 1 for the examples that count."""
  if settings.kind == 'distance':
    # As a gate, so that the loss stays a sum of per-example terms.
    mean = bounds.batch_mean(kl, real, axis_name)
    weight = beta * jnp.sign(mean - settings.target)
    return Charge(weight * (kl - settings.target), weight)
  if isinstance(memory, Multiplier):
    missing = settings.target - kl
    return Charge(beta * kl + memory.value * missing, beta - memory.value)
  if isinstance(memory, Controller):
    beta = memory.beta
  return Charge(beta * kl, beta)


def advance(
  settings: RateSettings, memory: Memory, kl: Float[Array, ''] | float
) -> Memory:
  """The memory after a step whose whole batch had this mean KL."""
  error = settings.target - kl
  if isinstance(memory, Multiplier):
    ascended = memory.value + settings.dual_step * error
    return Multiplier(jnp.maximum(ascended, 0.0))
  if isinstance(memory, Controller):
    # beta = Kp / (1 + exp(error)) - Ki sum(error) + beta_min, algorithm 1.
    # Against wind-up the integral itself is kept to what the output can use.
    integral = jnp.clip(
      memory.integral - settings.integral * error,
      -settings.proportional,
      settings.beta_max - settings.beta_min,
    )
    share = settings.proportional * jax.nn.sigmoid(-error)
    beta = share + integral + settings.beta_min
    beta = jnp.clip(beta, settings.beta_min, settings.beta_max)
    return Controller(beta, integral)
  return memory
