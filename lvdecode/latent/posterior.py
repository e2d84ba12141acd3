"""Encoder states to q(z | y): a pooling over positions and two maps."""

import dataclasses
import math
from typing import NamedTuple

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lvdecode import errors
from lvdecode.latent import gaussian
from lvdecode.nn import attention

POOLINGS = ('attention', 'mean', 'first')
# |logvar| stays below this, so that no variance overflows or vanishes.
LOGVAR_LIMIT = 10.0
# Below the prior's 0: the first latents tell texts apart through their noise,
# so that the decoder has a reason to listen while the KL weighs little.
INITIAL_LOGVAR = -2.0
# So small that even a variance of 1e-9 is brought to gamma^2: the bound on the
# KL is no better than that.
_EPSILON = 1e-12


@dataclasses.dataclass(frozen=True, kw_only=True)
class PosteriorSettings:
  """What q(z | y) cannot help but say of y.

  Attributes:
    batch_norm: gamma, the standard deviation over texts that every mean is
      brought to (BN-VAE, Zhu et al. 2020); 0: off.
    batch_norm_decay: of the running statistics that take the place of the
      batch's at evaluation.
    min_rate: delta, nats per sequence that the KL of every text exceeds
      (delta-VAE, Razavi et al. 2019); 0: off.
  """

  batch_norm: float
  batch_norm_decay: float
  min_rate: float

  def __post_init__(self):
    errors.at_least('model.posterior.batch_norm', self.batch_norm, 0.0)
    errors.between(
      'model.posterior.batch_norm_decay', self.batch_norm_decay, 0.0, 1.0
    )
    errors.at_least('model.posterior.min_rate', self.min_rate, 0.0)


class Group(NamedTuple):
  """The batch whose statistics normalise the means while training.

  Attributes:
    real: [B], 1 for the examples that count, 0 for fillers.
    step: of the run, which weighs the running statistics' first values.
    axis_name: the mapped axis of devices that share the batch, or None.
  """

  real: Float[Array, ' B']
  step: jax.Array | int
  axis_name: str | None


class Posterior(nn.Module):
  """q(z | y) = N(mean, diag exp(logvar)) from pooled states.

  pooling: 'attention' (one learned query a head over the real positions),
  'mean' (over the real positions) or 'first' (the state of BOS, or of a
  condition's first token).

  With a group the means are normalised by it, and what the leaves `running_*`
  become is sown in the collection 'running'; without, by these leaves.
  """

  settings: PosteriorSettings
  size: int
  pooling: str
  heads: int

  @nn.compact
  def __call__(
    self,
    states: Float[Array, 'B T D'],
    visible: Bool[Array, 'B T'],
    group: Group | None = None,
  ) -> gaussian.Gaussian:
    settings = self.settings
    states = states.astype(jnp.float32)
    pooled = pool(states, visible, self.pooling, self.heads)
    # Normalised, a bias of the map would cancel.
    mean = nn.Dense(self.size, not settings.batch_norm, name='mean')(pooled)
    if settings.batch_norm:
      bias = self.param('norm_bias', nn.initializers.zeros, (self.size,))
      center, variance = self._statistics(mean, group)
      mean = normalized(mean, center, variance, settings.batch_norm)
      mean = mean + bias[None, :]
    raw = nn.Dense(
      self.size,
      kernel_init=nn.initializers.normal(attention.INIT_STD),
      bias_init=nn.initializers.constant(INITIAL_LOGVAR),
      name='logvar',
    )(pooled)
    logvar = bounded(raw)
    if settings.min_rate:
      logvar = below(logvar, max_logvar(settings.min_rate / self.size))
    return gaussian.Gaussian(mean, logvar)

  def _statistics(self, mean, group):
    """Mean and variance [Z] over texts: the group's, or the running ones."""
    running = (
      self.param('running_mean', nn.initializers.zeros, (self.size,)),
      self.param('running_variance', nn.initializers.ones, (self.size,)),
    )
    if group is None:
      return running
    batch = moments(mean, group.real, group.axis_name)
    # At first the average of all steps, so that no trace of the start stays.
    rate = jnp.maximum(
      1.0 - self.settings.batch_norm_decay, 1.0 / (group.step + 1)
    )
    for name, old, new in zip(
      ('mean', 'variance'), running, batch, strict=True
    ):
      moved = old + rate * (lax.stop_gradient(new) - old)
      self.sow('running', f'running_{name}', moved, reduce_fn=_replace)
    return batch


def pool(
  states: Float[Array, 'B T D'],
  visible: Bool[Array, 'B T'],
  pooling: str,
  heads: int,
) -> Float[Array, 'B D']:
  """One state a text. Called in a compact method, whose `query` it may make."""
  if pooling == 'first':
    return states[:, 0]
  if pooling == 'mean':
    shares = visible / jnp.sum(visible, axis=1, keepdims=True)
    return jnp.einsum('bt,btd->bd', shares, states)
  init = nn.initializers.normal(attention.INIT_STD)
  scores = nn.Dense(heads, use_bias=False, kernel_init=init, name='query')(
    states
  )
  scores = jnp.where(visible[:, :, None], scores, -jnp.inf)
  shares = jax.nn.softmax(scores, axis=1)
  by_head = states.reshape(*states.shape[:2], heads, -1)
  pooled = jnp.einsum('bth,bthk->bhk', shares, by_head)
  return pooled.reshape(states.shape[0], -1)


def bounded(raw: Float[Array, 'B Z']) -> Float[Array, 'B Z']:
  """A log variance within ± LOGVAR_LIMIT, and near 0 as it is."""
  return LOGVAR_LIMIT * jnp.tanh(raw / LOGVAR_LIMIT)


def moments(
  values: Float[Array, 'B Z'], real: Float[Array, ' B'], axis_name: str | None
) -> tuple[Float[Array, ' Z'], Float[Array, ' Z']]:
  """Mean and (biased) variance over the real examples of all devices."""

  def over_devices(total):
    return total if axis_name is None else lax.psum(total, axis_name)

  count = jnp.maximum(over_devices(jnp.sum(real)), 1.0)
  center = over_devices(real @ values) / count
  # Not E[x^2] - E[x]^2, which cancels where the variance is small.
  squares = (values - center[None, :]) ** 2
  return center, over_devices(real @ squares) / count


def normalized(
  mean: Float[Array, 'B Z'],
  center: Float[Array, ' Z'],
  variance: Float[Array, ' Z'],
  gamma: float,
) -> Float[Array, 'B Z']:
  """gamma (mean - E[mean]) / sqrt(Var[mean]) (Zhu et al. 2020, BN-VAE).

  Over texts the result has variance gamma^2 in every dimension, gamma fixed,
  so that with any learned bias the mean of the KL is at least Z gamma^2 / 2.
  """
  scale = gamma * lax.rsqrt(variance + _EPSILON)
  return (mean - center[None, :]) * scale[None, :]


def max_logvar(rate: float) -> float:
  """The ln s^2 < 0 with -ln s - 1/2 + s^2/2 = rate, in nats a dimension.

  No mean makes the KL to N(0, 1) of a Gaussian narrower than s smaller than
  the rate (Razavi et al. 2019, the delta of independent Gaussians).
  """
  low, high = -2.0 * rate - 1.0, 0.0
  for _ in range(100):
    middle = (low + high) / 2
    if (math.exp(middle) - middle - 1.0) / 2 >= rate:
      low = middle
    else:
      high = middle
  return low


def below(logvar: Float[Array, 'B Z'], most: float) -> Float[Array, 'B Z']:
  """A smooth minimum of both: never above `most`, and far below it as is."""
  return most - jax.nn.softplus(most - logvar)


def _replace(old, new):
  del old
  return new
