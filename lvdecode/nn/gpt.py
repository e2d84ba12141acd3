"""GPT-2, with the places where something may be injected."""

from typing import NamedTuple

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lvdecode.nn import attention
from lvdecode.nn import context as contexts
from lvdecode.nn import dropout as dropout_lib
from lvdecode.nn import kernels
from lvdecode.nn import layers as layers_lib
from lvdecode.nn import transformer
from lvdecode.nn import vocabulary


class Prefix(NamedTuple):
  """What stands in front of the tokens, in the decoder's own sequence.

  Every token sees it, it sees none of them, and they take the positions behind
  it. Positions count what is visible: padding takes none.

  Attributes:
    embedding: [B, S, D], in the place of tokens' embeddings.
    visible: [B, S], False at padding.
  """

  embedding: Float[Array, 'B S D']
  visible: Bool[Array, 'B S']


class Injected(NamedTuple):
  """What a decoder is told, by the place where it enters.

  The decoder reads it and owns none of its weights; with `Injected()` it is
  GPT-2, parameter for parameter.

  Attributes:
    embedding: [B, D], added to every token's embedding.
    memory: keys and values [L, B, M, H, K] in front of the sequence.
    fusion: bends the last hidden states before the vocabulary head.
    logits: [B, V], added to the logits of every position.
    prefix: stands in front of the tokens and takes their first positions.
    context: [L, ...], a sub-layer of each block.
  """

  embedding: Float[Array, 'B D'] | None = None
  memory: attention.Memory | None = None
  fusion: vocabulary.Fusion | None = None
  logits: Float[Array, 'B V'] | None = None
  prefix: Prefix | None = None
  context: contexts.Context | None = None


NOTHING = Injected()


class Cache(NamedTuple):
  """Keys and values of the tokens so far, the memory at their head.

  Attributes:
    layers: one cache a layer.
    written: filled slots, the memory's included.
    position: tokens so far: the next token's position, of each text where a
      prefix of its own length is in front.
  """

  layers: tuple[attention.LayerCache, ...]
  written: Int[Array, '']
  position: Int[Array, '*B']


class GPT(nn.Module):
  """A stack of GPT-2 blocks between a tied embedding and vocabulary head.

  The same class serves as a bidirectional encoder: pass another mask than
  the causal one. Parameters have GPT-2's names and layouts (`wte`, `wpe`,
  `h_0/attn/c_attn` [D, 3 D], …, `ln_f`). The embedding's rows are `vocab_size`
  rounded up to a multiple of `vocab_multiple`; what is behind is no token.
  """

  vocab_size: int
  vocab_multiple: int
  positions: int
  layers: int
  heads: int
  width: int
  inner: int  # of the MLPs; GPT-2's is 4 width
  dropout: float
  activation: str  # of transformer.ACTIVATIONS; GPT-2's is 'gelu_tanh'
  epsilon: float  # of the layer norms; GPT-2's is 1e-5
  dtype: jnp.dtype
  execution: layers_lib.Execution = layers_lib.PLAIN

  def setup(self):
    normal = nn.initializers.normal(attention.INIT_STD)
    self.wte = nn.Embed(self.rows, self.width, embedding_init=normal)
    self.wpe = nn.Embed(self.positions, self.width, embedding_init=normal)
    self.h = [
      transformer.Block(
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
    self.ln_f = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype)
    self.drop = dropout_lib.Dropout(self.dropout)

  @property
  def rows(self) -> int:
    """Of the embedding; they are at least `vocab_size`."""
    return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple

  def __call__(
    self,
    tokens: Int[Array, 'B T'],
    injected: Injected = NOTHING,
    deterministic: bool = True,
  ) -> Float[Array, 'B T D']:
    """Hidden states behind `ln_f`, each seeing the tokens up to its own."""
    length, prefix = tokens.shape[1], injected.prefix
    mask: kernels.Mask = kernels.CAUSAL
    if prefix is None:
      h = self.embed(tokens, injected)
    else:
      own = self.embed(tokens, injected, _count(prefix))
      h = jnp.concatenate([self._front(prefix), own], axis=1)
      self._check_room(h.shape[1])
      seen = _behind(prefix, length)
      mask = attention.causal(h.shape[1]) & attention.padding(seen)
    hidden = self.blocks(
      h, mask, injected.memory, deterministic, injected.context
    )
    return hidden[:, -length:]

  def embed(
    self,
    tokens: Int[Array, 'B T'],
    injected: Injected = NOTHING,
    position: int | Int[Array, '*B'] = 0,
  ) -> Float[Array, 'B T D']:
    """h0_t = wte[y_t] + wpe[t] + embedding, the first token at `position`."""
    length = tokens.shape[1]
    self._check_room(length)
    first = jnp.reshape(jnp.asarray(position), (-1, 1))
    h = self.wte(tokens) + self.wpe(first + jnp.arange(length)[None])
    if injected.embedding is not None:
      h = h + injected.embedding[:, None, :]
    return h.astype(self.dtype)

  def place(
    self, embedding: Float[Array, 'B T D'], visible: Bool[Array, 'B T']
  ) -> Float[Array, 'B T D']:
    """embedding + wpe[t], where t counts what is visible."""
    self._check_room(visible.shape[1])
    h = embedding + self.wpe(attention.counted(visible))
    return h.astype(self.dtype)

  def blocks(
    self,
    h: Float[Array, 'B T D'],
    mask: kernels.Mask,
    memory: attention.Memory | None = None,
    deterministic: bool = True,
    context: contexts.Context | None = None,
  ) -> Float[Array, 'B T D']:
    """All blocks and `ln_f`, from embeddings, under any mask."""
    h = self.drop(h, deterministic=deterministic)
    h = layers_lib.through(
      self, self.h, h, mask, (memory, context), deterministic, self.execution
    )
    return self.ln_f(h)

  def start(self, injected: Injected, batch: int, length: int) -> Cache:
    """A cache for `length` tokens, the memory and the prefix written once."""
    memory, prefix, slots, seen = injected.memory, injected.prefix, 0, None
    if prefix is not None:
      seen = _behind(prefix, length)
      length = seen.shape[1]
    self._check_room(length)
    if memory is not None:
      slots = memory.keys.shape[2]
    layers = tuple(
      attention.start_cache(
        None if memory is None else memory.layer(index),
        batch,
        length,
        self.heads,
        self.width,
        self.dtype,
        seen,
      )
      for index in range(self.layers)
    )
    cache = Cache(layers, jnp.asarray(slots), jnp.asarray(0))
    if prefix is None:
      return cache
    _, layers = self._extend(self._front(prefix), injected, cache)
    slots += prefix.visible.shape[1]
    return Cache(layers, jnp.asarray(slots), _count(prefix))

  def extend(
    self,
    tokens: Int[Array, 'B T'],
    injected: Injected,
    cache: Cache,
  ) -> tuple[Float[Array, 'B T D'], Cache]:
    """Hidden states of T further tokens, and the cache with them added."""
    h = self.embed(tokens, injected, cache.position)
    h, layers = self._extend(h, injected, cache)
    length = tokens.shape[1]
    cache = Cache(layers, cache.written + length, cache.position + length)
    return self.ln_f(h), cache

  def _extend(self, h, injected, cache):
    """The states behind all blocks, and every layer's cache with them added."""
    layers = []
    for index, (block, layer) in enumerate(
      zip(self.h, cache.layers, strict=True)
    ):
      context = injected.context
      told = None if context is None else context.layer(index)
      h, layer = block.extend(h, layer, cache.written, told)
      layers.append(layer)
    return h, tuple(layers)

  def _front(self, prefix: Prefix) -> Float[Array, 'B S D']:
    return self.place(prefix.embedding, prefix.visible)

  def head(self, injected: Injected = NOTHING) -> vocabulary.Head:
    """What turns hidden states into logits; see nn/vocabulary.py."""
    padded = self.rows > self.vocab_size
    return vocabulary.Head(
      embedding=self.wte.embedding,
      fusion=injected.fusion,
      shift=injected.logits,
      words=self.vocab_size if padded else None,
    )

  def _check_room(self, length: int) -> None:
    if length > self.positions:
      raise ValueError(
        f'{length} tokens do not fit in {self.positions} positions: raise '
        'decoder.positions or shorten pipeline.lengths'
      )


def _count(prefix: Prefix) -> Int[Array, ' B']:
  """The positions that are taken."""
  return jnp.sum(prefix.visible, axis=1, dtype=jnp.int32)


def _behind(prefix: Prefix, length: int) -> Bool[Array, 'B S']:
  """Which places are seen by those behind: all of `length` more tokens."""
  room = ((0, 0), (0, length))
  return jnp.pad(prefix.visible, room, constant_values=True)
