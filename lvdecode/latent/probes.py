"""What the latents of a whole split say: information and active units."""

import functools
import math

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Float
import numpy as np

from lvdecode.latent import gaussian

ACTIVE_VARIANCE = 0.01  # Burda et al. 2016, section 5.2


def active_units(mean: Float[np.ndarray, 'N Z']) -> int:
  """Latent dimensions with Var_y(E[z_d | y]) > 0.01 (Burda et al. 2016)."""
  return int(np.sum(np.var(mean, axis=0) > ACTIVE_VARIANCE))


def mutual_information(
  q: gaussian.Gaussian, z: Float[np.ndarray, 'N Z']
) -> float:
  """I_q(y; z) in nats: mean of log q(z_n | y_n) - log 1/N sum_m q(z_n | y_m).

  One sample z_n ~ q(z | y_n) a text (Hoffman & Johnson 2016; He et al. 2019).
  The estimate cannot exceed ln N, whatever the truth: report ln N beside it.
  """
  if not z.shape[1]:
    return 0.0
  log_ratio = _log_ratio(q, jnp.asarray(z))
  return float(jnp.mean(log_ratio))


@functools.partial(jax.jit, static_argnames='batch_size')
def _log_ratio(q, z, batch_size=64):
  """log q(z_n | y_n) - log q(z_n), memory N times the batch size times Z."""
  count = z.shape[0]

  def one(n):
    log_density = jax.vmap(
      lambda mean, logvar: gaussian.Gaussian(mean, logvar).log_prob(z[n])
    )(q.mean, q.logvar)
    marginal = jax.nn.logsumexp(log_density) - math.log(count)
    return log_density[n] - marginal

  return lax.map(one, jnp.arange(count), batch_size=batch_size)
