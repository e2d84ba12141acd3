"""A trained model: texts to latents, latents to texts, and how likely texts are."""

from collections.abc import Sequence
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float
import numpy as np

from lvdecode import errors
from lvdecode import sampling
from lvdecode import settings as settings_lib
from lvdecode.latent import bounds
from lvdecode.latent import condition as conditions_lib
from lvdecode.latent import gaussian
from lvdecode.latent import injection
from lvdecode.tasks import latent
from lvdecode.tasks import noise
from lvdecode.text import conditions as conditions_text
from lvdecode.text import corpora
from lvdecode.text import pipeline
from lvdecode.text import tokenizers

# Of each text: a condition as it is typed, or its parts.
Conditions = Sequence[str | Sequence[str]]
GREEDY = sampling.Rules()
SAMPLE = sampling.Rules(method='sample')
_ROWS = 256  # most texts a compiled call
# What keys are for: a text is not scored by the noise that it was drawn by.
_LATENTS, _TOKENS, _PRIOR, _BOUND = range(4)


class Model:
  """A trained decoder and its encoder.

  Attributes:
    workdir: the folder it came from.
    config: the run's settings.
    task: the network and its objective.
    params: the parameters (their running average where the run kept one);
      adapters are merged into them, and the task has none.
    tokenizer: of the run.
    encoder_tokenizer: what the encoder reads by; None for the same.
    step: of the checkpoint.
    labels: of the training texts; `Batch.label` holds places in it.
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    config: settings_lib.Settings,
    task: latent.LatentTask,
    params: Any,
    tokenizer: tokenizers.Tokenizer,
    encoder_tokenizer: tokenizers.Tokenizer | None,
    step: int,
    labels: tuple[str, ...] = (),
  ):
    self.workdir = workdir
    self.config = config
    self.task = task
    self.params = jax.tree.map(jnp.asarray, params)
    self.tokenizer = tokenizer
    self.encoder_tokenizer = encoder_tokenizer
    self.step = step
    self.labels = labels

  @property
  def latent_size(self) -> int:
    """Z; 0 for a plain language model."""
    return self.task.model.latent_size

  def tokenize(
    self,
    texts: Sequence[str],
    given: Sequence[Sequence[str]] | None = None,
    labels: Sequence[str] | None = None,
  ) -> corpora.Corpus:
    """The texts as the run's own splits were tokenised.

    Args:
      texts: to be tokenised.
      given: the parts of what is given with each, as `sources.Texts` has them.
      labels: of the texts; one the run has not seen is -1 in the corpus.
    """
    return corpora.tokenize(
      texts,
      self.tokenizer,
      self.config.pipeline,
      self.encoder_tokenizer,
      given=None if given is None else [tuple(parts) for parts in given],
      labels=labels,
      label_names=self.labels,
    )

  def encode(
    self, texts: Sequence[str], given: Conditions | None = None
  ) -> gaussian.Gaussian:
    """q(z | y, x) of each text: mean and logvar, NumPy arrays [n, Z].

    A conditional model takes in `given` the condition of each text, as it is
    typed or in parts, here and below; another takes none.
    """
    parts = [
      _encode(self.task, self.params, batch)
      for batch, _ in self._batches(texts, given)
    ]
    return jax.tree.map(
      lambda *leaves: np.concatenate(leaves)[: len(texts)], *parts
    )

  def decode(
    self,
    z: Float[np.ndarray | jax.Array, '...'],
    rules: sampling.Rules = GREEDY,
    seed: int = 0,
    given: Conditions | None = None,
  ) -> list[str]:
    """A text of each latent, of no more tokens than a training text could have.

    Args:
      z: [n, Z].
      rules: how each token is chosen.
      seed: of the draws; a text's draws do not depend on the others.
      given: a condition for each; a decoder that knows it by z alone needs
        none.

    Raises:
      UserError: latents of another size than the model's, or not one condition
        for each of them.
    """
    z = self._latents(z)
    parts = None
    if given is not None or self.config.model.condition.routes:
      parts = self._parts(given, len(z), 'latents')
    texts = []
    for first in range(0, len(z), _ROWS):
      part = z[first : first + _ROWS]
      rows = _round_up(len(part))
      padded = np.zeros((rows, self.latent_size), np.float32)
      padded[: len(part)] = part
      told = None
      if parts is not None:
        told = self._given(parts[first : first + _ROWS])
      tokens = sampling.generate(
        self.task.model,
        self.params,
        jnp.asarray(padded),
        _keys(seed, first, rows, _TOKENS),
        given=told,
        rules=rules,
        # A text that is cut has room for its EOS, and can be encoded and scored.
        length=self.config.pipeline.lengths[-1] - 1,
        bos=self.tokenizer.bos,
        eos=self.tokenizer.eos,
        pad=self.tokenizer.pad,
        banned=tuple(
          {
            self.tokenizer.pad,
            self.tokenizer.bos,
            *self.tokenizer.markers.values(),
          }
          - {self.tokenizer.eos}
        ),
      )
      written = np.asarray(tokens)[: len(part), 1:]
      texts += [self.tokenizer.decode(row) for row in written.tolist()]
    return texts

  def sample(
    self, n: int, rules: sampling.Rules = SAMPLE, seed: int = 0
  ) -> list[str]:
    """n texts, each of its own z ~ p(z)."""
    if n < 1:
      raise errors.UserError(f'num = {n}: ask for at least one text')
    self._parts(None, n, 'texts')
    z_key = jax.random.fold_in(jax.random.key(seed), _LATENTS)
    z = jax.random.normal(z_key, (n, self.latent_size))
    return self.decode(z, rules, seed)

  def complete(
    self,
    conditions: Conditions,
    n: int = 1,
    rules: sampling.Rules = SAMPLE,
    seed: int = 0,
    ranked: int = 0,
  ) -> list[list[str]]:
    """n texts for each condition, each of its own z ~ p(z | x).

    Args:
      conditions: as they are typed, or in parts.
      n: texts of each.
      rules: how each token is chosen.
      seed: of the draws; those for a condition depend on its place alone.
      ranked: sort them by log p(y | x), the importance-weighted bound of so
        many samples, best first; 0: as they were drawn.

    Raises:
      UserError: the model is given nothing, or a condition cannot be.
    """
    errors.at_least('num', n, 1)
    errors.at_least('ranked', ranked, 0)
    parts = self._parts(conditions, len(conditions), 'conditions')
    assert parts is not None
    z = []
    for first in range(0, len(parts), _ROWS):
      some = parts[first : first + _ROWS]
      prior = self._given(some).prior
      keys = _keys(seed, first, len(prior.mean), _PRIOR)
      drawn = _draw(prior, keys, n)
      z.append(np.asarray(drawn)[: len(some)])
    each = [part for part in parts for _ in range(n)]
    latents = np.concatenate(z).reshape(len(each), self.latent_size)
    texts = self.decode(latents, rules, seed, each)
    found = [texts[row : row + n] for row in range(0, len(texts), n)]
    if not ranked:
      return found
    nll = self.nll(texts, ranked, seed, each).reshape(-1, n)
    order = np.argsort(nll, axis=1, kind='stable')
    return [
      [some[place] for place in places]
      for some, places in zip(found, order.tolist(), strict=True)
    ]

  def classify(
    self,
    texts: Sequence[str],
    labels: Sequence[str] | None = None,
    samples: int = 10,
    seed: int = 0,
    prior: Sequence[int | float] | None = None,
  ) -> Float[np.ndarray, 'n C']:
    """p(label | y) of each text by Bayes' rule, for a model that is given labels.

    Args:
      texts: to be classified.
      labels: among which; None for all that the run was trained on.
      samples: of the importance-weighted bound, which stands for -log p(y | x).
        The noise of a text is the same under every label.
      seed: of these samples.
      prior: p(label), whose sum is taken as 1; None for even.

    Raises:
      UserError: the model is given no labels, or fewer than two to choose from.
    """
    if not self.config.data.labels_given:
      raise errors.UserError(
        f'{self.workdir} is not given labels: only a model of texts given their '
        'label can classify by it'
      )
    labels = tuple(self.labels if labels is None else labels)
    if len(labels) < 2:
      raise errors.UserError(
        f'labels = {labels}: give two or more to choose from'
      )
    shares = np.ones(len(labels)) if prior is None else np.asarray(prior, float)
    if (
      shares.shape != (len(labels),)
      or not ((shares > 0) & np.isfinite(shares)).all()
    ):
      raise errors.UserError(
        f'prior = {prior}: it must be {len(labels)} finite numbers above 0, one '
        'a label'
      )
    log_joint = [
      np.log(share) - self.nll(texts, samples, seed, [label] * len(texts))
      for label, share in zip(labels, shares / shares.sum(), strict=True)
    ]
    return np.asarray(jax.nn.softmax(jnp.stack(log_joint, axis=1), axis=1))

  def judge(
    self, texts: Sequence[str], aspects: Sequence[str] | None = None
  ) -> Float[np.ndarray, 'n Y']:
    """q(label | text, aspect) in the order of `labels`, by the run's classifier.

    Args:
      texts: to be classified.
      aspects: what they are classified in respect of, words of each as they
        stand in it; None for the texts as a whole.

    Raises:
      UserError: a run without semi_supervised.labels, or not an aspect for
        each text.
    """
    if not self.config.semi_supervised.labels:
      raise errors.UserError(
        f'{self.workdir} has no classifier: its semi_supervised.labels is empty'
      )
    parts = None
    if aspects is not None:
      if isinstance(aspects, str) or len(aspects) != len(texts):
        raise errors.UserError(
          f'{len(texts)} texts need as many aspects, in a list'
        )
      if not self.config.data.conditional:
        raise errors.UserError(
          f'{self.workdir} was trained on texts without aspects (its data.'
          'condition_field is empty): leave them out'
        )
      parts = [self.config.data.given(aspect) for aspect in aspects]
    elif conditions_text.NONE in self.tokenizer.markers:
      parts = [(conditions_text.NONE,)] * len(texts)
    found = [
      _log_q(self.task, self.params, batch)
      for batch, _ in self._batched(texts, parts)
    ]
    return np.exp(np.concatenate(found)[: len(texts)])

  def reconstruct(
    self,
    texts: Sequence[str],
    rules: sampling.Rules = GREEDY,
    seed: int = 0,
    given: Conditions | None = None,
  ) -> list[str]:
    """Each text encoded to its posterior mean and decoded again."""
    self._needs_latent('a reconstruction')
    return self.decode(self.encode(texts, given).mean, rules, seed, given)

  def interpolate(
    self,
    a: str,
    b: str,
    steps: int = 8,
    rules: sampling.Rules = GREEDY,
    seed: int = 0,
    given: str | Sequence[str] | None = None,
  ) -> list[str]:
    """Texts at equal steps on the line from a's posterior mean to b's.

    A condition is that of all of them.
    """
    self._needs_latent('an interpolation')
    if steps < 2:
      raise errors.UserError(f'steps = {steps}: a line has at least its 2 ends')
    both, all_steps = None, None
    if given is not None:
      both, all_steps = [given] * 2, [given] * steps
    ends = self.encode([a, b], both).mean
    share = np.linspace(0.0, 1.0, steps, dtype=np.float32)[:, None]
    path = (1 - share) * ends[:1] + share * ends[1:]
    return self.decode(path, rules, seed, all_steps)

  def nll(
    self,
    texts: Sequence[str],
    samples: int = 100,
    seed: int = 0,
    given: Conditions | None = None,
  ) -> Float[np.ndarray, ' n']:
    """-log p(y | x) of each text by the importance-weighted bound, in nats."""
    errors.at_least('samples', samples, 1)
    values = []
    for batch, first in self._batches(texts, given):
      keys = _keys(seed, first, len(batch.tokens), _BOUND)
      count = samples if self.latent_size else 1
      values.append(_iw_nll(self.task, self.params, batch, keys, count))
    return np.concatenate(values)[: len(texts)]

  def past(self, z: Float[np.ndarray | jax.Array, '...']) -> injection.Past:
    """What `memory` tells of latents [n, Z], as `transformers` takes it.

    The exported decoder gives this model's logits with it, if `memory` is the
    one point; the slots take no position.

    Raises:
      UserError: a model without memory, or whose decoder is told a condition
        too, or latents of another size.
    """
    routes = self.config.model.condition.routes
    if routes:
      raise errors.UserError(
        f'{self.workdir} tells its decoder a condition too (model.condition.'
        f'routes = {routes}): a memory of z alone is not what it was trained on'
      )
    if 'memory' not in self.task.points:
      raise errors.UserError(
        f'{self.workdir} has no memory to tell: its model.injection.points is '
        f'{self.task.points}'
      )
    told: Any = self.task.model.apply(
      {'params': self.params}, jnp.asarray(self._latents(z)), method='inject'
    )
    return injection.past(told.memory)

  def _latents(self, z) -> Float[np.ndarray, 'B Z']:
    z = np.asarray(z, np.float32)
    if z.ndim != 2 or z.shape[1] != self.latent_size:
      raise errors.UserError(
        f'z has the shape {z.shape}: this model decodes [n, {self.latent_size}]'
      )
    if not np.isfinite(z).all():
      raise errors.UserError('z is not finite: no text is written from it')
    return z

  def _needs_latent(self, what):
    if not self.latent_size:
      raise errors.UserError(
        f'{what} needs a latent, and {self.workdir} is a plain language model: '
        'its model.injection.points is empty'
      )

  def _batches(self, texts, given=None):
    return self._batched(texts, self._parts(given, len(texts), 'texts'))

  def _batched(self, texts, parts):
    """Batches of at most _ROWS texts, filled up to a power of two."""
    if isinstance(texts, str):
      raise errors.UserError(
        'a single text was given where a list is needed: write [text]'
      )
    for first in range(0, max(1, len(texts)), _ROWS):
      rows = slice(first, first + _ROWS)
      some = list(texts[rows])
      batch = corpora.batch_of(
        some,
        self.tokenizer,
        self.config.pipeline,
        self.encoder_tokenizer,
        None if parts is None else parts[rows],
        _round_up(len(some)),
      )
      yield batch, first

  def _parts(self, given, count: int, what: str):
    """The parts of each condition; None for a model that is given none.

    Raises:
      UserError: conditions that are missing, or that nothing reads.
    """
    conditional = self.task.model.settings.conditional
    if given is None:
      if conditional:
        raise errors.UserError(
          f'{self.workdir} is a model of texts given a condition: give one with '
          f'each of the {count} {what}, as complete(conditions) takes them'
        )
      return None
    if not conditional:
      raise errors.UserError(
        f'conditions were given, and nothing in {self.workdir} reads one: its '
        "model.condition.routes is empty and model.prior.kind 'standard'"
      )
    if isinstance(given, str):
      raise errors.UserError(
        'a single condition was given where a list is needed: write [condition]'
      )
    if len(given) != count or not count:
      raise errors.UserError(
        f'{len(given)} conditions for {count} {what}: give one for each'
      )
    return [self.config.data.given(each) for each in given]

  def _given(self, parts) -> conditions_lib.Given:
    """Filled up likewise."""
    condition = corpora.condition_of(
      parts, self.tokenizer, self.config.pipeline, _round_up(len(parts))
    )
    return _read_condition(self.task, self.params, condition)


def _round_up(count: int) -> int:
  """The next power of two, so that few sizes are compiled."""
  return 1 << max(0, count - 1).bit_length()


def _keys(seed: int, first: int, count: int, stream: int) -> jax.Array:
  root = jax.random.fold_in(jax.random.key(seed), stream)
  rows = jnp.arange(first, first + count)
  return jax.vmap(jax.random.fold_in, (None, 0))(root, rows)


@functools.partial(jax.jit, static_argnames='task')
def _encode(task, params, batch):
  return task.encode(params, batch)


@functools.partial(jax.jit, static_argnames='task')
def _log_q(task, params, batch):
  return task.log_q(params, batch)


@functools.partial(jax.jit, static_argnames='task')
def _read_condition(task, params, condition) -> conditions_lib.Given:
  # `given` reads of a batch its condition alone, and counts its rows.
  tokens = condition.tokens
  batch = pipeline.Batch(tokens, jnp.zeros(tokens.shape), condition=condition)
  return task.given(params, batch)


@functools.partial(jax.jit, static_argnames='n')
def _draw(prior, keys, n) -> Float[jax.Array, 'B n Z']:
  """n latents from the prior of each, [B, n, Z]."""
  made = noise.normal(keys, (n, prior.mean.shape[1]))
  several = jax.tree.map(lambda x: jnp.repeat(x[:, None], n, axis=1), prior)
  return several.sample(made)


@functools.partial(jax.jit, static_argnames=('task', 'samples'))
def _iw_nll(task, params, batch, keys, samples):
  weights = task.log_weights(params, batch, keys, samples)
  return bounds.importance_weighted_nll(weights)
