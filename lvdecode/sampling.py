"""Text from latents: one compiled loop with a key-value cache."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from lvdecode import errors
from lvdecode.latent import condition as conditions
from lvdecode.latent import vae
from lvdecode.nn import gpt

METHODS = ('greedy', 'sample')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
  """How the next token is chosen.

  Attributes:
    method: 'greedy' (the rest is unused), or 'sample'.
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
    return jnp.argmax(scores, axis=-1).astype(jnp.int32)
  scores = cut(scores / rules.temperature, rules)
  return jax.vmap(jax.random.categorical)(keys, scores).astype(jnp.int32)


def cut(scores: Float[Array, 'B V'], rules: Rules) -> Float[Array, 'B V']:
  """-inf for every token that top_k and then top_p leave out."""
  vocab_size = scores.shape[-1]
  if 0 < rules.top_k < vocab_size:
    least = lax.top_k(scores, rules.top_k)[0][:, -1:]
    scores = jnp.where(scores < least, -jnp.inf, scores)
  if rules.top_p < 1:
    order = jnp.argsort(-scores, axis=-1)
    ranked = jax.nn.softmax(jnp.take_along_axis(scores, order, -1), axis=-1)
    kept = jnp.cumsum(ranked, axis=-1) - ranked < rules.top_p
    back = jnp.argsort(order, axis=-1)
    scores = jnp.where(jnp.take_along_axis(kept, back, -1), scores, -jnp.inf)
  return scores
