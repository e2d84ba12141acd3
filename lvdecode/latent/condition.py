"""How a condition reaches the decoder besides through z."""

import dataclasses
from typing import NamedTuple

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lvdecode import errors
from lvdecode.latent import gaussian
from lvdecode.nn import attention
from lvdecode.nn import context as contexts
from lvdecode.text import pipeline

ROUTES = ('prefix', 'memory', 'cross')
INITS = ('normal', 'zero')


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConditionSettings:
  """How the decoder is given x.

  Attributes:
    routes: any of 'prefix' (its tokens in front of the text's, in one causal
      sequence), 'memory' (a slot for each of its encoder states, pseudo
      self-attention) and 'cross' (a sub-layer of attention to these states,
      both Ziegler et al. 2019). With none the decoder knows x by z alone.
    segments: how many parts of a condition are told apart by an embedding,
      beside that of the text; later parts are as the last. 0: none.
    share: whether 'memory' and 'cross' take the states of the posterior's
      encoder, or of one of their own.
    init: 'normal', or 'zero': 'cross' adds nothing before the first step, and
      the slots of 'memory' take a share of the attention only.
  """

  routes: tuple[str, ...]
  segments: int
  share: bool
  init: str

  def __post_init__(self):
    for route in self.routes:
      errors.one_of('model.condition.routes', route, ROUTES)
    errors.distinct('model.condition.routes', self.routes, 'route')
    errors.at_least('model.condition.segments', self.segments, 0)
    errors.one_of('model.condition.init', self.init, INITS)

  @property
  def encoded(self) -> bool:
    """Whether the decoder is given states of x."""
    return bool({'memory', 'cross'} & set(self.routes))


class Given(NamedTuple):
  """All that is known before the text is: no token of it is in here.

  Attributes:
    prior: [B, Z], p(z | x); N(0, I) where it is not learned.
    condition: x; None for a model that is given nothing.
    states: [B, S, D], of the encoder that reads x for the decoder; None where
      no route needs them.
  """

  prior: gaussian.Gaussian
  condition: pipeline.Condition | None = None
  states: Float[Array, 'B S D'] | None = None


class Routes(nn.Module):
  """States of x -> keys and values, for a decoder of the given sizes."""

  settings: ConditionSettings
  layers: int
  heads: int
  width: int

  @nn.compact
  def __call__(
    self, states: Float[Array, 'B S D'], visible: Bool[Array, 'B S']
  ) -> tuple[attention.Memory | None, contexts.Context | None]:
    """All layers' memory and context, where they are among the routes."""
    seen = jnp.broadcast_to(visible[None], (self.layers, *visible.shape))
    memory = context = None
    if 'memory' in self.settings.routes:
      keys, values = self._keys_values('memory', states, self._init())
      memory = attention.Memory(keys, values, seen)
    if 'cross' in self.settings.routes:
      context = self._context(states, seen)
    return memory, context

  def _init(self, std=attention.INIT_STD):
    if self.settings.init == 'zero':
      return nn.initializers.zeros
    return nn.initializers.normal(std)

  def _keys_values(self, name, states, init):
    """[k; v] = W_l s + b_l of each state s and layer l."""
    shape = (2, self.heads, self.width // self.heads)
    kernel = self.param(
      f'{name}_kernel', init, (self.layers, states.shape[-1], *shape)
    )
    bias = self.param(
      f'{name}_bias', nn.initializers.zeros, (self.layers, *shape)
    )
    both = jnp.einsum('bsd,ldchk->clbshk', states, kernel.astype(states.dtype))
    both = both + jnp.moveaxis(bias, 0, 1)[:, :, None, None].astype(both.dtype)
    return both[0], both[1]

  def _context(self, states, seen):
    """Begins as a sub-layer of GPT-2 does, or by adding nothing."""
    zeros, ones = nn.initializers.zeros, nn.initializers.ones
    normal = nn.initializers.normal(attention.INIT_STD)
    layers, width = self.layers, self.width
    head = (self.heads, width // self.heads)
    keys, values = self._keys_values('cross', states, normal)
    # Three sub-layers of a block add to the residual stream.
    out = self._init(attention.INIT_STD / (3 * layers) ** 0.5)
    return contexts.Context(
      scale=self.param('cross_scale', ones, (layers, width)),
      shift=self.param('cross_norm_bias', zeros, (layers, width)),
      query=self.param('cross_query', normal, (layers, width, *head)),
      query_bias=self.param('cross_query_bias', zeros, (layers, *head)),
      keys=keys,
      values=values,
      visible=seen,
      out=self.param('cross_out', out, (layers, *head, width)),
      out_bias=self.param('cross_out_bias', zeros, (layers, width)),
    )


def both(
  z: attention.Memory | None, x: attention.Memory | None
) -> attention.Memory | None:
  """All layers' memory of z, and that of the condition behind it."""
  if z is None or x is None:
    return x if z is None else z
  layers, batch, slots = x.keys.shape[:3]
  visible = z.visible
  if visible is None:
    visible = jnp.ones((1, 1, 1), bool)
  shape = (layers, batch, z.keys.shape[2])
  score = z.score
  if score is not None:
    score = jnp.pad(score, ((0, 0), (0, 0), (0, slots)))
  assert x.visible is not None and x.score is None  # as `Routes` makes it
  return attention.Memory(
    jnp.concatenate([z.keys, x.keys.astype(z.keys.dtype)], axis=2),
    jnp.concatenate([z.values, x.values.astype(z.values.dtype)], axis=2),
    jnp.concatenate([jnp.broadcast_to(visible, shape), x.visible], axis=2),
    score,
  )
