"""The latent task: -ELBO of a text decoder that is told z."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lvdecode.latent import adapters as adapters_lib
from lvdecode.latent import bag_of_words
from lvdecode.latent import bounds
from lvdecode.latent import condition as conditions
from lvdecode.latent import gaussian
from lvdecode.latent import mmd
from lvdecode.latent import posterior
from lvdecode.latent import rate as rate_lib
from lvdecode.tasks import inference
from lvdecode.tasks import noise
from lvdecode.text import pipeline
from lvdecode.training import flat
from lvdecode.training import metrics
from lvdecode.training import randomness
from lvdecode.training import schedules

_BAG = 'bag_of_words'  # its parameters' name


@dataclasses.dataclass(frozen=True)
class LatentTask(inference.Inference):
  """Trains and evaluates a `vae.VAE`; a plain language model is a case of it."""

  def init(self, rng: jax.Array) -> dict:
    """Parameters, float32."""
    tokens = jnp.zeros((1, 2), jnp.int32)
    visible = jnp.ones((1, 2), bool)
    condition = None
    if self.model.settings.conditional:
      segments = jnp.zeros_like(tokens)
      condition = pipeline.Condition(tokens, visible, segments)
    params = self.model.init(rng, tokens, visible, condition)['params']
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

    Of nll + the charge for the KL; or of the importance-weighted bound + what
    rate control charges beyond the KL in it. Added are `mmd` and `bag_of_words`
    with their weights, where they are on.
    """
    objective = self.objective
    real = inference.real_examples(batch)
    count = jnp.sum(real)

    def mean(per_example):
      return metrics.Mean(real @ per_example, count)

    q, running = self._encode(params, batch, streams, axis_name)
    given = self._given(params, batch, streams, axis_name)
    size = (objective.samples, q.mean.shape[1])
    draws = noise.normal(streams.per_example('latent'), size).swapaxes(0, 1)
    each = jax.tree.map(lambda x: jnp.broadcast_to(x, draws.shape), q)
    sampled, zeros = each.sample(draws), jnp.zeros(draws.shape[:2])
    z = sampled
    if objective.estimator == 'dreg':
      z, each, zeros = bounds.doubly_reparameterised(z, each)
    nll, total = self._noisy_nll(params, batch, z, given, streams, axis_name)
    terms = bounds.Terms(
      nll=jnp.mean(nll, axis=0), kl=gaussian.kl(q, given.prior)
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
      prior = jax.tree.map(lambda x: jnp.broadcast_to(x, z.shape), given.prior)
      log_joint = prior.log_prob(z) - nll
      log_weights = log_joint - each.log_prob(z) + zeros
      # The bound has the KL in it: what is charged on top is rate control's.
      bound = (
        bounds.importance_weighted_nll(log_weights) + charge.cost - charged
      )
    # Not of dreg's z, whose gradient is the bound's alone.
    added = self._added(params, batch, sampled, given, streams, axis_name)
    loss = mean(
      bound
      + objective.mmd.weight * added.get('mmd', 0.0)
      + objective.bag_of_words * added.get('bag_of_words', 0.0)
    )
    # In brackets it is 0, and adds its gradients alone.
    return loss.total + (total - jax.lax.stop_gradient(total)), {
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
    self, params, batch, z, given, streams, axis_name
  ) -> dict[str, Float[Array, ' B']]:
    """What the loss has beside a bound, of draws z [K, B, Z], unweighted."""
    added = {}
    if self.objective.mmd.weight:
      # Of the whole batch, from the first draw; every example has its share.
      # With priors of their own, of their mixture.
      prior = given.prior.sample(
        noise.normal(streams.per_example('prior'), z.shape[2:])
      )
      real = inference.real_examples(batch)
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
    given: conditions.Given,
    streams: randomness.Streams,
    axis_name: str | None,
  ) -> tuple[Float[Array, 'K B'], Float[Array, '']]:
    """-log p(y | z_k, x) under the dropout of training, in nats.

    And 0; or the sum over examples of the mean over k where that, and not the
    losses themselves, has the gradients.
    """
    z = self._dropped(z, streams)
    told = noise.hide_words(
      jnp.asarray(batch.tokens[:, :-1]),
      streams.per_example('word_dropout'),
      self.objective.word_dropout,
      self.hidden_token,
    )
    dropout = streams.device('decoder_dropout', axis_name)
    targets, weights = batch.tokens[:, 1:], batch.weights[:, 1:]
    if len(z) > 1 and self._injection.softmax_alone:
      states = self._apply(params, 'states', told, given, dropout=dropout)
      each = z.swapaxes(0, 1)
      nll = self._shifted_of(params, states, targets, weights, each)
      return nll.T, jnp.zeros(())
    tokens, targets, weights = (
      jnp.tile(x, (len(z), 1)) for x in (told, targets, weights)
    )
    each, total = jnp.concatenate(z), jnp.zeros(())
    given = jax.tree.map(lambda x: jnp.concatenate([x] * len(z)), given)
    if self.objective.estimator == 'elbo':
      total, token_nll = self._apply(
        params,
        'summed_nll',
        tokens,
        targets,
        weights / len(z),
        each,
        self.objective.logits_bytes,
        given,
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
        None,
        given,
        dropout=dropout,
      )
    nll = jnp.sum(token_nll * weights, axis=1)
    return nll.reshape(len(z), -1), total

  def beta(self, step: Int[Array, ''] | int) -> Float[Array, '']:
    """The weight of the KL: 0 while pretraining, then from its beginning.

    And 0 at the last of every `autoencode_every` steps.
    """
    begin = self.objective.pretraining_steps
    beta = schedules.value(self.objective.beta, step - begin)
    if turn := self.objective.autoencode_every:
      beta = jnp.where((step - begin) % turn == turn - 1, 0.0, beta)
    return jnp.where(step < begin, 0.0, beta) if begin else beta

  def _encode(
    self, params, batch, streams, axis_name
  ) -> tuple[gaussian.Gaussian, dict[str, jax.Array]]:
    """q(z | y, x) in training, and by path what running statistics become."""
    group = posterior.Group(
      inference.real_examples(batch), streams.step, axis_name
    )
    q, sown = self.model.apply(
      self._variables(params),
      *inference.read(batch),
      self.condition(batch),
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

  def _given(self, params, batch, streams, axis_name) -> conditions.Given:
    """`given` in training."""
    return self._apply(
      params,
      'given',
      len(batch.tokens),
      self.condition(batch),
      dropout=streams.device('condition_dropout', axis_name),
    )

  @property
  def _bag_of_words(self) -> bag_of_words.BagOfWords:
    width = self.model.settings.decoder.width
    return bag_of_words.BagOfWords(width, self.model.vocab_size)
