"""Texts of which some have a label: -ELBO with the label known or summed out."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key
import numpy as np

from lvdecode import errors
from lvdecode.latent import bounds
from lvdecode.latent import gaussian
from lvdecode.latent import label_bounds
from lvdecode.latent import labelled
from lvdecode.latent import rate as rate_lib
from lvdecode.tasks import inference
from lvdecode.tasks import latent
from lvdecode.tasks import noise
from lvdecode.text import pipeline
from lvdecode.training import metrics
from lvdecode.training import randomness


@dataclasses.dataclass(frozen=True, kw_only=True)
class SemiSupervisedSettings:
  """A classifier that learns from texts without labels, too.

  Attributes:
    labels: the names of the labels, sorted; () for a run that is no such.
    prior: p(y) of each label; () for the same for all.
    classifier: alpha, what -log q(y | x, a) of a labelled text counts.
    generative: what a bound on -log p(x, y | a) or -log p(x | a) counts; with
      0 the classifier learns from the labels alone.
    labelled_share: labelled texts are repeated in an epoch until so much of it
      is theirs; 0: not.
  """

  labels: tuple[str, ...]
  prior: tuple[float, ...]
  classifier: float
  generative: float
  labelled_share: float

  def __post_init__(self):
    section = 'semi_supervised'
    if list(self.labels) != sorted(set(self.labels)) or len(self.labels) == 1:
      raise errors.UserError(
        f'{section}.labels = {self.labels}: name two labels or more, sorted'
      )
    if self.prior and (
      len(self.prior) != len(self.labels)
      or min(self.prior) <= 0
      or not math.isclose(sum(self.prior), 1.0, abs_tol=1e-3)
    ):
      raise errors.UserError(
        f'{section}.prior = {self.prior}: give each of {section}.labels a '
        'probability, which sum to 1, or () for equal ones'
      )
    errors.at_least(f'{section}.classifier', self.classifier, 0.0)
    errors.at_least(f'{section}.generative', self.generative, 0.0)
    if self.labels and not self.generative + self.classifier:
      raise errors.UserError(
        f'{section}.generative and {section}.classifier are both 0: nothing '
        'would be learned, give one of them a weight'
      )
    errors.between(f'{section}.labelled_share', self.labelled_share, 0.0, 1.0)

  @property
  def log_prior(self) -> Float[np.ndarray, ' Y']:
    """log p(y), normalised."""
    count = len(self.labels)
    prior = np.asarray(self.prior or [1 / count] * count, np.float64)
    return np.log(prior / prior.sum()).astype(np.float32)


class Aspect(NamedTuple):
  """What is given with each text: its tokens, and where there are any."""

  tokens: Int[Array, 'B S']
  given: Bool[Array, 'B S']


@dataclasses.dataclass(frozen=True)
class SemiSupervisedTask(latent.LatentTask):
  """Trains a `labelled.LabelledVAE` (Cheng et al. 2019).

  Attributes:
    semi_supervised: what is minimised, beside the `objective` it has in common
      with a latent task: the weight of the KL, free bits (of the KL's mean over
      the labels) and word dropout.
  """

  model: labelled.LabelledVAE
  semi_supervised: SemiSupervisedSettings

  def next_carry(
    self, carry: rate_lib.Memory, metrics: dict[str, metrics.Mean]
  ) -> rate_lib.Memory:
    """Nothing to remember: there is no control of the rate."""
    return carry

  def loss(
    self,
    params: dict,
    batch: pipeline.Batch,
    streams: randomness.Streams,
    axis_name: str | None,
    carry: rate_lib.Memory,
  ) -> tuple[Float[Array, ''], dict[str, metrics.Mean]]:
    """The sum over the real examples, in nats.

    generative * a bound, of -log p(x, y | a) where y is known, of -log p(x | a)
    where it is not, + classifier * -log q(y | x, a) where it is.
    """
    del carry
    weigh = self.semi_supervised
    real = inference.real_examples(batch)
    label = label_of(batch)
    known = real * (label >= 0)

    def mean(per_example, which=real):
      return metrics.Mean(which @ per_example, jnp.sum(which))

    log_q = self._log_q(
      params, batch, streams.device('classifier_dropout', axis_name)
    )
    chosen = jnp.maximum(label, 0)[:, None]
    classifier_nll = -jnp.take_along_axis(log_q, chosen, axis=1)[:, 0]
    correct = (jnp.argmax(log_q, axis=1) == label).astype(jnp.float32)
    total = weigh.classifier * known * classifier_nll
    figures = {
      'classifier_nll': mean(classifier_nll, known),
      'accuracy': mean(correct, known),
    }
    if weigh.generative:
      entropy = label_bounds.entropy(jnp.exp(log_q))
      figures['entropy'] = mean(entropy, real - known)
      terms = self._noisy_terms(params, batch, log_q, streams, axis_name)
      share = label_bounds.weights(log_q, label)
      nll, kl = label_bounds.expected(terms, share)
      beta = self.beta(streams.step)
      charged = beta * bounds.charged_kl(
        kl, real, self.objective.free_bits, axis_name
      )
      prior = jnp.asarray(weigh.log_prior)
      cost = label_bounds.negative_bound(nll, charged, share, prior)
      total = total + weigh.generative * cost
      kl = jnp.sum(kl, axis=-1)
      exact = label_bounds.negative_bound(nll, kl, share, prior)
      figures |= {
        'nll': mean(nll),
        'kl': mean(kl),
        'labelled_bound': mean(exact, known),
        'unlabelled_bound': mean(exact, real - known),
        'beta': mean(jnp.broadcast_to(beta, real.shape)),
      }
    loss = mean(total)
    return loss.total, {'loss': loss, **figures}

  def evaluate(
    self, params: dict, batch: pipeline.Batch, keys: Key[Array, ' B']
  ) -> dict[str, jax.Array]:
    """Per-example figures of the label known, or else the likeliest.

    As a latent task's, with log_q [B, Y], log q(y | x, a), and negative_bound
    [B], of -log p(x | a), the label summed out whether it is known or not.
    """
    log_q = self.log_q(params, batch)
    terms, q, z = self.terms(params, batch, log_q, keys)
    share = jnp.exp(log_q)
    nll, kl = label_bounds.expected(terms, share)
    prior = jnp.asarray(self.semi_supervised.log_prior)
    label = label_of(batch)
    label = jnp.where(label >= 0, label, jnp.argmax(log_q, axis=1))

    def own(x):  # [B, Y, ...] -> [B, ...]
      return x[jnp.arange(len(label)), label]

    zeros = jnp.zeros((len(label), self.model.latent_size))  # N(0, I)
    return {
      'nll': own(terms.nll),
      'kl': own(terms.kl),
      'mean': own(q.mean),
      'logvar': own(q.logvar),
      'prior_mean': zeros,
      'prior_logvar': zeros,
      'z': own(z),
      'log_q': log_q,
      'negative_bound': label_bounds.negative_bound(
        nll, jnp.sum(kl, axis=-1), share, prior
      ),
    }

  def log_q(self, params: dict, batch: pipeline.Batch) -> Float[Array, 'B Y']:
    """log q(y | x, a) of every label, without dropout."""
    return self._log_q(params, batch, None)

  def terms(
    self,
    params: dict,
    batch: pipeline.Batch,
    log_q: Float[Array, 'B Y'],
    keys: Key[Array, ' B'],
  ) -> tuple[label_bounds.Terms, gaussian.Gaussian, Float[Array, 'B Y Z']]:
    """Of every label, with one z each, from the same noise, and no dropout."""
    draws = noise.normal(keys, (self.model.latent_size,))
    told = jnp.asarray(batch.tokens[:, :-1])
    return self._terms(params, batch, log_q, draws, told, None, None)

  def _noisy_terms(
    self, params, batch, log_q, streams, axis_name
  ) -> label_bounds.Terms:
    """Under the dropout of training."""
    draws = noise.normal(
      streams.per_example('latent'), (self.model.latent_size,)
    )
    told = noise.hide_words(
      jnp.asarray(batch.tokens[:, :-1]),
      streams.per_example('word_dropout'),
      self.objective.word_dropout,
      self.hidden_token,
    )
    dropouts = (
      streams.device('encoder_dropout', axis_name),
      streams.device('decoder_dropout', axis_name),
    )
    return self._terms(params, batch, log_q, draws, told, *dropouts)[0]

  def _log_q(self, params, batch, dropout) -> Float[Array, 'B Y']:
    read = inference.read(batch)
    scores = self._apply(
      params, 'classify', *read, *aspect_of(batch), dropout=dropout
    )
    return jax.nn.log_softmax(scores)

  def _terms(
    self, params, batch, log_q, draws, told, encoder_dropout, decoder_dropout
  ) -> tuple[label_bounds.Terms, gaussian.Gaussian, Float[Array, 'B Y Z']]:
    """Of every label, with the noise, the dropout and the tokens of a text.

    What is between two labels is the labels' doing.
    """
    count = log_q.shape[1]
    aspect, read = aspect_of(batch), inference.read(batch)
    max_bytes = max(1, self.objective.logits_bytes // count)

    def of(number):  # under one key of dropout all labels have the same masks
      label = jnp.full(len(draws), number)
      q: Any = self._apply(
        params, 'infer', *read, *aspect, label, dropout=encoder_dropout
      )
      z = q.sample(draws)
      token_nll = self._apply(
        params,
        'told_nll',
        told,
        jnp.asarray(batch.tokens[:, 1:]),
        z,
        *aspect,
        label,
        max_bytes,
        dropout=decoder_dropout,
      )
      nll = jnp.sum(token_nll * batch.weights[:, 1:], axis=1)
      return nll, gaussian.kl(q, gaussian.standard(z.shape)), q, z

    nll, kl, q, z = jax.vmap(of, out_axes=1)(jnp.arange(count))
    return label_bounds.Terms(nll, kl, log_q), q, z


def label_of(batch: pipeline.Batch) -> Int[Array, ' B']:
  """The number of each text's label; -1 where it is unknown."""
  if batch.label is None:
    return jnp.full(batch.tokens.shape[0], -1)
  return jnp.asarray(batch.label)


def aspect_of(batch: pipeline.Batch) -> Aspect:
  """What is given with each text; without a condition, nothing."""
  if batch.condition is None:
    shape = (batch.tokens.shape[0], 1)
    return Aspect(jnp.zeros(shape, jnp.int32), jnp.zeros(shape, bool))
  return Aspect(
    jnp.asarray(batch.condition.tokens), jnp.asarray(batch.condition.visible)
  )
