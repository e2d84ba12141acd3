"""A split of the data under a trained model: what every figure starts from."""

from collections.abc import Callable, Iterator
import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key
import numpy as np

from lvdecode.tasks import latent
from lvdecode.text import batching
from lvdecode.text import corpora
from lvdecode.text import pipeline

# What keys are for; see `Split.keys`.
SAMPLE, LIKELIHOOD, PRIOR = 0, 1, 2


class OneSample(NamedTuple):
  """Each text with one z ~ q(z | y); row n belongs to corpus row n.

  Attributes:
    mean: [N, Z], of q(z | y).
    logvar: [N, Z].
    prior_mean: [N, Z], of the text's own prior; 0 of N(0, I).
    prior_logvar: [N, Z].
    z: [N, Z], the sample.
    nll: [N], -log p(y | z), nats per sequence.
    kl: [N, Z], KL(q(z_d | y) || p(z_d)), nats; p is the text's own prior.
  """

  mean: Float[np.ndarray, 'N Z']
  logvar: Float[np.ndarray, 'N Z']
  prior_mean: Float[np.ndarray, 'N Z']
  prior_logvar: Float[np.ndarray, 'N Z']
  z: Float[np.ndarray, 'N Z']
  nll: Float[np.ndarray, ' N']
  kl: Float[np.ndarray, 'N Z']

  def from_prior(
    self, values: Float[np.ndarray, 'N Z']
  ) -> Float[np.ndarray, 'N Z']:
    """Where values lie in the text's own prior: as in N(0, I) where that is it.

    Distances from the prior's mean, in its standard deviations.
    """
    return (values - self.prior_mean) * np.exp(-0.5 * self.prior_logvar)

  def of(self, neighbour: Int[np.ndarray, ' N']) -> Float[np.ndarray, 'N Z']:
    """The z of other texts, at the places they have in their own priors.

    What they say beyond their conditions; with N(0, I) it is their z.
    """
    other = self.from_prior(self.z)[neighbour]
    return self.prior_mean + np.exp(0.5 * self.prior_logvar) * other


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Split:
  """A tokenised split and the model that is asked about it.

  Attributes:
    task: the network and its objective.
    params: its parameters.
    corpus: the split; every text of it counts once in every figure.
    batch_size: texts a batch; no figure depends on it.
    lengths: static lengths of the batches.
    seed: of everything that is drawn.
    groups: [N], by a number the texts that are of one origin, `sources.groups`;
      None where each is a draw of its own.
  """

  task: latent.LatentTask
  params: Any
  corpus: corpora.Corpus
  batch_size: int
  lengths: tuple[int, ...]
  seed: int
  groups: Int[np.ndarray, ' N'] | None = None

  @property
  def count(self) -> int:
    """N, the texts of the split."""
    return len(self.corpus.rows)

  @property
  def latent_size(self) -> int:
    """Z; 0 for a plain language model."""
    return self.sample.z.shape[1]

  def batches(
    self,
  ) -> Iterator[tuple[pipeline.Batch, Int[np.ndarray, ' B']]]:
    """Every text once, with its corpus row; fillers have row -1."""
    size = min(self.batch_size, self.count)
    return batching.eval_batches(self.corpus, size, self.lengths)

  def keys(self, rows: Int[np.ndarray, ' B'], purpose: int) -> Key[Array, ' B']:
    """One key a text, by its row; fillers share one. Purposes see above."""
    return text_keys(_root(self.seed, purpose), rows)

  @functools.cached_property
  def sample(self) -> OneSample:
    """One z of every text, drawn once and used by all figures."""
    root = _root(self.seed, SAMPLE)
    return one_sample(self.task, self.params, self.batches(), root)

  @functools.cached_property
  def neighbour(self) -> Int[np.ndarray, ' N'] | None:
    """Another text for each, every text once; None where there is no other."""
    if self.count < 2:
      return None
    circle = np.random.default_rng(self.seed).permutation(self.count)
    neighbour = np.empty(self.count, np.int64)
    neighbour[circle] = np.roll(circle, 1)
    return neighbour

  def few(self, count: int) -> 'Split':
    """The first texts of it with the z they have, of one static length."""
    rows = np.arange(min(count, self.count))
    some = dataclasses.replace(
      self,
      groups=None if self.groups is None else self.groups[rows],
      corpus=corpora.take(self.corpus, rows),
      lengths=self.lengths[-1:],
    )
    some.__dict__['sample'] = OneSample(*(x[rows] for x in self.sample))
    return some

  def per_text(
    self,
    measure: Callable[
      [pipeline.Batch, Int[np.ndarray, ' B']], Float[Array, '...']
    ],
    advance: Callable[[int], None] = lambda texts: None,
  ) -> np.ndarray:
    """[N, ...]: `measure(batch, rows)` of each text, in the corpus' order.

    `advance` is called with the number of texts that were just finished.
    """
    whole = None
    for batch, rows in self.batches():
      real = rows >= 0
      values = np.asarray(measure(batch, rows))
      if whole is None:
        whole = np.empty((self.count, *values.shape[1:]), values.dtype)
      whole[rows[real]] = values[real]
      advance(int(real.sum()))
    assert whole is not None  # a corpus is never empty
    return whole


def one_sample(
  task: latent.LatentTask,
  params: Any,
  batches: Iterator[tuple[pipeline.Batch, Int[np.ndarray, ' B']]],
  root: Key[Array, ''],
) -> OneSample:
  """`LatentTask.evaluate` of every text, in the order of the rows."""
  parts, order = [], []
  for batch, rows in batches:
    sample = _one_sample(task, params, batch, text_keys(root, rows))
    real = rows >= 0
    parts.append(OneSample(*(np.asarray(field)[real] for field in sample)))
    order.append(rows[real])
  back = np.argsort(np.concatenate(order))
  return OneSample(
    *(np.concatenate(field)[back] for field in zip(*parts, strict=True))
  )


def mean(values: Float[np.ndarray, ' N']) -> float:
  """Summed in float64, whatever the values are."""
  return float(np.mean(values, dtype=np.float64))


def standard_error(
  values: Float[np.ndarray, ' N'],
  groups: Int[np.ndarray, ' N'] | None = None,
) -> float:
  """Of their mean, over draws of texts; NaN of a single one.

  Texts of one group are drawn together: the cluster-robust error of a mean
  (Liang and Zeger 1986), G / (G - 1) sum_g (sum_(n in g) (v_n - mean))^2 / N^2
  and its root; with groups of one that is the common one.
  """
  gaps = values.astype(np.float64) - np.mean(values, dtype=np.float64)
  sums = gaps if groups is None else _sums(gaps, groups)
  if len(sums) < 2:
    return math.nan
  spread = len(sums) / (len(sums) - 1) * float(sums @ sums)
  return math.sqrt(spread) / len(values)


def with_error(value: float, error: float, form: str = '.2f') -> str:
  """'1.50 ± 0.20'; the value alone where there is no error to tell."""
  shown = format(value, form)
  if math.isnan(error):
    return shown
  return f'{shown} ± {format(error, form.lstrip("+"))}'


def resampled(
  values: Float[np.ndarray, 'N F'],
  groups: Int[np.ndarray, ' N'] | None,
  times: int,
  seed: int,
) -> Float[np.ndarray, 'R F']:
  """Means over bootstrap samples of the texts, groups of them drawn whole."""
  rng = np.random.default_rng(seed)
  sums, sizes = values, np.ones(len(values))
  if groups is not None:
    sums, sizes = _sums(values, groups), _sums(sizes, groups)
  even = np.full(len(sums), 1 / len(sums))
  drawn = [rng.multinomial(len(sums), even) for _ in range(times)]
  return np.stack([times @ sums / (times @ sizes) for times in drawn])


def _sums(
  values: Float[np.ndarray, 'N ...'], groups: Int[np.ndarray, ' N']
) -> Float[np.ndarray, 'G ...']:
  """Of each group that has a text."""
  numbers = np.unique(groups, return_inverse=True)[1]
  sums = np.zeros((numbers.max() + 1, *values.shape[1:]))
  np.add.at(sums, numbers, values)
  return sums


def text_keys(
  root: Key[Array, ''], rows: Int[np.ndarray, ' B']
) -> Key[Array, ' B']:
  """One key a text, by its row; fillers share one."""
  texts = jnp.asarray(np.maximum(rows, 0))
  return jax.vmap(jax.random.fold_in, (None, 0))(root, texts)


def _root(seed: int, purpose: int) -> Key[Array, '']:
  """Not their sum: what one seed draws for this is another's for that."""
  return jax.random.fold_in(jax.random.key(seed), purpose)


@functools.partial(jax.jit, static_argnames='task')
def _one_sample(task, params, batch, keys) -> OneSample:
  figures = task.evaluate(params, batch, keys)
  return OneSample(*(figures[name] for name in OneSample._fields))
