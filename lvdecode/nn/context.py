"""Attention to states from elsewhere: a further sub-layer of a block."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lvdecode.nn import attention


class Context(NamedTuple):
  """The sub-layer h + W_o softmax(Q K^T / sqrt(K)) V, with Q = W_q ln(h).

  The context attention of Ziegler et al. 2019, between self-attention and MLP.
  Its weights are brought along, as those of `vocabulary.Fusion`: a block that
  is given none has none. The same tuple holds one layer's, or all layers' with
  a leading L.

  Attributes:
    scale: [D], of the layer norm.
    shift: [D], of the layer norm.
    query: [D, H, K], W_q.
    query_bias: [H, K].
    keys: [B, S, H, K], of the states.
    values: [B, S, H, K].
    visible: [B, S], False at padding.
    out: [H, K, D], W_o.
    out_bias: [D].
  """

  scale: Float[Array, '*L D']
  shift: Float[Array, '*L D']
  query: Float[Array, '*L D H K']
  query_bias: Float[Array, '*L H K']
  keys: Float[Array, '*L B S H K']
  values: Float[Array, '*L B S H K']
  visible: Bool[Array, '*L B S']
  out: Float[Array, '*L H K D']
  out_bias: Float[Array, '*L D']

  def layer(self, index: int) -> 'Context':
    return jax.tree.map(lambda leaf: leaf[index], self)


def attend(
  h: Float[Array, 'B T D'], context: Context, epsilon: float
) -> Float[Array, 'B T D']:
  """What one layer's sub-layer adds to h; `epsilon` is of its layer norm."""
  dtype = h.dtype
  x = h.astype(jnp.float32)
  x = x - jnp.mean(x, axis=-1, keepdims=True)
  x = x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + epsilon)
  x = x * context.scale[None, None] + context.shift[None, None]
  q = jnp.einsum('btd,dhk->bthk', x.astype(dtype), context.query.astype(dtype))
  out = jax.nn.dot_product_attention(
    q + context.query_bias.astype(dtype)[None, None],
    context.keys.astype(dtype),
    context.values.astype(dtype),
    mask=attention.padding(context.visible),
  )
  out = jnp.einsum('bthk,hkd->btd', out, context.out.astype(dtype))
  return out + context.out_bias.astype(dtype)[None, None]
