"""GPT-2's block: pre-norm attention and MLP around a residual stream."""

from collections.abc import Callable
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lvdecode.nn import attention
from lvdecode.nn import context as contexts
from lvdecode.nn import dropout as dropout_lib
from lvdecode.nn import kernels

# GPT-2's gelu is the tanh form, BERT's the exact one.
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  'gelu_tanh': functools.partial(nn.gelu, approximate=True),
  'gelu': functools.partial(nn.gelu, approximate=False),
  'relu': nn.relu,
  'silu': nn.silu,
}


class MLP(nn.Module):
  """D -> inner -> D; GPT-2 has inner = 4 D and 'gelu_tanh'."""

  width: int
  inner: int
  layers: int
  activation: str  # of ACTIVATIONS
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Float[Array, 'B T D']) -> Float[Array, 'B T D']:
    normal = nn.initializers.normal
    std = attention.INIT_STD
    x = nn.Dense(
      self.inner,
      dtype=self.dtype,
      kernel_init=normal(std),
      dot_general=kernels.flat_dot,
      name='c_fc',
    )(x)
    x = ACTIVATIONS[self.activation](x)
    return nn.Dense(
      self.width,
      dtype=self.dtype,
      kernel_init=normal(std / (2 * self.layers) ** 0.5),
      dot_general=kernels.flat_dot,
      name='c_proj',
    )(x)


class Block(nn.Module):
  """h + attn(ln_1(h)), then h + mlp(ln_2(h)) (Radford et al. 2019).

  With a context its sub-layer stands between the two.
  """

  heads: int
  width: int
  inner: int
  layers: int
  dropout: float
  activation: str
  epsilon: float
  dtype: jnp.dtype
  kernel: str = 'auto'  # of kernels.ATTENTION

  def setup(self):
    self.ln_1 = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype)
    self.attn = attention.SelfAttention(
      self.heads, self.width, self.layers, self.dtype, self.kernel
    )
    self.ln_2 = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype)
    self.mlp = MLP(
      self.width, self.inner, self.layers, self.activation, self.dtype
    )
    self.drop = dropout_lib.Dropout(self.dropout)

  def __call__(
    self,
    h: Float[Array, 'B T D'],
    mask: kernels.Mask,
    memory: attention.Memory | None = None,
    deterministic: bool = True,
    context: contexts.Context | None = None,
  ) -> Float[Array, 'B T D']:
    attended = self.attn(self.ln_1(h), mask, memory)
    h = h + self.drop(attended, deterministic=deterministic)
    h = self.attend(h, context, deterministic)
    return h + self.drop(self.mlp(self.ln_2(h)), deterministic=deterministic)

  def extend(
    self,
    h: Float[Array, 'B T D'],
    cache: attention.LayerCache,
    written: Int[Array, ''],
    context: contexts.Context | None = None,
  ) -> tuple[Float[Array, 'B T D'], attention.LayerCache]:
    """The same with T new tokens behind a cache; never with dropout."""
    attended, cache = self.attn.extend(self.ln_1(h), cache, written)
    h = h + attended
    h = self.attend(h, context)
    return h + self.mlp(self.ln_2(h)), cache

  def attend(
    self,
    h: Float[Array, 'B T D'],
    context: contexts.Context | None,
    deterministic: bool = True,
  ) -> Float[Array, 'B T D']:
    """h behind the context's sub-layer, if there is one."""
    if context is None:
      return h
    attended = contexts.attend(h, context, self.epsilon)
    return h + self.drop(attended, deterministic=deterministic)
