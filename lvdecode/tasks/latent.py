"""The latent task: -ELBO of a text decoder that is told z."""

import dataclasses
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from lvdecode.latent import adapters as adapters_lib
from lvdecode.latent import bag_of_words
from lvdecode.latent import bounds
from lvdecode.latent import gaussian
from lvdecode.latent import mmd
from lvdecode.latent import posterior
from lvdecode.latent import rate as rate_lib
from lvdecode.latent import vae
from lvdecode.tasks import noise
from lvdecode.tasks import objective as objectives
from lvdecode.text import pipeline
from lvdecode.training import flat
from lvdecode.training import metrics
from lvdecode.training import randomness
from lvdecode.training import schedules

_BAG = 'bag_of_words'  # its parameters' name


@dataclasses.dataclass(frozen=True)
class LatentTask:
  """Trains and evaluates a `vae.VAE`; a plain language model is a case of it.

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
    return self.model.settings.injection.points

  @property
  def adapters(self) -> adapters_lib.AdapterSettings:
    """Beside which kernels the parameters have a change."""
    return self.model.settings.adapters

  def init(self, rng: jax.Array) -> dict:
    """Parameters, float32."""
    tokens = jnp.zeros((1, 2), jnp.int32)
    visible = jnp.ones((1, 2), bool)
    params = self.model.init(rng, tokens, visible)['params']
    if self.objective.bag_of_words:
      # A key of its own: what else there is begins as without.
      bag_rng = jax.random.fold_in(rng, 1)
      z = jnp.zeros((1, self.model.latent_size))
      params[_BAG] = self._bag_of_words.init(bag_rng, z)['params']
    if self.adapters.rank:
      params[adapters_lib.ADAPTERS] = adapters_lib.init(
        self.adapters, jax.random.fold_in(rng, 2), params['decoder']
      )
    return params

  def part(self, path: str) -> str:
    """Whose the parameter is: 'encoder', 'decoder', or 'both'."""
    return self.model.part(path)

  def init_carry(self) -> rate_lib.Memory:
    """What rate control remembers before the first step."""
    return rate_lib.start(self.objective.rate)

  def next_carry(
    self, carry: rate_lib.Memory, metrics: dict[str, metrics.Mean]
  ) -> rate_lib.Memory:
    """The same once the whole batch's KL is known."""
    return rate_lib.advance(self.objective.rate, carry, metrics['kl'].value())

  def loss(
    self,
    params: dict,
    batch: pipeline.Batch,
    streams: randomness.Streams,
    axis_name: str | None,
    carry: rate_lib.Memory,
  ) -> tuple[Float[Array, ''], dict[str, metrics.Mean]]:
    """The sum over the real examples, in nats.

    Of nll + the charge for the KL, or of the importance-weighted bound; added
    are `mmd` and `bag_of_words` with their weights, where they are on.
    """
    objective = self.objective
    real = real_examples(batch)
    count = jnp.sum(real)

    def mean(per_example):
      return metrics.Mean(real @ per_example, count)

    q, running = self._encode(params, batch, streams, axis_name)
    size = (objective.samples, q.mean.shape[1])
    draws = noise.normal(streams.per_example('latent'), size).swapaxes(0, 1)
    each = jax.tree.map(lambda x: jnp.broadcast_to(x, draws.shape), q)
    sampled, zeros = each.sample(draws), jnp.zeros(draws.shape[:2])
    z = sampled
    if objective.estimator == 'dreg':
      z, each, zeros = bounds.doubly_reparameterised(z, each)
    nll, total = self._noisy_nll(params, batch, z, streams, axis_name)
    terms = bounds.Terms(
      nll=jnp.mean(nll, axis=0),
      kl=gaussian.kl(q, self.prior(params, batch)),
    )
    charged = bounds.charged_kl(terms.kl, real, objective.free_bits, axis_name)
    charge = rate_lib.charge(
      objective.rate,
      carry,
      self.beta(streams.step),
      charged,
      real,
      axis_name,
    )
    if objective.estimator == 'elbo':
      bound = terms.nll + charge.cost
    else:
      log_joint = gaussian.standard(z.shape).log_prob(z) - nll
      log_weights = log_joint - each.log_prob(z) + zeros
      bound = bounds.importance_weighted_nll(log_weights)
    # Not of dreg's z, whose gradient is the bound's alone.
    added = self._added(params, batch, sampled, streams, axis_name)
    loss = mean(
      bound
      + objective.mmd.weight * added.get('mmd', 0.0)
      + objective.bag_of_words * added.get('bag_of_words', 0.0)
    )
    return loss.total + total - lax.stop_gradient(total), {
      'loss': loss,
      'nll': mean(terms.nll),
      'kl': mean(jnp.sum(terms.kl, axis=-1)),
      'negative_elbo': mean(bounds.negative_elbo(terms)),
      'beta': metrics.Mean(charge.weight * count, count),
      **{name: mean(term) for name, term in added.items()},
      **{
        path: metrics.Mean(count * value, count)
        for path, value in running.items()
      },
    }

  def _added(
    self, params, batch, z, streams, axis_name
  ) -> dict[str, Float[Array, ' B']]:
    """What the loss has beside a bound, of draws z [K, B, Z], unweighted."""
    added = {}
    if self.objective.mmd.weight:
      # Of the whole batch, from the first draw; every example has its share.
      prior = noise.normal(streams.per_example('prior'), z.shape[2:])
      real = real_examples(batch)
      value = mmd.squared(
        z[0], prior, real, self.objective.mmd.kernel, axis_name
      )
      added['mmd'] = jnp.broadcast_to(value, real.shape)
    if self.objective.bag_of_words:
      logits: Any = self._bag_of_words.apply(
        {'params': params[_BAG]}, self._dropped(z, streams)
      )
      nll = jax.vmap(bag_of_words.nll, (0, None, None))(
        logits, jnp.asarray(batch.tokens[:, 1:]), batch.weights[:, 1:]
      )
      added['bag_of_words'] = jnp.mean(nll, axis=0)
    return added

  def _dropped(self, z, streams) -> Float[Array, 'K B Z']:
    """What readers of z are told of it in training."""
    return noise.drop(
      z, streams.per_example('latent_dropout'), self.objective.latent_dropout
    )

  def _noisy_nll(
    self,
    params: dict,
    batch: pipeline.Batch,
    z: Float[Array, 'K B Z'],
    streams: randomness.Streams,
    axis_name: str | None,
  ) -> tuple[Float[Array, 'K B'], Float[Array, '']]:
    """-log p(y | z_k) under the dropout of training, in nats.

    And the sum over examples of the mean over k, which has the gradients for
    'elbo': there the losses themselves have none. For other estimators it is 0.
    """
    z = self._dropped(z, streams)
    told = noise.hide_words(
      jnp.asarray(batch.tokens[:, :-1]),
      streams.per_example('word_dropout'),
      self.objective.word_dropout,
      self.hidden_token,
    )
    tokens, targets, weights = (
      jnp.tile(x, (len(z), 1))
      for x in (told, batch.tokens[:, 1:], batch.weights[:, 1:])
    )
    each, total = jnp.concatenate(z), jnp.zeros(())
    dropout = streams.device('decoder_dropout', axis_name)
    if self.objective.estimator == 'elbo':
      total, token_nll = self._apply(
        params,
        'summed_nll',
        tokens,
        targets,
        weights / len(z),
        each,
        self.objective.logits_bytes,
        dropout=dropout,
      )
    else:
      token_nll = self._apply(
        params,
        'token_nll',
        tokens,
        targets,
        each,
        self.objective.logits_bytes,
        dropout=dropout,
      )
    nll = jnp.sum(token_nll * weights, axis=1)
    return nll.reshape(len(z), -1), total

  def beta(self, step: Int[Array, ''] | int) -> Float[Array, '']:
    """The weight of the KL: 0 while pretraining, then from its beginning."""
    begin = self.objective.pretraining_steps
    beta = schedules.value(self.objective.beta, step - begin)
    return jnp.where(step < begin, 0.0, beta) if begin else beta

  def evaluate(
    self, params: dict, batch: pipeline.Batch, keys: Key[Array, ' B']
  ) -> dict[str, jax.Array]:
    """Per-example figures with one z ~ q, in nats: nll [B], kl [B, Z].

    With them the posterior's mean and logvar [B, Z] and the z [B, Z]. One key
    a text, so that its figures do not depend on its batch.
    """
    q = self.encode(params, batch)
    z = q.sample(noise.normal(keys, q.mean.shape[1:]))
    return {
      'nll': self.nll(params, batch, z),
      'kl': gaussian.kl(q, self.prior(params, batch)),
      'mean': q.mean,
      'logvar': q.logvar,
      'z': z,
    }

  def encode(self, params: dict, batch: pipeline.Batch) -> gaussian.Gaussian:
    """q(z | y) of each text [B, Z]."""
    return self._apply(params, 'encode', *read(batch))

  def prior(self, params: dict, batch: pipeline.Batch) -> gaussian.Gaussian:
    """p(z) of each text [B, Z]: N(0, I), whatever the text."""
    return gaussian.standard((batch.tokens.shape[0], self.model.latent_size))

  def nll(
    self,
    params: dict,
    batch: pipeline.Batch,
    z: Float[Array, 'B Z'],
    points: tuple[str, ...] | None = None,
  ) -> Float[Array, ' B']:
    """-log p(y | z) in nats per sequence, without any dropout.

    With `points`, the other injection points are knocked out.
    """
    return jnp.sum(self.token_nll(params, batch, z, points), axis=1)

  def token_nll(
    self,
    params: dict,
    batch: pipeline.Batch,
    z: Float[Array, 'B Z'],
    points: tuple[str, ...] | None = None,
  ) -> Float[Array, 'B t']:
    """The terms of `nll`, one a target (t = T - 1); 0 at padding."""
    token_nll = self._apply(
      params,
      'token_nll',
      batch.tokens[:, :-1],
      batch.tokens[:, 1:],
      z,
      self.objective.logits_bytes,
      points,
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
      method='token_nll',
      mutable=['intermediates'],
    )
    blocks = state['intermediates']['decoder']
    mass = jnp.stack(
      [
        blocks[f'h_{layer}']['attn']['memory_mass'][0]
        for layer in range(self.model.settings.decoder.layers)
      ],
      axis=1,
    )
    real = jnp.asarray(batch.weights[:, 1:])
    count = jnp.maximum(jnp.sum(real, axis=1), 1.0)
    return jnp.einsum('blht,bt->blh', mass, real) / count[:, None, None]

  def log_weights(
    self,
    params: dict,
    batch: pipeline.Batch,
    keys: Key[Array, ' B'],
    samples: int,
  ) -> Float[Array, 'K B']:
    """log p(y, z_k) - log q(z_k | y) of z_1 .. z_K ~ q, in nats.

    One key a text: what is drawn for it depends neither on its batch nor on
    K. The encoder runs once, and memory does not grow with K.
    """
    q, prior = self.encode(params, batch), self.prior(params, batch)

    def one_sample(k):
      return self.weigh(params, batch, q, prior, keys, k[None])[0]

    return lax.map(one_sample, jnp.arange(samples))

  def weigh(
    self,
    params: dict,
    batch: pipeline.Batch,
    q: gaussian.Gaussian,
    prior: gaussian.Gaussian,
    keys: Key[Array, ' B'],
    samples: Int[Array, ' k'],
  ) -> Float[Array, 'k B']:
    """Log weights of the samples of these numbers, by one decoder call.

    Sample 7 of a text is the same whatever other samples are asked for. q and
    prior are the texts' own, from `encode` and `prior`.
    """
    texts, count = q.mean.shape[0], samples.shape[0]

    def several(x):  # [B, ...] -> [B k, ...], the samples of a text together
      return jnp.repeat(jnp.asarray(x), count, axis=0)

    fold = jax.vmap(jax.random.fold_in)
    keys = fold(several(keys), jnp.tile(samples, texts))
    q, prior, batch = jax.tree.map(several, (q, prior, batch))
    z = q.sample(noise.normal(keys, q.mean.shape[1:]))
    log_joint = prior.log_prob(z) - self.nll(params, batch, z)
    return (log_joint - q.log_prob(z)).reshape(texts, count).T

  def sample_bytes(self, batch: pipeline.Batch) -> int:
    """About what the decoder takes in memory for one sample of one text."""
    sizes = self.model.settings.decoder
    # float32: logits, and the widest states of a block.
    return 4 * batch.tokens.shape[1] * (self.model.vocab_size + 8 * sizes.width)

  def _encode(
    self, params, batch, streams, axis_name
  ) -> tuple[gaussian.Gaussian, dict[str, jax.Array]]:
    """q(z | y) in training, and by path what running statistics become."""
    group = posterior.Group(real_examples(batch), streams.step, axis_name)
    q, sown = self.model.apply(
      self._variables(params),
      *read(batch),
      deterministic=False,
      group=group,
      rngs={'dropout': streams.device('encoder_dropout', axis_name)},
      mutable=['running'],
      method='encode',
    )
    running = sown.get('running', {})
    return q, dict(
      zip(flat.names(running), jax.tree.leaves(running), strict=True)
    )

  def _variables(self, params: dict) -> dict:
    """What the model is applied to: it knows no adapters."""
    return {'params': adapters_lib.merge(params, self.adapters)}

  @property
  def _bag_of_words(self) -> bag_of_words.BagOfWords:
    width = self.model.settings.decoder.width
    return bag_of_words.BagOfWords(width, self.model.vocab_size)

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
