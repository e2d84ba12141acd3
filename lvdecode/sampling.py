"""Text from latents: one compiled loop with a key-value cache."""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key
import numpy as np

from lvdecode import errors
from lvdecode.latent import condition as conditions
from lvdecode.latent import vae
from lvdecode.nn import gpt

METHODS = ('greedy', 'sample')
_ROUNDING = 1e-4  # of a sum of probabilities, generously


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
  """How the next token is chosen.

  Attributes:
    method: 'greedy' (the rest must be as it is by default), or 'sample'.
    temperature: divides the logits before the cuts.
    top_k: keep the k best tokens; 0 for all.
    top_p: keep the best tokens up to and including the one with which their
      probability reaches p (Holtzman et al. 2020); 1 for all.
  """

  method: str = 'greedy'
  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0

  def __post_init__(self):
    errors.one_of('method', self.method, METHODS)
    if not 1e-3 <= self.temperature <= 1e3:
      raise errors.UserError(
        f'temperature = {self.temperature}: it must be in [0.001, 1000] '
        '(method=greedy takes the best token)'
      )
    errors.at_least('top_k', self.top_k, 0)
    if not 0 < self.top_p <= 1:
      raise errors.UserError(f'top_p = {self.top_p}: it must be in (0, 1]')
    for key, off in (('temperature', 1.0), ('top_k', 0), ('top_p', 1.0)):
      if self.method == 'greedy' and getattr(self, key) != off:
        raise errors.UserError(
          f'{key} = {getattr(self, key)}: greedy takes the best token always, '
          "make the method 'sample'"
        )


class _Loop(NamedTuple):
  step: Int[Array, '']
  tokens: Int[Array, 'B T']  # BOS first, `pad` where nothing is written yet
  ended: jax.Array  # [B] bool
  cache: gpt.Cache


@functools.partial(
  jax.jit,
  static_argnames=('model', 'rules', 'length', 'bos', 'eos', 'pad', 'banned'),
)
def generate(
  model: vae.VAE,
  params: dict,
  z: Float[Array, 'B Z'],
  keys: Key[Array, ' B'],
  *,
  rules: Rules,
  length: int,
  bos: int,
  eos: int,
  pad: int,
  banned: tuple[int, ...] = (),
  given: conditions.Given | None = None,
) -> Int[Array, 'B T']:
  """Tokens [B, length] of each z: BOS y_1 .. EOS PAD ...

  Ends when every text has ended, and at `length` tokens always. What is drawn
  for a row depends on its own key alone. Tokens in `banned` are never chosen
  (padding and the like). `given` is what a conditional model takes, by
  `VAE.given` and of as many rows; the text alone is returned.
  """
  batch = z.shape[0]
  apply: Any = functools.partial(model.apply, {'params': params})
  injected, cache = apply(z, length, given, method='start')
  tokens = jnp.full((batch, length), pad, jnp.int32).at[:, 0].set(bos)

  def going_on(loop):
    return (loop.step < length - 1) & ~jnp.all(loop.ended)

  def one_token(loop):
    last = lax.dynamic_slice_in_dim(loop.tokens, loop.step, 1, axis=1)
    scores, cache = apply(last, injected, loop.cache, method='extend')
    if banned:
      scores = scores.at[:, jnp.asarray(banned)].set(-jnp.inf)
    step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, loop.step)
    chosen = jnp.where(loop.ended, pad, choose(scores, step_keys, rules))
    tokens = lax.dynamic_update_slice_in_dim(
      loop.tokens, chosen[:, None], loop.step + 1, axis=1
    )
    ended = loop.ended | (chosen == eos)
    return _Loop(loop.step + 1, tokens, ended, cache)

  start = _Loop(jnp.asarray(0), tokens, jnp.zeros(batch, bool), cache)
  return lax.while_loop(going_on, one_token, start).tokens


def choose(
  scores: Float[Array, 'B V'], keys: jax.Array, rules: Rules
) -> Int[Array, ' B']:
  """The next token of each row; one key a row."""
  if rules.method == 'greedy':
    return _first(scores == jnp.max(scores, axis=-1, keepdims=True))
  return draw(cut(scores / rules.temperature, rules), keys)


def draw(scores: Float[Array, 'B V'], keys: jax.Array) -> Int[Array, ' B']:
  """A token of each row by softmax(scores).

  By the inverse of the distribution function, of blocks of tokens and then
  within the block: two random numbers a row in the place of V of them, which on
  a CPU take longer than the rest of the step.
  """
  batch, vocab_size = scores.shape
  size = math.isqrt(vocab_size - 1) + 1
  weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
  weights = jnp.pad(weights, ((0, 0), (0, size**2 - vocab_size)))
  blocks = weights.reshape(batch, size, size)
  where = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(keys)
  block = _drawn(jnp.sum(blocks, axis=2), where[:, 0])
  chosen = jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]
  return block * size + _drawn(chosen, where[:, 1])


def _drawn(weights, where):
  """The first index at which the running sum exceeds its share `where`.

  The last of any weight where rounding lets none exceed it.
  """
  total = jnp.cumsum(weights, axis=-1)
  above = total > where[:, None] * total[:, -1:]
  places = jnp.arange(weights.shape[-1], dtype=jnp.int32)[None, :]
  last = jnp.max(jnp.where(weights > 0, places, 0), axis=-1)
  return jnp.minimum(_first(above & (weights > 0)), last)


def _first(true: jax.Array) -> Int[Array, ' B']:
  """The first index of each row that is True, the last one where none is."""
  places = jnp.arange(true.shape[-1], dtype=jnp.int32)[None, :]
  return jnp.min(jnp.where(true, places, true.shape[-1] - 1), axis=-1)


def cut(scores: Float[Array, 'B V'], rules: Rules) -> Float[Array, 'B V']:
  """-inf for every token that top_k and then top_p leave out."""
  vocab_size = scores.shape[-1]
  if 0 < rules.top_k < vocab_size:
    least = lax.top_k(scores, rules.top_k)[0][:, -1:]
    scores = jnp.where(scores < least, -jnp.inf, scores)
  if rules.top_p < 1:
    scores = jnp.where(_nucleus(scores, rules.top_p), scores, -jnp.inf)
  return scores


def _nucleus(scores, p):
  """[B, V], True for the tokens before which less than p is reached.

  Without sorting: halving finds the least probability that is kept, by the bits
  of the numbers, which are in their order; then how far its equals are. V
  tokens of (1 - p) / V or less have no more than 1 - p together, so that the
  least is not looked for below half of that, less what sums are rounded by.
  """
  vocab_size = scores.shape[-1]
  shares = jax.nn.softmax(scores, axis=-1)
  bits = lax.bitcast_convert_type(shares, jnp.int32)
  one = int(np.float32(1).view(np.int32))
  rare = max(0.0, 1 - p - _ROUNDING) / (2 * vocab_size)
  low = int(np.float32(rare).view(np.int32))

  def better(least):  # the mass of what is strictly above
    above = bits > least[:, None]
    return jnp.sum(jnp.where(above, shares, 0.0), axis=-1)

  highest = jnp.max(bits, axis=-1)
  least = _halved(
    lambda x: better(x) < p, jnp.full_like(highest, low), highest, one - low
  )
  equal = bits == least[:, None]
  share = lax.bitcast_convert_type(least, jnp.float32)
  room = jnp.ceil((p - better(least)) / jnp.maximum(share, 1e-38))
  places = jnp.arange(scores.shape[-1], dtype=jnp.int32)[None, :]

  def enough(last):
    return jnp.sum(equal & (places <= last[:, None]), axis=-1) >= room

  ends = jnp.full_like(least, vocab_size - 1)
  last = _halved(enough, jnp.zeros_like(least), ends, vocab_size)
  return (bits > least[:, None]) | (equal & (places <= last[:, None]))


def _halved(holds, low, high, most):
  """The least integer of each row in [low, high] that holds; else high.

  `most` is the largest high - low that there can be.
  """

  def step(_, ends):
    low, high = ends
    middle = low + (high - low) // 2
    true = holds(middle)
    high = jnp.where(true, middle, high)
    return jnp.minimum(jnp.where(true, low, middle + 1), high), high

  # One that is found stays.
  return lax.fori_loop(0, int(most).bit_length(), step, (low, high))[1]
