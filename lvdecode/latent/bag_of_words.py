"""The words of a text from z alone, in no order: a loss beside the bound."""

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class BagOfWords(nn.Module):
  """f = W tanh(U z + b) + c, logits of every word (Zhao et al. 2017, MLP_b)."""

  width: int
  vocab_size: int

  @nn.compact
  def __call__(self, z: Float[Array, '*K B Z']) -> Float[Array, '*K B V']:
    hidden = jnp.tanh(nn.Dense(self.width, name='hidden')(z))
    return nn.Dense(self.vocab_size, name='words')(hidden)


def nll(
  logits: Float[Array, 'B V'],
  targets: Int[Array, 'B T'],
  weights: Float[Array, 'B T'],
) -> Float[Array, ' B']:
  """-sum_t log softmax(f)[y_t] over targets of weight 1 (Zhao et al. 2017).

  In nats per sequence; the same for any order of the targets.
  """
  log_p = jax.nn.log_softmax(logits)
  chosen = jnp.take_along_axis(log_p, targets, axis=-1)
  return -jnp.sum(weights * chosen, axis=-1)
