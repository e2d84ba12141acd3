"""What is asked of a latent model and its parameters, training apart."""

import dataclasses
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from lvdecode import errors
from lvdecode.latent import adapters as adapters_lib
from lvdecode.latent import condition as conditions
from lvdecode.latent import gaussian
from lvdecode.latent import injection
from lvdecode.latent import vae
from lvdecode.tasks import noise
from lvdecode.tasks import objective as objectives
from lvdecode.text import pipeline


class Reading(NamedTuple):
  """All that is known of texts before a z is drawn, so that it is read once.

  Attributes:
    posterior: q(z | y, x) [B, Z].
    given: p(z | x), and what the decoder takes of x.
  """

  posterior: gaussian.Gaussian
  given: conditions.Given


@dataclasses.dataclass(frozen=True)
class Inference:
  """Distributions and likelihoods of a `vae.VAE`.

  Attributes:
    model: the network.
    objective: what is minimised.
    hidden_token: what stands in the place of a token under word dropout.
  """

  model: vae.VAE
  objective: objectives.ObjectiveSettings
  hidden_token: int

  @property
  def points(self) -> tuple[str, ...]:
    """Where z is told."""
    return self._injection.points

  @property
  def adapters(self) -> adapters_lib.AdapterSettings:
    """Beside which kernels the parameters have a change."""
    return self.model.settings.adapters

  def evaluate(
    self, params: dict, batch: pipeline.Batch, keys: Key[Array, ' B']
  ) -> dict[str, jax.Array]:
    """Per-example figures with one z ~ q, in nats: nll [B], kl [B, Z].

    With them mean and logvar [B, Z] of posterior and prior, and the z [B, Z].
    One key a text, so that its figures do not depend on its batch.
    """
    q, given = self.read(params, batch)
    z = q.sample(noise.normal(keys, q.mean.shape[1:]))
    return {
      'nll': self.nll(params, batch, z, given=given),
      'kl': gaussian.kl(q, given.prior),
      'mean': q.mean,
      'logvar': q.logvar,
      'prior_mean': given.prior.mean,
      'prior_logvar': given.prior.logvar,
      'z': z,
    }

  def read(self, params: dict, batch: pipeline.Batch) -> Reading:
    """What is the same for every z."""
    return Reading(self.encode(params, batch), self.given(params, batch))

  def encode(self, params: dict, batch: pipeline.Batch) -> gaussian.Gaussian:
    """q(z | y, x) of each text [B, Z]."""
    return self._apply(params, 'encode', *read(batch), self.condition(batch))

  def given(self, params: dict, batch: pipeline.Batch) -> conditions.Given:
    """What is known of each text before any of it: its condition, p(z | x)."""
    return self._apply(
      params, 'given', len(batch.tokens), self.condition(batch)
    )

  def prior(self, params: dict, batch: pipeline.Batch) -> gaussian.Gaussian:
    """p(z | x) of each text [B, Z]; N(0, I) where it is not learned."""
    return self.given(params, batch).prior

  def condition(self, batch: pipeline.Batch) -> pipeline.Condition | None:
    """x, for a model that reads it.

    Raises:
      UserError: the batch has none.
    """
    if not self.model.settings.conditional:
      return None
    if batch.condition is None:
      raise errors.UserError(
        'this model is of p(text | condition), and no condition is given with '
        'the texts'
      )
    return jax.tree.map(jnp.asarray, batch.condition)

  def nll(
    self,
    params: dict,
    batch: pipeline.Batch,
    z: Float[Array, 'B Z'],
    points: tuple[str, ...] | None = None,
    given: conditions.Given | None = None,
  ) -> Float[Array, ' B']:
    """-log p(y | z, x) in nats per sequence, without any dropout.

    With `points`, the other injection points are knocked out. `given` is the
    texts' own, by `given`; None to have it worked out.
    """
    return jnp.sum(self.token_nll(params, batch, z, points, given), axis=1)

  def token_nll(
    self,
    params: dict,
    batch: pipeline.Batch,
    z: Float[Array, 'B Z'],
    points: tuple[str, ...] | None = None,
    given: conditions.Given | None = None,
  ) -> Float[Array, 'B t']:
    """The terms of `nll`, one a target (t = T - 1); 0 at padding."""
    if given is None:
      given = self.given(params, batch)
    token_nll = self._apply(
      params,
      'token_nll',
      batch.tokens[:, :-1],
      batch.tokens[:, 1:],
      z,
      self.objective.logits_bytes,
      points,
      given,
    )
    return token_nll * batch.weights[:, 1:]

  def memory_mass(
    self, params: dict, batch: pipeline.Batch, z: Float[Array, 'B Z']
  ) -> Float[Array, 'B L H']:
    """Share of the attention that goes to the memory of z.

    Means over the positions that predict a real target, by layer and head.
    """
    _, state = self.model.apply(
      self._variables(params),
      batch.tokens[:, :-1],
      batch.tokens[:, 1:],
      z,
      self.objective.logits_bytes,
      None,
      self.given(params, batch),
      method='token_nll',
      mutable=['intermediates'],
    )
    blocks = state['intermediates']['decoder']
    real = jnp.asarray(batch.weights[:, 1:])
    # A condition may have slots behind those of z, and a prefix queries in
    # front of the text's.
    slots, queries = self._injection.memory_slots, real.shape[1]
    mass = jnp.stack(
      [
        jnp.sum(
          blocks[f'h_{layer}']['attn']['memory_mass'][0][..., :slots], axis=-1
        )[..., -queries:]
        for layer in range(self.model.settings.decoder.layers)
      ],
      axis=1,
    )
    count = jnp.maximum(jnp.sum(real, axis=1), 1.0)
    return jnp.einsum('blht,bt->blh', mass, real) / count[:, None, None]

  def others_seen(self, batch: pipeline.Batch) -> Int[Array, ' B']:
    """Keys of the condition that every position of a text may attend to."""
    routes = self.model.settings.condition.routes
    condition = self.condition(batch)
    if condition is None:
      return jnp.zeros(len(batch.tokens), jnp.int32)
    ways = ('prefix' in routes) + ('memory' in routes)
    return ways * jnp.sum(condition.visible, axis=1, dtype=jnp.int32)

  def log_weights(
    self,
    params: dict,
    batch: pipeline.Batch,
    keys: Key[Array, ' B'],
    samples: int,
  ) -> Float[Array, 'K B']:
    """log p(y, z_k | x) - log q(z_k | y, x) of z_1 .. z_K ~ q, in nats.

    One key a text: what is drawn for it depends neither on its batch nor on
    K. The encoder runs once, and memory does not grow with K.
    """
    reading = self.read(params, batch)

    def one_sample(k):
      return self.weigh(params, batch, reading, keys, k[None])[0]

    return lax.map(one_sample, jnp.arange(samples))

  def weigh(
    self,
    params: dict,
    batch: pipeline.Batch,
    reading: Reading,
    keys: Key[Array, ' B'],
    samples: Int[Array, ' k'],
  ) -> Float[Array, 'k B']:
    """Log weights of the samples of these numbers, by one decoder call.

    Sample 7 of a text is the same whatever other samples are asked for.
    """
    texts, count = len(batch.tokens), samples.shape[0]

    def several(x):  # [B, ...] -> [B k, ...], the samples of a text together
      return jnp.repeat(jnp.asarray(x), count, axis=0)

    fold = jax.vmap(jax.random.fold_in)
    keys = fold(several(keys), jnp.tile(samples, texts))
    (q, given), repeated = jax.tree.map(several, (reading, batch))
    z = q.sample(noise.normal(keys, q.mean.shape[1:]))
    # Text by text, which a single sample of each is not worth.
    if count > 1 and self._injection.softmax_alone:
      each = z.reshape(texts, count, -1)
      nll = self._shifted_nll(params, batch, each, reading.given).reshape(-1)
    else:
      nll = self.nll(params, repeated, z, given=given)
    log_joint = given.prior.log_prob(z) - nll
    return (log_joint - q.log_prob(z)).reshape(texts, count).T

  def _shifted_nll(
    self,
    params: dict,
    batch: pipeline.Batch,
    z: Float[Array, 'B K Z'],
    given: conditions.Given,
  ) -> Float[Array, 'B K']:
    """`nll` for many z of each text, whose states are worked out once."""
    states = self._apply(params, 'states', batch.tokens[:, :-1], given)
    targets, weights = batch.tokens[:, 1:], batch.weights[:, 1:]

    def of_text(text):
      return self._shifted_of(params, *text)[0]

    texts = states, targets, weights, z
    return lax.map(of_text, jax.tree.map(lambda x: x[:, None], texts))

  def _shifted_of(
    self, params, states, targets, weights, z
  ) -> Float[Array, 'B K']:
    """-log p(y | z_k, x) in nats, by the decoder's states."""
    nll = self.model.apply(
      self._variables(params),
      states,
      targets,
      z,
      self.objective.logits_bytes,
      method='shifted_nll',
    )
    # Padding may be at odds with a shift, whose NaN is nobody's.
    weights = jnp.asarray(weights)[:, None]
    return jnp.sum(jnp.where(weights > 0, nll * weights, 0.0), axis=2)

  def sample_bytes(self, batch: pipeline.Batch, texts: int) -> int:
    """About what one sample of each of so many texts takes in memory."""
    sizes = self.model.settings.decoder
    if (
      self._injection.softmax_alone
    ):  # shifts and their exponentials, text by text
      return 2 * 4 * self.model.vocab_size
    # float32: logits, and the widest states of a block.
    words = self.model.vocab_size * batch.tokens.shape[1]
    places = batch.tokens.shape[1]
    condition = self.condition(batch)
    if condition is not None:
      places += condition.tokens.shape[1]
    return 4 * texts * (words + 8 * sizes.width * places)

  def _variables(self, params: dict) -> dict:
    """What the model is applied to: it knows no adapters."""
    return {'params': adapters_lib.merge(params, self.adapters)}

  @property
  def _injection(self) -> injection.InjectionSettings:
    return self.model.settings.injection

  def _apply(
    self,
    params: dict,
    method: str,
    *inputs: Any,
    dropout: Key[Array, ''] | None = None,
  ) -> Any:
    """Calls a method of the model; with a key, under dropout."""
    return self.model.apply(
      self._variables(params),
      *inputs,
      deterministic=dropout is None,
      rngs=None if dropout is None else {'dropout': dropout},
      method=method,
    )


def read(batch: pipeline.Batch) -> tuple[jax.Array, jax.Array]:
  """What the encoder reads: tokens [B, S], and which are not padding."""
  if batch.encoder is None:
    return jnp.asarray(batch.tokens), visible(batch)
  return jnp.asarray(batch.encoder.tokens), jnp.asarray(batch.encoder.visible)


def visible(batch: pipeline.Batch) -> jax.Array:
  """[B, T] bool: BOS and every target; not the padding."""
  return jnp.asarray(batch.weights > 0).at[:, 0].set(True)


def real_examples(batch: pipeline.Batch) -> Float[Array, ' B']:
  """1 for examples, 0 for rows that fill up a ragged batch."""
  return (jnp.sum(batch.weights, axis=1) > 0).astype(jnp.float32)
