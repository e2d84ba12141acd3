"""Encoder states to q(z | y): a pooling over positions and two maps."""

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lvdecode.latent import gaussian
from lvdecode.nn import attention

POOLINGS = ('attention', 'mean', 'first')
# |logvar| stays below this, so that no variance overflows or vanishes.
LOGVAR_LIMIT = 10.0
# Below the prior's 0: the first latents tell texts apart through their noise,
# so that the decoder has a reason to listen while the KL weighs little.
INITIAL_LOGVAR = -2.0


class Posterior(nn.Module):
  """q(z | y) = N(mean, diag exp(logvar)) from pooled states.

  pooling: 'attention' (one learned query a head over the real positions),
  'mean' (over the real positions) or 'first' (the state of BOS).
  """

  size: int
  pooling: str
  heads: int

  @nn.compact
  def __call__(
    self, states: Float[Array, 'B T D'], visible: Bool[Array, 'B T']
  ) -> gaussian.Gaussian:
    pooled = self._pool(states.astype(jnp.float32), visible)
    mean = nn.Dense(self.size, name='mean')(pooled)
    raw = nn.Dense(
      self.size,
      kernel_init=nn.initializers.normal(attention.INIT_STD),
      bias_init=nn.initializers.constant(INITIAL_LOGVAR),
      name='logvar',
    )(pooled)
    logvar = LOGVAR_LIMIT * jnp.tanh(raw / LOGVAR_LIMIT)
    return gaussian.Gaussian(mean, logvar)

  def _pool(self, states, visible):
    if self.pooling == 'first':
      return states[:, 0]
    if self.pooling == 'mean':
      shares = visible / jnp.sum(visible, axis=1, keepdims=True)
      return jnp.einsum('bt,btd->bd', shares, states)
    init = nn.initializers.normal(attention.INIT_STD)
    scores = nn.Dense(
      self.heads, use_bias=False, kernel_init=init, name='query'
    )(states)
    scores = jnp.where(visible[:, :, None], scores, -jnp.inf)
    shares = jax.nn.softmax(scores, axis=1)
    by_head = states.reshape(*states.shape[:2], self.heads, -1)
    pooled = jnp.einsum('bth,bthk->bhk', shares, by_head)
    return pooled.reshape(states.shape[0], -1)
