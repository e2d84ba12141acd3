"""The vocabulary head, and its loss without logits of the whole batch."""

import functools
import math
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from lvdecode.nn import kernels


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
  return _scores(head, _bent(head.fusion, hidden))


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
  chunks = _Chunks.of(head, targets, max_bytes)
  if chunks.parts == 1:
    return _nll(head, hidden, targets)

  @jax.checkpoint
  def one_chunk(chunk):
    return _nll(head, *chunk)

  nll = lax.map(one_chunk, (chunks.split(hidden), chunks.split(targets)))
  return chunks.join(nll)


def shifted_nll(
  head: Head,
  hidden: Float[Array, 'B T D'],
  targets: Int[Array, 'B T'],
  shifts: Float[Array, 'B K V'],
  max_bytes: int,
) -> Float[Array, 'B K T']:
  """`token_nll` of each text under each of its K shifts, in nats.

  sum_v exp(a_tv + s_kv) is a product of matrices, exp(a) and exp(s): beside it
  a shift costs V exponentials, whatever T and D are. The largest terms are taken
  out of both; where logits and shift are at odds by more than 64 nats, terms that
  float32 cannot hold would count: NaN. `max_bytes` is of logits, as there; in
  float16 and bfloat16 their gradient is rounded to the states' type before its
  products.
  """
  head, shifts = head._replace(shift=None), shifts.astype(jnp.float32)
  chunks = _Chunks.of(head, targets, max_bytes)
  highest = lax.stop_gradient(jnp.max(shifts, axis=2))[..., None]
  factors = jnp.exp(shifts - highest)

  def one_chunk(chunk):
    hidden, targets = chunk
    scores = _scores(head, _bent(head.fusion, hidden), _rounded_dot)
    above = lax.stop_gradient(jnp.max(scores, axis=2))
    sums = jnp.einsum(
      'btv,bkv->btk',
      jnp.exp(scores - above[..., None]),
      factors,
      precision=lax.Precision.HIGHEST,
    )
    sums = jnp.where(sums > math.exp(-64), sums, jnp.nan)
    return jnp.log(sums) + (above - _chosen(scores, targets))[..., None]

  if chunks.parts == 1:
    nll = one_chunk((hidden, targets))
  else:
    parts = chunks.split(hidden), chunks.split(targets)
    nll = chunks.join(lax.map(jax.checkpoint(one_chunk), parts))
  told = jnp.take_along_axis(shifts, targets[:, None], axis=2)
  return nll.swapaxes(1, 2) + highest - told


class Summed(NamedTuple):
  """A weighted sum of token losses, and its terms.

  Attributes:
    total: sum of weights x nll, in nats; what gradients go through.
    nll: [B, T], before weights; no gradient goes through them.
  """

  total: Float[Array, '']
  nll: Float[Array, 'B T']


def summed_nll(
  head: Head,
  hidden: Float[Array, 'B T D'],
  targets: Int[Array, 'B T'],
  weights: Float[Array, 'B T'],
  max_bytes: int,
) -> Summed:
  """The sum of `token_nll` by constant weights, its gradient taken at once.

  All gradients of a sum are those of its terms by their weights, up to one
  factor. So they are computed while a chunk's logits exist, in the forward
  pass: three products with the embedding as without chunks, not four, and
  nothing of the size of logits is kept. In float16 and bfloat16 the gradient of
  the logits is rounded to the states' type before its products and sums.
  """
  arrays = head._replace(words=None)
  weights = lax.stop_gradient(weights)
  return Summed(
    *_summed(head.words, max_bytes, arrays, hidden, targets, weights)
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _summed(words, max_bytes, head, hidden, targets, weights):
  head = head._replace(words=words)
  nll = token_nll(head, hidden, targets, max_bytes)
  return jnp.sum(nll * weights), nll


def _summed_forward(words, max_bytes, head, hidden, targets, weights):
  moving = jax.tree.map(lambda leaf: leaf.perturbed, head, is_leaf=_is_primal)
  head, hidden, targets, weights = jax.tree.map(
    lambda leaf: leaf.value,
    (head, hidden, targets, weights),
    is_leaf=_is_primal,
  )
  chunks = _Chunks.of(head, targets, max_bytes)

  def moved(tree):  # what is frozen takes no product
    return jax.tree.map(lambda m, x: x if m else None, moving, tree)

  def one_chunk(sums, part):
    nll, grads, hidden_grad = _chunk(head._replace(words=words), *part)
    return jax.tree.map(jnp.add, sums, moved(grads)), (nll, hidden_grad)

  zeros = moved(jax.tree.map(jnp.zeros_like, head))
  parts = tuple(map(chunks.split, (hidden, targets, weights)))
  sums, (nll, hidden_grad) = lax.scan(one_chunk, zeros, parts)
  nll = chunks.join(nll)
  return (jnp.sum(nll * weights), nll), (sums, chunks.join(hidden_grad))


def _summed_backward(words, max_bytes, gradients, cotangents):
  del words, max_bytes
  factor = cotangents[0]
  if isinstance(factor, jax.custom_derivatives.SymbolicZero):
    return None, None, None, None
  head, hidden = jax.tree.map(
    lambda grad: (grad * factor).astype(grad.dtype), gradients
  )
  return head, hidden, None, None


_summed.defvjp(_summed_forward, _summed_backward, symbolic_zeros=True)


def _is_primal(leaf) -> bool:
  return isinstance(leaf, jax.custom_derivatives.CustomVJPPrimal)


def _chunk(head, hidden, targets, weights):
  """The losses of some positions; the gradients of their weighted sum."""
  bent, unbend = jax.vjp(_bent, head.fusion, hidden)
  scores = _scores(head, bent)
  lse = jax.nn.logsumexp(scores, axis=-1)
  nll = lse - _chosen(scores, targets)
  hit = jnp.arange(scores.shape[-1])[None, None, :] == targets[..., None]
  grad = (jnp.exp(scores - lse[..., None]) - hit) * weights[..., None]
  # The sums below read what the products read; XLA would compute it for each.
  grad = lax.optimization_barrier(grad.astype(bent.dtype))
  bent_grad, embedding = _unscored(
    grad.reshape(-1, grad.shape[-1]),
    bent.reshape(-1, bent.shape[-1]),
    head.embedding,
  )
  fusion, hidden_grad = unbend(bent_grad.reshape(bent.shape))
  if fusion is not None:
    bias = jnp.sum(grad, axis=(0, 1), dtype=head.fusion.bias.dtype)
    fusion = fusion._replace(bias=bias)
  shift = None
  if head.shift is not None:
    shift = jnp.sum(grad, axis=1, dtype=head.shift.dtype)
  return nll, Head(embedding, fusion, shift), hidden_grad


def _bent(fusion, hidden):
  """C_t, or the hidden states as they are."""
  if fusion is None:
    return hidden
  shift = fusion.shift.astype(hidden.dtype)[:, None, :]
  return jnp.tanh(hidden @ fusion.kernel.astype(hidden.dtype) + shift)


def _dot(rows, embedding):
  """[N, D] and [V, D] -> [N, V], in float32."""
  return lax.dot_general(
    rows,
    embedding.astype(rows.dtype),
    (((1,), (1,)), ((), ())),
    preferred_element_type=jnp.float32,
  )


def _scores(head, bent, dot=_dot):
  """The logits of bent states."""
  rows = bent.reshape(-1, bent.shape[-1])  # see kernels.flat_dot
  scores = dot(rows, head.embedding).reshape(*bent.shape[:2], -1)
  if head.fusion is not None:
    scores = scores + head.fusion.bias.astype(jnp.float32)[None, None, :]
  if head.shift is not None:
    scores = scores + head.shift.astype(jnp.float32)[:, None, :]
  if head.words is not None:
    exists = jnp.arange(scores.shape[-1]) < head.words
    scores = jnp.where(exists[None, None, :], scores, -jnp.inf)
  return scores


# Not of `token_nll`, which is mapped over labels: each would have a gradient of
# the whole embedding.
_rounded_dot = jax.custom_vjp(_dot)


def _dot_forward(rows, embedding):
  return _dot(rows, embedding), (rows, embedding)


def _dot_backward(operands, grad):
  grad = lax.optimization_barrier(grad.astype(operands[0].dtype))
  return _unscored(grad, *operands)


_rounded_dot.defvjp(_dot_forward, _dot_backward)


def _unscored(grad, rows, embedding):
  """The gradients of rows and embedding, by one of the rows' type."""
  return (
    grad @ embedding.astype(rows.dtype),
    kernels.row_sum(grad, rows, embedding.dtype),
  )


def _nll(head, hidden, targets):
  scores = logits(head, hidden)
  return jax.nn.logsumexp(scores, axis=-1) - _chosen(scores, targets)


def _chosen(scores, targets):
  return jnp.take_along_axis(scores, targets[..., None], axis=-1)[..., 0]


class _Chunks(NamedTuple):
  """Positions cut into equal parts, of which the last is filled up.

  Attributes:
    parts: how many.
    positions: of one.
    length: of all that is real.
  """

  parts: int
  positions: int
  length: int

  @classmethod
  def of(cls, head, targets, max_bytes) -> '_Chunks':
    """Parts whose float32 logits take at most `max_bytes`."""
    batch, length = targets.shape
    positions = max_bytes // (4 * batch * head.embedding.shape[0])
    parts = -(-length // min(max(1, positions), length))
    # As equal as can be: what fills up the last is computed like the rest.
    return cls(parts, -(-length // parts), length)

  def split(self, x):
    """[B, T, ...] -> [parts, B, positions, ...]."""
    room = (0, self.parts * self.positions - self.length)
    x = jnp.pad(x, ((0, 0), room) + ((0, 0),) * (x.ndim - 2))
    x = x.reshape(x.shape[0], self.parts, self.positions, *x.shape[2:])
    return jnp.moveaxis(x, 1, 0)

  def join(self, x):
    """The inverse of `split`."""
    x = jnp.moveaxis(x, 0, 1)
    x = x.reshape(x.shape[0], -1, *x.shape[3:])
    return x[:, : self.length]


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
