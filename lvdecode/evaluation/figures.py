"""The numbers of a trained model on a split, each with its denominator."""

from collections.abc import Callable
import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from rich import table as rich_table

from lvdecode.evaluation import information as information_lib
from lvdecode.evaluation import likelihood as likelihood_lib
from lvdecode.evaluation import split as split_lib
from lvdecode.evaluation import use as use_lib
from lvdecode.latent import gaussian
from lvdecode.latent import probes


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
    conditions_truncated: conditions that were too long and lost words.
    samples: K of the importance-weighted bound.
    kl: KL(q(z|y) || p(z)).
    reconstruction_nll: -log p(y | z), z ~ q.
    negative_elbo: their sum.
    iw_nll: -log 1/K sum_k p(y, z_k) / q(z_k | y), z_k ~ q.
    iw_nll_error: standard error of its mean over the texts.
    shuffled_nll: -log p(y | z) with z of another text of the split; NaN for a
      split of one text, which cannot be shuffled.
    zeroed_nll: -log p(y | z) with z the prior's mean, 0 of N(0, I).
    active_units: dimensions with Var_y(E[z_d | y]) > 0.01, in the scale of the
      prior.
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
  conditions_truncated: int = 0
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


def validation_figures(split: split_lib.Split) -> dict[str, float]:
  """The cheap figures of training: means over texts, in nats a sequence.

  The cost is that of one sample of every text, two more decoder passes, and
  what `use.followed` asks of a few texts.
  """
  texts = split.sample
  if not split.latent_size:
    nll = split_lib.mean(texts.nll)
    return {'negative_elbo': nll, 'nll': nll}
  kl = np.sum(texts.kl, axis=1)
  figures = {
    'negative_elbo': split_lib.mean(texts.nll + kl),
    'nll': split_lib.mean(texts.nll),
    'kl': split_lib.mean(kl),
    'active_units': float(probes.active_units(texts.from_prior(texts.mean))),
    'mutual_information': probes.mutual_information(
      gaussian.Gaussian(jnp.asarray(texts.mean), jnp.asarray(texts.logvar)),
      texts.z,
    ),
    'log_texts': math.log(split.count),
  }
  return figures | use_lib.followed(split)


def evaluate(
  split: split_lib.Split,
  *,
  samples: int,
  advance: Callable[[float], None] = lambda texts: None,
) -> Report:
  """Measures all that `compose` asks for; half the texts' progress each."""

  def half(texts):
    advance(texts / 2)

  return compose(
    split,
    likelihood_lib.measure(split, samples=samples, advance=half),
    information_lib.measure(split),
    use_lib.measure(split, half),
  )


def compose(
  split: split_lib.Split,
  likelihood: likelihood_lib.Likelihood,
  information: information_lib.Information,
  use: use_lib.Use,
) -> Report:
  """The headline of what was measured; nothing is measured again."""
  corpus, own = split.corpus, split_lib.mean(split.sample.nll)

  def told(change):  # a plain language model is told nothing
    if not split.latent_size:
      return own
    return math.nan if change is None else change.nll

  return Report(
    texts=split.count,
    tokens=int(np.sum(corpus.lengths.astype(np.int64) - 1)),
    words=int(np.sum(corpus.words, dtype=np.int64)),
    characters=int(np.sum(corpus.characters, dtype=np.int64)),
    unknown_share=corpus.unknown_share,
    truncated=corpus.truncated,
    dropped=corpus.dropped,
    conditions_truncated=corpus.conditions_truncated,
    samples=likelihood.samples,
    kl=information.kl.value,
    reconstruction_nll=own,
    negative_elbo=own + information.kl.value,
    iw_nll=likelihood.nll,
    iw_nll_error=likelihood.error,
    shuffled_nll=told(use.shuffled),
    zeroed_nll=told(use.zeroed),
    active_units=information.active_units,
    latent_size=split.latent_size,
    mutual_information=information.mutual_information.value,
    log_texts=information.log_texts,
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
      bound, split_lib.with_error(report.iw_nll, report.iw_nll_error), nats
    )
  else:
    table.add_row(
      'NLL', split_lib.with_error(report.iw_nll, report.iw_nll_error), nats
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
    shuffled = f'{report.shuffled_nll:.2f} ({report.shuffled_nll - loss:+.2f})'
    if math.isnan(report.shuffled_nll):
      shuffled = 'one text cannot be shuffled'
    table.add_row("NLL with another text's z", shuffled, nats)
    table.add_row(
      "NLL with z = the prior's mean",
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
  if report.conditions_truncated:
    cut = f'{report.conditions_truncated} truncated'
    table.add_row('too long', cut, 'of what is given with the texts')
  return table


def _exp(nats: float) -> float:
  """exp, or infinity: text without spaces has thousands of nats a word."""
  return math.exp(nats) if nats < 700 else math.inf
