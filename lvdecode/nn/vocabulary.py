"""The vocabulary head, and its loss without logits of the whole batch."""

from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np


class Fusion(NamedTuple):
  """C_t = tanh(h_t W_h + shift) in the place of h_t (Wang & Wan 2019).

  Attributes:
    kernel: [D, D], W_h.
    shift: [B, D], what is fused into every position.
    bias: [V], added to the logits made of C_t.
  """

  kernel: Float[Array, 'D D']
  shift: Float[Array, 'B D']
  bias: Float[Array, ' V']


class Head(NamedTuple):
  """Hidden states to logits: wte . C_t + shift.

  Attributes:
    embedding: [V, D], tied to the input's.
    fusion: bends the hidden states first; None for none.
    shift: [B, V], added to the logits of every position; None for none.
    words: how many of the V rows are tokens. The rest fill V up to a number
      that divides well, and have no probability; None for all.
  """

  embedding: Float[Array, 'V D']
  fusion: Fusion | None
  shift: Float[Array, 'B V'] | None
  words: int | None = None


def logits(head: Head, hidden: Float[Array, 'B T D']) -> Float[Array, 'B T V']:
  """Scores of every token, in float32 whatever the compute dtype.

  -inf for rows of the embedding that are no token.
  """
  dtype = hidden.dtype
  if head.fusion is not None:
    shift = head.fusion.shift.astype(dtype)[:, None, :]
    hidden = jnp.tanh(hidden @ head.fusion.kernel.astype(dtype) + shift)
  scores = jnp.einsum(
    'btd,vd->btv',
    hidden,
    head.embedding.astype(dtype),
    preferred_element_type=jnp.float32,
  )
  if head.fusion is not None:
    scores = scores + head.fusion.bias.astype(jnp.float32)[None, None, :]
  if head.shift is not None:
    scores = scores + head.shift.astype(jnp.float32)[:, None, :]
  if head.words is not None:
    exists = jnp.arange(scores.shape[-1]) < head.words
    scores = jnp.where(exists[None, None, :], scores, -jnp.inf)
  return scores


def token_nll(
  head: Head,
  hidden: Float[Array, 'B T D'],
  targets: Int[Array, 'B T'],
  max_bytes: int,
) -> Float[Array, 'B T']:
  """-log softmax(logits)[targets], in nats.

  Where float32 logits [B, T, V] would exceed `max_bytes`, a few positions are
  scored at a time, forward and backward, so that they never exist; one
  position of the whole batch is the least.
  """
  batch, length = targets.shape
  positions = max(1, max_bytes // (4 * batch * head.embedding.shape[0]))
  if positions >= length:
    return _nll(head, hidden, targets)
  chunks = -(-length // positions)
  room = ((0, 0), (0, chunks * positions - length))

  def split(x):
    x = jnp.pad(x, room + ((0, 0),) * (x.ndim - 2))
    x = x.reshape(batch, chunks, positions, *x.shape[2:])
    return jnp.moveaxis(x, 1, 0)

  @jax.checkpoint
  def one_chunk(chunk):
    return _nll(head, *chunk)

  nll = lax.map(one_chunk, (split(hidden), split(targets)))
  return jnp.moveaxis(nll, 0, 1).reshape(batch, -1)[:, :length]


def _nll(head, hidden, targets):
  scores = logits(head, hidden)
  chosen = jnp.take_along_axis(scores, targets[..., None], axis=-1)
  return jax.nn.logsumexp(scores, axis=-1) - chosen[..., 0]


def widen(
  embedding: Float[np.ndarray, 'V D'], rows: int
) -> Float[np.ndarray, '_ D']:
  """The embedding with rows for further tokens behind its own.

  A new row is the mean of the old ones: scored like an average token, it takes
  hardly any probability from those that were trained (Hewitt 2021).
  """
  new = rows - len(embedding)
  if new < 0:
    raise ValueError(f'{len(embedding)} rows do not fit in {rows}')
  mean = embedding.mean(axis=0, keepdims=True)
  return np.concatenate([embedding, np.repeat(mean, new, axis=0)])
