"""Diagonal Gaussians: samples, densities and their divergence."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class Gaussian(NamedTuple):
  """N(mean, diag exp(logvar)).

  Attributes:
    mean: [..., Z].
    logvar: [..., Z], the logarithm of the variance.
  """

  mean: Float[Array, '*B Z']
  logvar: Float[Array, '*B Z']

  def sample(self, noise: Float[Array, '*B Z']) -> Float[Array, '*B Z']:
    """mean + std * noise, with noise from N(0, I) of the same shape."""
    return self.mean + jnp.exp(0.5 * self.logvar) * noise

  def log_prob(self, z: Float[Array, '*B Z']) -> Float[Array, '*B']:
    """log density at z, summed over Z, in nats."""
    square = (z - self.mean) ** 2 * jnp.exp(-self.logvar)
    return -0.5 * jnp.sum(square + self.logvar + math.log(2 * math.pi), axis=-1)


def standard(shape: tuple[int, ...]) -> Gaussian:
  """N(0, I), the prior of an unconditional model."""
  return Gaussian(jnp.zeros(shape), jnp.zeros(shape))


def kl(q: Gaussian, p: Gaussian) -> Float[Array, '*B Z']:
  """KL(q || p) of each dimension, in nats; their sum is the whole."""
  square = (q.mean - p.mean) ** 2
  ratio = (jnp.exp(q.logvar) + square) * jnp.exp(-p.logvar)
  return 0.5 * (p.logvar - q.logvar + ratio - 1.0)
