"""What the latents of a whole split say: information and active units."""

import functools
import math
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from lvdecode.latent import gaussian

ACTIVE_VARIANCE = 0.01  # Burda et al. 2016, section 5.2
_BLOCK = 2**21  # numbers of a pairwise block; caches hold little more


def active_units(mean: Float[np.ndarray, 'N Z']) -> int:
  """Latent dimensions with Var_y(E[z_d | y]) > 0.01 (Burda et al. 2016)."""
  return int(np.sum(np.var(mean, axis=0) > ACTIVE_VARIANCE))


class Densities(NamedTuple):
  """Log densities at z_n ~ q(z | y_n), one value a text, in nats.

  q(z) is the aggregated posterior 1/N sum_m q(z | y_m) of these N texts.

  Attributes:
    own: [N], log q(z_n | y_n).
    joint: [N], log q(z_n).
    others: [N], log 1/(N-1) sum_{m != n} q(z_n | y_m), of the other texts; -inf
      where there is no other.
    factors: [N], sum_d log q(z_nd), of its marginals.
  """

  own: Float[Array, ' N']
  joint: Float[Array, ' N']
  others: Float[Array, ' N']
  factors: Float[Array, ' N']


def densities(q: gaussian.Gaussian, z: Float[np.ndarray, 'N Z']) -> Densities:
  """Of every text, over all pairs of texts: time N^2 Z, memory N Z.

  mean(own - joint) estimates I_q(y; z) (Hoffman & Johnson 2016; He et al.
  2019). It is a lower bound in expectation and cannot exceed ln N, whatever the
  truth: report ln N beside it. mean(own - others) is an upper bound in
  expectation (Poole et al. 2019, section 2.1).
  mean(joint - factors) estimates the total correlation of q(z) (Chen et al.
  2018, with all texts in the place of their weighted minibatch).
  """
  if not z.shape[1]:
    nothing = jnp.zeros(z.shape[0])
    return Densities(nothing, nothing, nothing, nothing)
  return _densities(q, jnp.asarray(z), _block(z.shape))


def mutual_information(
  q: gaussian.Gaussian, z: Float[np.ndarray, 'N Z']
) -> float:
  """I_q(y; z) in nats, by `densities`; at most ln N."""
  found = densities(q, z)
  return float(jnp.mean(found.own - found.joint))


def _block(shape: tuple[int, ...]) -> int:
  """Texts that are worked off at once."""
  return max(1, _BLOCK // (shape[0] * shape[1]))


@functools.partial(jax.jit, static_argnames='block')
def _densities(q, z, block) -> Densities:
  count = z.shape[0]

  def one(n):
    # [N, Z], of z_n under every text's posterior, dimension by dimension.
    pairs = gaussian.Gaussian(q.mean[..., None], q.logvar[..., None])
    log_density = pairs.log_prob(
      jnp.broadcast_to(z[n], q.mean.shape)[..., None]
    )
    whole = jnp.sum(log_density, axis=1)
    rest = jnp.where(jnp.arange(count) == n, -jnp.inf, whole)
    return Densities(
      own=whole[n],
      joint=jax.nn.logsumexp(whole) - math.log(count),
      others=jax.nn.logsumexp(rest) - math.log(max(count - 1, 1)),
      factors=jnp.sum(jax.nn.logsumexp(log_density, axis=0) - math.log(count)),
    )

  return lax.map(one, jnp.arange(count), batch_size=block)
