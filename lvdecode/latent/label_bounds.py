"""A label as a second latent: bounds with it known, and with it summed out.

x is a text, a its aspect (given, so left out below), y its label. All terms are
in nats per sequence, one value an example, reduced elsewhere.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Terms(NamedTuple):
  """What the bounds are made of, for every label that a text may have.

  Attributes:
    nll: -log p(x | y, z) of one z ~ q(z | x, y).
    kl: KL(q(z_d | x, y) || p(z_d)) of each latent dimension.
    log_q: log q(y | x), the classifier's.
  """

  nll: Float[Array, 'B Y']
  kl: Float[Array, 'B Y Z']
  log_q: Float[Array, 'B Y']


def weights(
  log_q: Float[Array, 'B Y'], label: Int[Array, ' B']
) -> Float[Array, 'B Y']:
  """What each label counts: all for a known one, else q(y | x); -1: unknown."""
  known = jax.nn.one_hot(label, log_q.shape[1])
  return jnp.where((label >= 0)[:, None], known, jnp.exp(log_q))


def expected(
  terms: Terms, weights: Float[Array, 'B Y']
) -> tuple[Float[Array, ' B'], Float[Array, 'B Z']]:
  """nll [B] and kl [B, Z], means over the labels."""
  nll = jnp.sum(weights * terms.nll, axis=1)
  return nll, jnp.einsum('by,byz->bz', weights, terms.kl)


def entropy(weights: Float[Array, 'B Y']) -> Float[Array, ' B']:
  """-sum_y w_y log w_y; 0 where one label has all the weight."""
  # The inner `where` keeps the gradient of what is not chosen finite.
  log = jnp.log(jnp.where(weights > 0, weights, 1.0))
  return -jnp.sum(weights * log, axis=1)


def negative_bound(
  nll: Float[Array, ' B'],
  kl_cost: Float[Array, ' B'],
  weights: Float[Array, 'B Y'],
  log_prior: Float[Array, ' Y'],
) -> Float[Array, ' B']:
  """nll + kl_cost - sum_y w_y log p(y) - H(w), of `expected` terms.

  With a known label this is Kingma et al. 2014's -L(x, y), equation 6, an
  upper bound of -log p(x, y) in expectation over z. With w = q(y | x) it is
  their -U(x), equation 7, an upper bound of -log p(x).
  """
  return nll + kl_cost - weights @ log_prior - entropy(weights)
