"""Where z enters the decoder: one branch a point, each owning its weights."""

import dataclasses
from typing import Any, NamedTuple

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from lvdecode import errors
from lvdecode.nn import attention
from lvdecode.nn import gpt
from lvdecode.nn import vocabulary

# Where z enters, and the field of `gpt.Injected` by which it does.
FIELDS = {
  'input': 'embedding',
  'memory': 'memory',
  'softmax': 'logits',
  'fuse': 'fusion',
}
POINTS = tuple(FIELDS)
INITS = ('normal', 'zero')


@dataclasses.dataclass(frozen=True, kw_only=True)
class InjectionSettings:
  """How the decoder is told z.

  Attributes:
    points: any subset of POINTS; none makes a plain language model.
    init: 'normal' (what z adds starts at the size of what it is added to: a
      token's embedding, a token's keys and values), or 'zero': z has no
      effect before the first step, and apart from `fuse` (whose tanh bends
      the hidden states) and `memory` (whose slots take a share of the
      attention: see memory_score) the model then is the plain language model.
    memory_slots: M, slots a layer.
    memory_layers: the decoder layers that have memory; () for all.
    memory_tied: the same vector is key and value, without bias (OPTIMUS).
    memory_score: start of a learned bias on the slots' scores, one a layer,
      head and slot (Ziegler et al. 2019: -10 keeps an untrained memory
      silent); None for no bias.
    softmax_rank: rank of z's map to the vocabulary; 0 for full.
  """

  points: tuple[str, ...]
  init: str
  memory_slots: int
  memory_layers: tuple[int, ...]
  memory_tied: bool
  memory_score: float | None
  softmax_rank: int

  def __post_init__(self):
    for point in self.points:
      errors.one_of('model.injection.points', point, POINTS)
    errors.distinct('model.injection.points', self.points, 'point')
    errors.one_of('model.injection.init', self.init, INITS)
    errors.at_least('model.injection.memory_slots', self.memory_slots, 1)
    errors.at_least('model.injection.softmax_rank', self.softmax_rank, 0)
    errors.distinct(
      'model.injection.memory_layers', self.memory_layers, 'layer'
    )

  @property
  def softmax_alone(self) -> bool:
    """Whether the decoder's states are the same for every z."""
    return set(self.points) == {'softmax'}


class Injection(nn.Module):
  """z [B, Z] -> Injected, for a decoder of the given sizes."""

  settings: InjectionSettings
  layers: int
  heads: int
  width: int
  vocab_size: int

  @nn.compact
  def __call__(self, z: Float[Array, 'B Z']) -> gpt.Injected:
    points = self.settings.points
    return gpt.Injected(
      embedding=self._embedding(z) if 'input' in points else None,
      memory=self._memory(z) if 'memory' in points else None,
      fusion=self._fusion(z) if 'fuse' in points else None,
      logits=self._logits(z) if 'softmax' in points else None,
    )

  def _init(self, std=attention.INIT_STD):
    if self.settings.init == 'zero':
      return nn.initializers.zeros
    return nn.initializers.normal(std)

  def _embedding(self, z):
    """W_in z, without bias (Cheng et al. 2019; OPTIMUS "embedding")."""
    init = self._init(attention.INIT_STD * z.shape[-1] ** -0.5)
    return nn.Dense(self.width, use_bias=False, kernel_init=init, name='input')(
      z
    )

  def _memory(self, z):
    """z -> z_l -> [k_z; v_z] = W_l z_l + b_l (Ziegler; TransformerCVAE).

    With `memory_tied`, k_z = v_z = W_l z (OPTIMUS). Layers without memory get
    slots that nobody sees.
    """
    settings = self.settings
    told = settings.memory_layers or tuple(range(self.layers))
    slots, head = settings.memory_slots, self.width // self.heads
    size = (len(told), slots, self.heads, head)
    if settings.memory_tied:
      init = self._init(attention.INIT_STD * (self.width / z.shape[-1]) ** 0.5)
      kernel = self.param('memory_kernel', init, (z.shape[-1], *size))
      keys = values = jnp.einsum('bz,zlmhk->lbmhk', z, kernel)
    else:
      # Unit variance, as the normalised states that tokens' keys come from.
      slices = nn.DenseGeneral(
        (len(told), slots, self.width),
        kernel_init=nn.initializers.normal(z.shape[-1] ** -0.5),
        name='memory_slices',
      )(z)
      kernel = self.param(
        'memory_kernel',
        self._init(),
        (len(told), self.width, 2, self.heads, head),
      )
      bias = self.param(
        'memory_bias',
        nn.initializers.zeros,
        (len(told), 2, self.heads, head),
      )
      both = jnp.einsum('blmd,ldchk->clbmhk', slices, kernel)
      both = both + jnp.moveaxis(bias, 0, 1)[:, :, None, None]
      keys, values = both[0], both[1]
    score = None
    if settings.memory_score is not None:
      score = self.param(
        'memory_score',
        nn.initializers.constant(settings.memory_score),
        (len(told), self.heads, slots),
      )
    return self._at_layers(told, keys, values, score)

  def _at_layers(self, told, keys, values, score):
    """Puts the memory of some layers at their place among all of them."""
    if len(told) == self.layers:
      order = jnp.argsort(jnp.asarray(told))
      score = None if score is None else score[order]
      return attention.Memory(keys[order], values[order], None, score)

    def place(x):
      empty = jnp.zeros((self.layers, *x.shape[1:]), x.dtype)
      return empty.at[jnp.asarray(told)].set(x)

    visible = place(jnp.ones((len(told), 1, keys.shape[2]), bool))
    score = None if score is None else place(score)
    return attention.Memory(place(keys), place(values), visible, score)

  def _logits(self, z):
    """W_s z (TransformerCVAE "softmax")."""
    if self.settings.softmax_rank:
      z = nn.Dense(
        self.settings.softmax_rank,
        use_bias=False,
        kernel_init=nn.initializers.normal(z.shape[-1] ** -0.5),
        name='softmax_down',
      )(z)
    return nn.Dense(self.vocab_size, kernel_init=self._init(), name='softmax')(
      z
    )

  def _fusion(self, z):
    """tanh([z; h_t] W_c): W_c's two halves (Wang & Wan 2019, T-CVAE)."""
    kernel = self.param(
      'fuse_hidden',
      nn.initializers.normal(self.width**-0.5),
      (self.width, self.width),
    )
    shift = nn.Dense(
      self.width, use_bias=False, kernel_init=self._init(), name='fuse_z'
    )(z)
    bias = self.param('fuse_bias', nn.initializers.zeros, (self.vocab_size,))
    return vocabulary.Fusion(kernel, shift, bias)


def only(injected: gpt.Injected, points: tuple[str, ...]) -> gpt.Injected:
  """What is told when these points alone speak; the others are knocked out.

  A point that is knocked out leaves the decoder as it is without it: its field
  becomes None. Of `fuse` only z's part goes; what it does to the hidden states
  belongs to the decoder that was trained with it.
  """
  silent: dict[str, Any] = {
    field: None for point, field in FIELDS.items() if point not in points
  }
  fusion = injected.fusion
  if fusion is not None and 'fuse' not in points:
    silent['fusion'] = fusion._replace(shift=jnp.zeros_like(fusion.shift))
  return injected._replace(**silent)


class Past(NamedTuple):
  """A memory as Hugging Face's GPT-2 takes it: keys and values already there.

  Attributes:
    layers: keys and values [B, H, M, K] of each layer, `past_key_values`.
    score: [L, b, H, M] with b one or B, added to the scaled scores of the slots,
      -inf where a layer does not see a slot; None where nothing is added and
      `layers` is all there is to tell.
  """

  layers: tuple[tuple[np.ndarray, np.ndarray], ...]
  score: Float[np.ndarray, 'L b H M'] | None


def past(memory: attention.Memory) -> Past:
  """All layers' memory [L, B, M, H, K] in that layout."""
  keys, values = (
    np.swapaxes(np.asarray(x, np.float32), 2, 3)
    for x in (memory.keys, memory.values)
  )
  layers = tuple(zip(keys, values, strict=True))
  if memory.score is None and memory.visible is None:
    return Past(layers, None)
  score = np.zeros((len(keys), 1, *keys.shape[2:4]), np.float32)
  if memory.score is not None:
    score = score + np.asarray(memory.score)[:, None]
  if memory.visible is not None:
    seen = np.asarray(memory.visible)[:, :, None, :]
    score = np.where(seen, score, np.float32(-np.inf))
  return Past(layers, score)
