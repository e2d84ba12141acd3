"""Multi-head attention; a variant is a choice of keys and of mask.

Axis letters of the whole project: B batch, T queries (positions), S keys,
L layers, H heads, K head width, D = H K model width, V vocabulary, Z latent
size, M memory slots.
"""

from typing import NamedTuple

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lvdecode.nn import kernels

INIT_STD = 0.02  # GPT-2's standard deviation of every weight matrix.


class Memory(NamedTuple):
  """Keys and values in front of the sequence (pseudo self-attention).

  The same tuple holds one layer's memory, or all layers' with a leading L.
  Slots are visible to every query, whatever its position, and take no
  position of their own (Ziegler et al. 2019, section 3).

  Attributes:
    keys: [B, M, H, K].
    values: [B, M, H, K].
    visible: [B, M], False where a slot does not exist (padding of an encoded
      source, or a layer without memory); None when all slots exist.
    score: [H, M], added to the scaled scores of the slots; None for zero.
  """

  keys: Float[Array, '*L B M H K']
  values: Float[Array, '*L B M H K']
  visible: Bool[Array, '*L B M'] | None = None
  score: Float[Array, '*L H M'] | None = None

  def layer(self, index: int) -> 'Memory':
    return jax.tree.map(lambda leaf: leaf[index], self)


class LayerCache(NamedTuple):
  """One layer's keys and values so far; its memory lies in the first slots.

  Heads come before slots, so that a step of decoding reads them as they lie.

  Attributes:
    keys: [B, H, S, K] with S = memory slots + the longest sequence.
    values: [B, H, S, K].
    visible: [B, S] or None, as in `Memory`, True behind the memory.
    score: [H, S] or None, as in `Memory`, 0 behind the memory.
  """

  keys: Float[Array, 'B H S K']
  values: Float[Array, 'B H S K']
  visible: Bool[Array, 'B S'] | None
  score: Float[Array, 'H S'] | None


def causal(length: int) -> Bool[Array, '1 1 T T']:
  """A query sees the keys up to its own position."""
  return jnp.tril(jnp.ones((1, 1, length, length), bool))


def counted(visible: Bool[Array, 'B T']) -> Int[Array, 'B T']:
  """The position of each, counting what is visible before it."""
  places = jnp.cumsum(visible, axis=1) - visible
  return places.astype(jnp.int32)


def padding(visible: Bool[Array, 'B S']) -> Bool[Array, 'B 1 1 S']:
  """Every query sees the keys that exist."""
  return visible[:, None, None, :]


def behind_memory(
  mask: Bool[Array, 'b 1 t T'], memory: Memory
) -> Bool[Array, 'c 1 t S']:
  """Extends a mask over T keys to S = M + T keys, the memory in front."""
  slots = memory.keys.shape[-3]
  if memory.visible is None:
    seen = jnp.ones((mask.shape[0], 1, mask.shape[2], slots), bool)
    return jnp.concatenate([seen, mask], axis=-1)
  # Either may be one for all rows: a causal mask, or layers without slots.
  batch = max(mask.shape[0], memory.visible.shape[0])
  shape = (batch, 1, mask.shape[2])
  seen = jnp.broadcast_to(memory.visible[:, None, None, :], (*shape, slots))
  mask = jnp.broadcast_to(mask, (*shape, mask.shape[3]))
  return jnp.concatenate([seen, mask], axis=-1)


def start_cache(
  memory: Memory | None,
  batch: int,
  length: int,
  heads: int,
  width: int,
  dtype,
  seen: Bool[Array, 'B T'] | None = None,
) -> LayerCache:
  """An empty cache for `length` tokens, the memory written at its head.

  `seen` says which of the tokens will be seen by others; None for all.
  """
  shape = (batch, heads, length, width // heads)
  if memory is None:
    zeros = jnp.zeros(shape, dtype)
    return LayerCache(zeros, zeros, seen, None)
  visible, score = memory.visible, memory.score
  if visible is None and seen is not None:
    visible = jnp.ones((batch, memory.keys.shape[1]), bool)
  if visible is not None:
    visible = jnp.broadcast_to(visible, (batch, visible.shape[1]))
    if seen is None:
      seen = jnp.ones((batch, length), bool)
    visible = jnp.concatenate([visible, seen], axis=1)
  if score is not None:
    score = jnp.pad(score, ((0, 0), (0, length)))
  room = ((0, 0), (0, 0), (0, length), (0, 0))
  return LayerCache(
    jnp.pad(jnp.swapaxes(memory.keys, 1, 2).astype(dtype), room),
    jnp.pad(jnp.swapaxes(memory.values, 1, 2).astype(dtype), room),
    visible,
    score,
  )


class SelfAttention(nn.Module):
  """GPT-2's attention layer, with optional memory or cache.

  softmax(Q K'^T / sqrt(K)) V' with K' = [k_z; K], V' = [v_z; V] where there
  is memory (Ziegler et al. 2019). The softmax is taken in float32.

  A caller who makes `intermediates` mutable finds `memory_mass` [B, H, T, M]
  there, the share of each query's attention that goes to each slot. It costs
  nothing when it is not asked for.
  """

  heads: int
  width: int
  layers: int  # of the whole stack: scales the residual projection's init
  dtype: jnp.dtype
  kernel: str = 'auto'  # of kernels.ATTENTION

  def setup(self):
    normal = nn.initializers.normal
    self.c_attn = nn.Dense(
      3 * self.width,
      dtype=self.dtype,
      kernel_init=normal(INIT_STD),
      dot_general=kernels.flat_dot,
    )
    self.c_proj = nn.Dense(
      self.width,
      dtype=self.dtype,
      kernel_init=normal(INIT_STD / (2 * self.layers) ** 0.5),
      dot_general=kernels.flat_dot,
    )

  def __call__(
    self,
    x: Float[Array, 'B T D'],
    mask: kernels.Mask,
    memory: Memory | None = None,
  ) -> Float[Array, 'B T D']:
    """Attends within the sequence and to the memory in front of it."""
    q, k, v = self._project(x)
    bias = None
    if memory is not None:
      # What sees all that is in front is not told of it.
      if memory.visible is not None or not isinstance(mask, kernels.PATTERNS):
        mask = kernels.as_array(mask, x.shape[1], x.shape[1])
        mask = behind_memory(mask, memory)
      if memory.score is not None:
        room = ((0, 0), (0, k.shape[1]))
        bias = jnp.pad(memory.score, room)[None, :, None, :]
      k = jnp.concatenate([memory.keys.astype(k.dtype), k], axis=1)
      v = jnp.concatenate([memory.values.astype(v.dtype), v], axis=1)
      if self.is_mutable_collection('intermediates'):
        shares = _shares(q, k, mask, bias)[..., : memory.keys.shape[1]]
        self.sow('intermediates', 'memory_mass', shares)
    return self._attend(q, k, v, mask, bias)

  def extend(
    self,
    x: Float[Array, 'B T D'],
    cache: LayerCache,
    written: Int[Array, ''],
  ) -> tuple[Float[Array, 'B T D'], LayerCache]:
    """Attends to the cache after adding T tokens behind its first `written`.

    `written` counts filled slots, the memory's included.
    """
    q, k, v = self._project(x)
    start = (0, 0, written, 0)
    k, v = jnp.swapaxes(k, 1, 2), jnp.swapaxes(v, 1, 2)
    keys = lax.dynamic_update_slice(cache.keys, k, start)
    values = lax.dynamic_update_slice(cache.values, v, start)
    last = written + jnp.arange(x.shape[1])
    mask = (jnp.arange(keys.shape[2])[None, :] <= last[:, None])[None, None]
    if cache.visible is not None:
      mask = mask & padding(cache.visible)
    bias = None if cache.score is None else cache.score[None, :, None, :]
    out = kernels.attend_cached(q, keys, values, mask, bias)
    return self._joined(out), cache._replace(keys=keys, values=values)

  def _project(self, x):
    shape = (*x.shape[:2], 3, self.heads, self.width // self.heads)
    qkv = self.c_attn(x).reshape(shape)
    return qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]

  def _attend(self, q, k, v, mask, bias):
    return self._joined(kernels.attend(q, k, v, mask, bias, self.kernel))

  def _joined(self, out):
    return self.c_proj(out.reshape(*out.shape[:2], self.width))


def _shares(q, k, mask, bias) -> Float[Array, 'B H T S']:
  """The attention's shares, which the fused kernels do not give away."""
  scores = jnp.einsum(
    'bthk,bshk->bhts', q, k, preferred_element_type=jnp.float32
  )
  scores = scores * q.shape[-1] ** -0.5
  mask = kernels.as_array(mask, q.shape[1], k.shape[1])
  if bias is not None:
    scores = scores + bias
  return jax.nn.softmax(jnp.where(mask, scores, -jnp.inf), axis=-1)
