"""Dropout by a byte of noise for each number."""

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float

_STEPS = 256  # values of a byte


class Dropout(nn.Module):
  """Zeros a share of the numbers and scales the rest (Srivastava et al. 2014).

  flax's `nn.Dropout` draws 32 random bits for each number, which costs a tenth
  of a training step on a CPU. Here they are enough for four, and the share is
  rounded to a multiple of 1/256, a positive one to no less; the scale is that
  of the rounded share, so that the expectation is the input.

  Attributes:
    rate: the share, 0 <= rate <= 1.
  """

  rate: float

  @nn.compact
  def __call__(
    self, x: Float[Array, '*batch D'], *, deterministic: bool
  ) -> Float[Array, '*batch D']:
    """x itself where `deterministic`; else by the stream 'dropout'."""
    if deterministic or not self.rate:
      return x
    dropped = max(1, round(self.rate * _STEPS))
    kept = _STEPS - dropped
    if not kept:
      return jnp.zeros_like(x)
    noise = _bytes(self.make_rng('dropout'), x.shape)
    # In float32: bfloat16 would round the scale, and so move the expectation.
    scaled = (x.astype(jnp.float32) * (_STEPS / kept)).astype(x.dtype)
    return jnp.where(noise >= dropped, scaled, jnp.zeros_like(x))


def _bytes(key, shape):
  """Independent and uniform; the last axis is cut from whole words."""
  count = -(-shape[-1] // 4)
  # Computed once each: fused with what follows, a word would be four times.
  noise = lax.optimization_barrier(
    jax.random.bits(key, (*shape[:-1], count), jnp.uint32)
  )
  split = lax.bitcast_convert_type(noise, jnp.uint8)
  return split.reshape(*shape[:-1], 4 * count)[..., : shape[-1]]
