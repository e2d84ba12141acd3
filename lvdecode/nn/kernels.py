"""Matrix products and attention in the form that each machine is fast at."""

import re
from typing import Literal, NamedTuple

import jax
from jax import lax
from jax.experimental import layout
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lvdecode import errors

ATTENTION = ('auto', 'xla', 'cudnn')
_FUSED_DTYPES = ('bfloat16', 'float16')
_FUSED_WIDTH = 256  # of a head, at most


class Causal(NamedTuple):
  """A query sees the keys up to its own position, and all that is in front."""


class RightPadded(NamedTuple):
  """Every query sees the keys that exist, and what is in front of them.

  Attributes:
    lengths: how many keys of each row exist; the others are behind them.
  """

  lengths: Int[Array, ' B']


PATTERNS = (Causal, RightPadded)
# Over the keys of the sequence itself.
Mask = Bool[Array, 'b 1 t T'] | Causal | RightPadded
CAUSAL = Causal()


def _capability() -> tuple[int, ...]:
  """Of the GPU's generation, as (9, 0); () where it is not NVIDIA's."""
  found = str(getattr(jax.local_devices()[0], 'compute_capability', ''))
  known = re.fullmatch(r'\d+\.\d+', found)
  return tuple(map(int, found.split('.'))) if known else ()


def fused_obstacle(
  backend: str,
  dtype: jnp.dtype,
  head_width: int,
  capability: tuple[int, ...] = (9, 0),
) -> str:
  """Why cuDNN's attention cannot be used here; '' if it can."""
  if backend != 'gpu':
    return f'it runs on GPUs, and this is {backend}'
  if jnp.dtype(dtype).name not in _FUSED_DTYPES:
    return f'it computes in {" or ".join(_FUSED_DTYPES)}, not {dtype}'
  if capability < (8, 0):
    return 'it needs an NVIDIA GPU of compute capability 8.0 or later'
  most = _FUSED_WIDTH if capability >= (9, 0) else _FUSED_WIDTH // 2
  if head_width % 8 or head_width > most:
    return (
      f'a head is {head_width} wide: it must be a multiple of 8 and at most '
      f'{most}'
    )
  return ''


def attend(
  q: Float[Array, 'B T H K'],
  k: Float[Array, 'B S H K'],
  v: Float[Array, 'B S H K'],
  mask: Bool[Array, 'b 1 t S'] | Causal | RightPadded,
  bias: Float[Array, '1 H 1 S'] | None,
  choice: str,
) -> Float[Array, 'B T H K']:
  """softmax(q k^T / sqrt(K) + bias) v, the softmax in float32.

  The S - T first keys are a memory in front, which `CAUSAL` and `RightPadded`
  let every query see. These two without a bias can go through cuDNN, which
  never makes the [T, S] scores; any other mask and bias goes through XLA.

  Args:
    q, k, v: queries, keys, values.
    mask: who sees whom; an array is [b, 1, t, S].
    bias: added to the scores.
    choice: of ATTENTION; 'auto' takes cuDNN wherever it can be taken.

  Raises:
    UserError: 'cudnn' is asked for on a machine, or for a type or a width, that
      it is not for.
  """
  if choice != 'xla' and bias is None and isinstance(mask, PATTERNS):
    obstacle = fused_obstacle(
      jax.default_backend(), q.dtype, q.shape[-1], _capability()
    )
    if not obstacle:
      return fused(q, k, v, mask, 'cudnn')
    if choice == 'cudnn':
      raise errors.UserError(
        f"model.attention = 'cudnn': {obstacle}; 'auto' takes it where it can"
      )
  mask = as_array(mask, q.shape[1], k.shape[1])
  return jax.nn.dot_product_attention(q, k, v, bias=bias, mask=mask)


def fused(
  q: Float[Array, 'B T H K'],
  k: Float[Array, 'B S H K'],
  v: Float[Array, 'B S H K'],
  mask: Causal | RightPadded,
  implementation: Literal['xla', 'cudnn'],
) -> Float[Array, 'B T H K']:
  """The same by what fused kernels know: a causal flag, and lengths of keys.

  The flag aligns the first query with the first key, so that with a memory of
  M slots no query would see the keys behind its own place less M. M queries of
  zeros in front make both as long: the memory is then the past of every real
  query, whatever the dummies see. Their outputs are dropped, and so no gradient
  comes from them. Attending to memory and tokens apart and joining the two by
  their log-sum-exp is no other way: the kernels give that no gradient.
  """
  slots = k.shape[1] - q.shape[1]
  if isinstance(mask, RightPadded):
    return jax.nn.dot_product_attention(
      q,
      k,
      v,
      key_value_seq_lengths=slots + mask.lengths.astype(jnp.int32),
      implementation=implementation,
    )
  q = jnp.pad(q, ((0, 0), (slots, 0), (0, 0), (0, 0)))
  out = jax.nn.dot_product_attention(
    q, k, v, is_causal=True, implementation=implementation
  )
  return out[:, slots:]


def attend_cached(
  q: Float[Array, 'B T H K'],
  keys: Float[Array, 'B H S K'],
  values: Float[Array, 'B H S K'],
  mask: Bool[Array, 'b 1 t S'],
  bias: Float[Array, '1 H 1 S'] | None,
) -> Float[Array, 'B T H K']:
  """The same for a few queries, over keys that lie by head.

  Behind [B, S, H, K] every step of decoding copies the whole cache into the
  order in which it is multiplied.
  """
  scores = jnp.einsum(
    'bthk,bhsk->bhts', q, keys, preferred_element_type=jnp.float32
  )
  scores = scores * q.shape[-1] ** -0.5
  if bias is not None:
    scores = scores + bias.astype(jnp.float32)
  scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
  shares = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
  return jnp.einsum('bhts,bhsk->bthk', shares, values)


def as_array(
  mask: Bool[Array, 'b 1 t S'] | Causal | RightPadded, queries: int, keys: int
) -> Bool[Array, 'b 1 t S']:
  """The mask as booleans over all keys, the memory's included."""
  slots = keys - queries
  if isinstance(mask, Causal):
    return jnp.tril(jnp.ones((1, 1, queries, keys), bool), slots)
  if isinstance(mask, RightPadded):
    seen = jnp.arange(keys)[None, :] < slots + mask.lengths[:, None]
    return seen[:, None, None, :]
  return mask


def flat_dot(
  lhs: Float[Array, '*rows D'],
  rhs: Float[Array, 'D E'],
  dimension_numbers,
  precision=None,
  preferred_element_type=None,
) -> Float[Array, '*rows E']:
  """`lax.dot_general` of a dense layer, over all rows as one axis.

  With the signature that `linen.Dense` calls. The product is the same; but of
  [B, T, D] the gradient of the weights contracts two axes at once, for which
  XLA on CPU copies a transposed operand and takes a slower product: together
  half as much again for the layer's backward pass. Gradients of bfloat16 on
  CPU are computed as in `row_sum`.
  """
  assert dimension_numbers == (((lhs.ndim - 1,), (0,)), ((), ()))
  rows = lhs.reshape(-1, lhs.shape[-1])
  default = precision is None and preferred_element_type is None
  if default and _bfloat16_on_cpu(rows, rhs):
    out = _row_dot(rows, rhs)
  else:
    out = lax.dot_general(
      rows,
      rhs,
      (((1,), (0,)), ((), ())),
      precision=precision,
      preferred_element_type=preferred_element_type,
    )
  return out.reshape(*lhs.shape[:-1], rhs.shape[1])


def row_sum(
  lhs: Float[Array, 'N D'],
  rhs: Float[Array, 'N E'],
  dtype: jnp.dtype,
) -> Float[Array, 'D E']:
  """lhs^T rhs, the gradient of a matrix, summed over rows into `dtype`.

  Of two operands in bfloat16 XLA on CPU has no product over the first axis of
  both: it takes float32's, five times slower where the machine multiplies
  bfloat16. So here the left one is laid out again, which costs as much as
  reading it; the transposition alone XLA would fold into the product.
  """
  if not _bfloat16_on_cpu(lhs, rhs):
    return lax.dot_general(
      lhs, rhs, (((0,), (0,)), ((), ())), preferred_element_type=dtype
    )
  return jnp.matmul(_laid_across(lhs), rhs, preferred_element_type=dtype)


def _laid_across(matrix: Float[Array, 'N D']) -> Float[Array, 'D N']:
  """The transpose, in memory too: XLA can't fold it into a product."""
  return layout.with_layout_constraint(matrix.T, layout.Layout((0, 1)))


def _bfloat16_on_cpu(*operands: Array) -> bool:
  return jax.default_backend() == 'cpu' and all(
    x.dtype == jnp.bfloat16 for x in operands
  )


@jax.custom_vjp
def _row_dot(rows, matrix):
  """Their product, whose gradients have their transposes laid out again."""
  return rows @ matrix


def _row_dot_forward(rows, matrix):
  return _row_dot(rows, matrix), (rows, matrix)


def _row_dot_backward(operands, grad):
  rows, matrix = operands
  return grad @ _laid_across(matrix), row_sum(rows, grad, matrix.dtype)


_row_dot.defvjp(_row_dot_forward, _row_dot_backward)
