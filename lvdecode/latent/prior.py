"""p(z): N(0, I), or a diagonal Gaussian that is learned from the condition."""

import dataclasses

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lvdecode import errors
from lvdecode.latent import gaussian
from lvdecode.latent import posterior
from lvdecode.nn import attention

KINDS = ('standard', 'learned')


@dataclasses.dataclass(frozen=True, kw_only=True)
class PriorSettings:
  """Where z comes from when there is no text yet.

  Attributes:
    kind: 'standard', N(0, I); or 'learned', p(z | x) of the condition x (Sohn
      et al. 2015, the conditional prior network).
    share: whether x is read by the posterior's encoder, or by one of its own.
  """

  kind: str
  share: bool

  def __post_init__(self):
    errors.one_of('model.prior.kind', self.kind, KINDS)


class Prior(nn.Module):
  """p(z | x) = N(mean, diag exp(logvar)) from the states of x.

  Pooled and bounded as the posterior is; it begins near N(0, I).
  """

  size: int
  pooling: str
  heads: int

  @nn.compact
  def __call__(
    self, states: Float[Array, 'B S D'], visible: Bool[Array, 'B S']
  ) -> gaussian.Gaussian:
    states = states.astype(jnp.float32)
    pooled = posterior.pool(states, visible, self.pooling, self.heads)
    init = nn.initializers.normal(attention.INIT_STD)
    mean = nn.Dense(self.size, kernel_init=init, name='mean')(pooled)
    raw = nn.Dense(self.size, kernel_init=init, name='logvar')(pooled)
    return gaussian.Gaussian(mean, posterior.bounded(raw))
