"""Noise of each example's own key, so that it does not depend on its batch."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key


def normal(
  keys: Key[Array, ' B'], shape: tuple[int, ...]
) -> Float[Array, 'B ...']:
  """N(0, I) of each example's own key."""
  return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)


def drop(
  z: Float[Array, 'K B Z'], keys: Key[Array, ' B'], rate: float
) -> Float[Array, 'K B Z']:
  """Each number is 0 with probability `rate`, and larger otherwise."""
  if not rate:
    return z
  shape = (len(z), z.shape[2])
  keep = jax.vmap(
    lambda key: jax.random.bernoulli(key, 1 - rate, shape), out_axes=1
  )(keys)
  return jnp.where(keep, z / (1 - rate), 0.0)


def hide_words(
  tokens: Int[Array, 'B T'],
  keys: Key[Array, ' B'],
  rate: float,
  hidden_token: int,
) -> Int[Array, 'B T']:
  """Each token but the first is replaced with probability `rate`."""
  if not rate:
    return tokens
  length = tokens.shape[1:]
  hide = jax.vmap(lambda key: jax.random.bernoulli(key, rate, length))(keys)
  return jnp.where(hide.at[:, 0].set(False), hidden_token, tokens)
