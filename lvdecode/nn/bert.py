"""BERT's encoder: post-norm blocks that see both ways (Devlin et al. 2019)."""

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lvdecode.nn import attention
from lvdecode.nn import context as contexts
from lvdecode.nn import dropout as dropout_lib
from lvdecode.nn import kernels
from lvdecode.nn import layers as layers_lib
from lvdecode.nn import transformer


class Block(transformer.Block):
  """ln_1(h + attn(h)), then ln_2(h + mlp(h)): norms behind, not in front.

  All else is GPT-2's block; that it sees both ways leaves nothing to cache.
  """

  def __call__(
    self,
    h: Float[Array, 'B T D'],
    mask: kernels.Mask,
    memory: attention.Memory | None = None,
    deterministic: bool = True,
    context: contexts.Context | None = None,
  ) -> Float[Array, 'B T D']:
    attended = self.attn(h, mask, memory)
    h = self.ln_1(h + self.drop(attended, deterministic=deterministic))
    h = self.attend(h, context, deterministic)
    return self.ln_2(h + self.drop(self.mlp(h), deterministic=deterministic))


class BERT(nn.Module):
  """Embeddings of tokens, positions and types, their norm, and the blocks.

  RoBERTa is the same with one type. Parameters have GPT-2's names, `wtt` for
  the types' embedding and `ln_e` for its norm; queries, keys and values are
  one matrix `h_0/attn/c_attn` [D, 3 D].
  """

  vocab_size: int
  positions: int
  types: int
  layers: int
  heads: int
  width: int
  inner: int
  pools: bool  # whether there is what `pool` needs
  dropout: float
  activation: str  # of transformer.ACTIVATIONS; BERT's is 'gelu'
  epsilon: float  # of the layer norms; BERT's is 1e-12
  dtype: jnp.dtype
  execution: layers_lib.Execution = layers_lib.PLAIN

  def setup(self):
    normal = nn.initializers.normal(attention.INIT_STD)
    self.wte = nn.Embed(self.vocab_size, self.width, embedding_init=normal)
    self.wpe = nn.Embed(self.positions, self.width, embedding_init=normal)
    self.wtt = nn.Embed(self.types, self.width, embedding_init=normal)
    self.ln_e = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype)
    self.h = [
      Block(
        self.heads,
        self.width,
        self.inner,
        self.layers,
        self.dropout,
        self.activation,
        self.epsilon,
        self.dtype,
        self.execution.attention,
      )
      for _ in range(self.layers)
    ]
    if self.pools:
      self.pooler = nn.Dense(self.width, dtype=self.dtype, kernel_init=normal)
    self.drop = dropout_lib.Dropout(self.dropout)

  def __call__(
    self,
    tokens: Int[Array, 'B T'],
    visible: Bool[Array, 'B T'],
    deterministic: bool = True,
    types: Int[Array, 'B T'] | None = None,
  ) -> Float[Array, 'B T D']:
    """States of every position; those that are not visible change no other."""
    h = self.embed(tokens, types)
    return self.blocks(h, attention.padding(visible), deterministic)

  def embed(
    self,
    tokens: Int[Array, 'B T'],
    types: Int[Array, 'B T'] | None = None,
  ) -> Float[Array, 'B T D']:
    """ln_e(wte[y_t] + wpe[t] + wtt[type_t]); without types, all are 0."""
    length = tokens.shape[1]
    if length > self.positions:
      raise ValueError(
        f'{length} tokens do not fit in {self.positions} positions: shorten '
        'pipeline.lengths'
      )
    if types is None:
      types = jnp.zeros_like(tokens)
    h = self.wte(tokens) + self.wpe(jnp.arange(length))[None] + self.wtt(types)
    return self.ln_e(h)

  def blocks(
    self,
    h: Float[Array, 'B T D'],
    mask: kernels.Mask,
    deterministic: bool = True,
  ) -> Float[Array, 'B T D']:
    """All blocks, from embeddings, under any mask."""
    h = self.drop(h, deterministic=deterministic)
    return layers_lib.through(
      self, self.h, h, mask, (None, None), deterministic, self.execution
    )

  def pool(self, states: Float[Array, 'B T D']) -> Float[Array, 'B D']:
    """tanh(W h_0 + b): BERT's own reading of its first state."""
    return jnp.tanh(self.pooler(states[:, 0]))
