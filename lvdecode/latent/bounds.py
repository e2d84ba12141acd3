"""From the terms of the bound to what is minimised and reported.

Everything is in nats per sequence, one value an example, reduced elsewhere.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lvdecode import errors
from lvdecode.latent import gaussian

ESTIMATORS = ('elbo', 'iwae', 'dreg')
FREE_BITS = (
  'none',
  'total',
  'total_batch',
  'dim_sample',
  'dim_batch',
  'dim_mask',
)
OF_A_BATCH = ('total_batch', 'dim_batch', 'dim_mask')  # couple its texts


class Terms(NamedTuple):
  """The two halves of -ELBO, in nats per sequence.

  Attributes:
    nll: [B], -log p(y | z) of one z ~ q, summed over the real targets.
    kl: [B, Z], KL(q(z_d | y) || p(z_d)) of each latent dimension.
  """

  nll: Float[Array, ' B']
  kl: Float[Array, 'B Z']


@dataclasses.dataclass(frozen=True, kw_only=True)
class FreeBitsSettings:
  """A rate that costs nothing (Kingma et al. 2016; Li et al. 2019).

  mean_b is over the global batch (over the micro-batch where steps accumulate).

  Attributes:
    kind: 'none';
      'total', max(KL, nats) of each sequence;
      'total_batch', max(mean_b KL, nats);
      'dim_sample', sum_d max(KL_d, nats) of each sequence;
      'dim_batch', sum_d max(mean_b KL_d, nats);
      'dim_mask', the sum of those KL_d whose mean_b KL_d > nats: below it a
      dimension costs nothing at all (OPTIMUS, Li et al. 2020, whose code
      decides it for each sequence alone).
    nats: the free rate, per sequence for 'total' and 'total_batch', otherwise
      per dimension.
  """

  kind: str
  nats: float | jax.Array

  def __post_init__(self):
    errors.one_of('objective.free_bits.kind', self.kind, FREE_BITS)
    errors.at_least('objective.free_bits.nats', self.nats, 0.0)


def negative_elbo(terms: Terms) -> Float[Array, ' B']:
  """nll + kl: an upper bound of -log p(y) in expectation over z ~ q."""
  return terms.nll + jnp.sum(terms.kl, axis=-1)


def charged_kl(
  kl: Float[Array, 'B Z'],
  real: Float[Array, ' B'],
  settings: FreeBitsSettings,
  axis_name: str | None,
) -> Float[Array, ' B']:
  """The KL that the objective charges, after free bits.

  real is 1 for the examples that count. The mean over real examples (and over
  `axis_name`) is the formula of `FreeBitsSettings`, and so is its gradient.
  """
  if not kl.shape[-1]:
    return jnp.zeros(kl.shape[0])  # no latent, nothing to charge
  nats = settings.nats
  if settings.kind == 'dim_sample':
    kl = jnp.maximum(kl, nats)
  elif settings.kind in ('dim_batch', 'dim_mask'):
    # Whether a dimension is charged depends on the global mean; a constant
    # gate keeps the loss a sum of per-example terms.
    charged = batch_mean(kl, real, axis_name)[None, :] > nats
    kl = jnp.where(charged, kl, nats if settings.kind == 'dim_batch' else 0.0)
  total = jnp.sum(kl, axis=-1)
  if settings.kind == 'total':
    return jnp.maximum(total, nats)
  if settings.kind == 'total_batch':
    return jnp.where(batch_mean(total, real, axis_name) > nats, total, nats)
  return total


def batch_mean(
  values: Float[Array, ' B *rest'],
  real: Float[Array, ' B'],
  axis_name: str | None,
) -> Float[Array, '*rest']:
  """The mean over the real examples of all devices, for gates: a constant."""
  sums = lax.stop_gradient((real @ values, jnp.sum(real)))
  if axis_name is not None:
    sums = lax.psum(sums, axis_name)
  total, count = sums
  return total / jnp.maximum(count, 1.0)


def importance_weighted_nll(
  log_weights: Float[Array, 'K B'],
) -> Float[Array, ' B']:
  """-log 1/K sum_k w_k with log w_k = log p(y, z_k) - log q(z_k | y).

  Burda et al. 2016, equation 8; an upper bound of -log p(y) in expectation
  that falls with K. In nats per sequence.
  """
  samples = log_weights.shape[0]
  return math.log(samples) - jax.nn.logsumexp(log_weights, axis=0)


def doubly_reparameterised(
  z: Float[Array, 'K B Z'], q: gaussian.Gaussian
) -> tuple[Float[Array, 'K B Z'], gaussian.Gaussian, Float[Array, 'K B']]:
  """z, q for log q(z | y), and zeros to be added to the log weights.

  The gradient of `importance_weighted_nll` with respect to what z was made from
  is then that of Tucker et al. 2019, equation 8: log q is not differentiated
  by its parameters, and a draw counts by its normalised weight squared where it
  counted by the weight. All else, such as the decoder's parameters, keeps the
  gradient of the bound.
  """
  z, zeros = _tapped(z)
  return z, lax.stop_gradient(q), zeros


@jax.custom_vjp
def _tapped(z):
  return z, jnp.zeros(z.shape[:-1])


def _tapped_forward(z):
  return _tapped(z), None


def _tapped_backward(_, gradients):
  # The gradient of the zeros is that of the log weights: minus the normalised
  # weights, times whatever the example's bound is multiplied by.
  of_z, of_weights = gradients
  whole = jnp.sum(of_weights, axis=0, keepdims=True)
  shares = of_weights / jnp.where(whole == 0.0, 1.0, whole)
  return (of_z * shares[..., None],)


_tapped.defvjp(_tapped_forward, _tapped_backward)
