"""The numbers of a trained model on a split, each with its denominator."""

from collections.abc import Callable, Iterator
import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int
import numpy as np
from rich import table as rich_table

from lvdecode.evaluation import split as split_lib
from lvdecode.latent import bounds
from lvdecode.latent import gaussian
from lvdecode.latent import probes
from lvdecode.tasks import latent
from lvdecode.text import pipeline


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
  """Figures of a split; losses are nats per sequence, means over texts.

  Attributes:
    texts: N, each counted once.
    tokens: modelled tokens of all texts, EOS counted.
    words: of the raw texts, white-space separated, one more a text.
    characters: of the raw texts, one more a text.
    unknown_share: unknown tokens per token of text.
    truncated: texts of which only the beginning was scored.
    dropped: texts left out as too long.
    samples: K of the importance-weighted bound.
    kl: KL(q(z|y) || p(z)).
    reconstruction_nll: -log p(y | z), z ~ q.
    negative_elbo: their sum.
    iw_nll: -log 1/K sum_k p(y, z_k) / q(z_k | y), z_k ~ q.
    iw_nll_error: standard error of its mean over the texts.
    shuffled_nll: -log p(y | z) with z of another text of the split.
    zeroed_nll: -log p(y | 0).
    active_units: dimensions with Var_y(E[z_d | y]) > 0.01.
    latent_size: Z; 0 for a plain language model.
    mutual_information: I_q(y; z) in nats, at most ln N.
    log_texts: ln N, the ceiling of that estimator.
  """

  texts: int
  tokens: int
  words: int
  characters: int
  unknown_share: float
  truncated: int
  dropped: int
  samples: int
  kl: float
  reconstruction_nll: float
  negative_elbo: float
  iw_nll: float
  iw_nll_error: float
  shuffled_nll: float
  zeroed_nll: float
  active_units: int
  latent_size: int
  mutual_information: float
  log_texts: float

  def derived(self) -> dict[str, float]:
    """Perplexities and bits, from the ELBO and from the tighter bound."""
    figures = {}
    for name, nll in (('elbo', self.negative_elbo), ('iw', self.iw_nll)):
      total = nll * self.texts
      figures[f'{name}_perplexity_per_token'] = _exp(total / self.tokens)
      figures[f'{name}_perplexity_per_word'] = _exp(total / self.words)
      bits = total / self.characters / math.log(2)
      figures[f'{name}_bits_per_character'] = bits
    return figures

  def to_dict(self) -> dict[str, int | float]:
    return dataclasses.asdict(self) | self.derived()


def validation_figures(
  task: latent.LatentTask,
  params: Any,
  batches: Iterator[tuple[pipeline.Batch, Int[np.ndarray, ' B']]],
) -> dict[str, float]:
  """The cheap figures of training: means over texts, in nats a sequence."""
  texts = split_lib.one_sample(task, params, batches, seed=0)
  kl = np.sum(texts.kl, axis=1)
  q = gaussian.Gaussian(jnp.asarray(texts.mean), jnp.asarray(texts.logvar))
  return {
    'negative_elbo': _mean(texts.nll + kl),
    'nll': _mean(texts.nll),
    'kl': _mean(kl),
    'active_units': float(probes.active_units(texts.mean)),
    'mutual_information': probes.mutual_information(q, texts.z),
  }


def evaluate(
  split: split_lib.Split,
  *,
  samples: int,
  advance: Callable[[int], None] = lambda texts: None,
) -> Report:
  """Every text once; the same figures for any batch size.

  `advance` is called with the number of texts that were just finished.
  """
  count, size, corpus = split.count, split.latent_size, split.corpus
  texts = split.sample
  kl = np.sum(texts.kl, axis=1)
  # The texts in a random circle, each told its neighbour's z: no text gets
  # its own.
  circle = np.random.default_rng(split.seed).permutation(count)
  neighbour = np.empty(count, np.int64)
  neighbour[circle] = np.roll(circle, 1)
  samples = samples if size else 1

  def measure(batch, rows):
    z = texts.z[neighbour[rows]]
    keys = split.keys(rows, 1)
    weights = _log_weights(split.task, split.params, batch, keys, samples)
    return jnp.stack(
      (
        _nll(split.task, split.params, batch, z),
        _nll(split.task, split.params, batch, np.zeros_like(z)),
        bounds.importance_weighted_nll(weights),
      ),
      axis=1,
    )

  # Without a latent nothing can be shuffled, zeroed or tightened.
  shuffled = zeroed = iw = texts.nll
  if size:
    shuffled, zeroed, iw = split.per_text(measure, advance).T
  q = gaussian.Gaussian(jnp.asarray(texts.mean), jnp.asarray(texts.logvar))
  return Report(
    texts=count,
    tokens=int(np.sum(corpus.lengths.astype(np.int64) - 1)),
    words=int(np.sum(corpus.words, dtype=np.int64)),
    characters=int(np.sum(corpus.characters, dtype=np.int64)),
    unknown_share=corpus.unknown_share,
    truncated=corpus.truncated,
    dropped=corpus.dropped,
    samples=samples,
    kl=_mean(kl),
    reconstruction_nll=_mean(texts.nll),
    negative_elbo=_mean(texts.nll + kl),
    iw_nll=_mean(iw),
    iw_nll_error=float(np.std(iw)) / math.sqrt(count),
    shuffled_nll=_mean(shuffled),
    zeroed_nll=_mean(zeroed),
    active_units=probes.active_units(texts.mean),
    latent_size=size,
    mutual_information=probes.mutual_information(q, texts.z),
    log_texts=math.log(count),
  )


def to_table(report: Report, title: str) -> rich_table.Table:
  """The figures as people read them: value, unit, denominator."""
  table = rich_table.Table(title=title)
  table.add_column('figure')
  table.add_column('value', justify='right')
  table.add_column('unit')
  nats = 'nats per sequence'
  bound = f'importance-weighted NLL, K = {report.samples}'
  if report.latent_size:
    table.add_row('KL(q || p)', f'{report.kl:.2f}', nats)
    table.add_row(
      'reconstruction NLL', f'{report.reconstruction_nll:.2f}', nats
    )
    table.add_row('-ELBO', f'{report.negative_elbo:.2f}', nats)
    table.add_row(
      bound, f'{report.iw_nll:.2f} ± {report.iw_nll_error:.2f}', nats
    )
  else:
    table.add_row(
      'NLL', f'{report.iw_nll:.2f} ± {report.iw_nll_error:.2f}', nats
    )
  derived = report.derived()
  for name, unit, count in (
    ('perplexity_per_token', 'per model token', report.tokens),
    ('perplexity_per_word', 'per word', report.words),
    ('bits_per_character', 'bits per character', report.characters),
  ):
    row = name.split('_')[0] + (' (K samples)' if report.latent_size else '')
    table.add_row(row, f'{derived["iw_" + name]:.3f}', f'{unit}, {count:,}')
  if report.latent_size:
    loss = report.reconstruction_nll
    table.add_row(
      "NLL with another text's z",
      f'{report.shuffled_nll:.2f} ({report.shuffled_nll - loss:+.2f})',
      nats,
    )
    table.add_row(
      'NLL with z = 0',
      f'{report.zeroed_nll:.2f} ({report.zeroed_nll - loss:+.2f})',
      nats,
    )
    table.add_row(
      'active units',
      str(report.active_units),
      f'of {report.latent_size}, variance of the mean > 0.01',
    )
    table.add_row(
      'mutual information',
      f'{report.mutual_information:.2f}',
      f'nats, at most ln N = {report.log_texts:.2f}',
    )
  table.add_row('texts', f'{report.texts:,}', 'each counted once')
  table.add_row(
    'unknown tokens', f'{100 * report.unknown_share:.2f} %', 'of tokens of text'
  )
  cut = f'{report.truncated} truncated, {report.dropped} dropped'
  table.add_row('too long', cut, 'texts')
  return table


def _exp(nats: float) -> float:
  """exp, or infinity: text without spaces has thousands of nats a word."""
  return math.exp(nats) if nats < 700 else math.inf


def _mean(values: Float[np.ndarray, ' N']) -> float:
  return float(np.mean(values, dtype=np.float64))


@functools.partial(jax.jit, static_argnames='task')
def _nll(task, params, batch, z):
  return task.nll(params, batch, z)


@functools.partial(jax.jit, static_argnames=('task', 'samples'))
def _log_weights(task, params, batch, keys, samples):
  return task.log_weights(params, batch, keys, samples)
