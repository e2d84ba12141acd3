"""What z says of the text, in nats, and in which of its dimensions."""

import dataclasses
import logging
import math

import jax.numpy as jnp
from jaxtyping import Float
import numpy as np
from rich import table as rich_table

from lvdecode.evaluation import split as split_lib
from lvdecode.latent import gaussian
from lvdecode.latent import probes

_RESAMPLES = 1_000  # of the bootstrap
_CENTRAL = (2.5, 97.5)  # percentiles: an interval of 95 %
_CEILING = 0.95  # share of ln N from which the estimate says little


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
  """An estimate and its bootstrap interval over texts (95 %), in nats.

  The interval is that of the choice of texts; no bias is in it.
  """

  value: float
  low: float
  high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Information:
  """KL(q(z|y) || p(z)) taken apart (Hoffman & Johnson 2016), in nats a text.

  Attributes:
    texts: N.
    log_texts: ln N, which the estimate of the mutual information cannot
      exceed, whatever the truth.
    saturated: the mutual information is within 5 % of ln N: take it as a lower
      bound.
    kl: KL(q(z|y) || p(z)), mean over texts; mutual_information + marginal_kl
      - prior_information.
    mutual_information: I_q(y; z), one z ~ q(z|y) a text, by the aggregated
      posterior q(z) of these texts. With a condition it counts as of the text.
      Each text is one of those of q(z), so that in expectation this is a lower
      bound.
    most_mutual_information: the same with q(z) of the other texts, in
      expectation an upper bound (Poole et al. 2019, section 2.1); None for a
      single text. The closer the two, the better the truth is known.
    marginal_kl: KL(q(z) || p(z)), where p(z) is the mean of the texts' priors;
      an upper bound by as much as mutual_information is a lower one.
    prior_information: what a learned prior knows of z already, by its
      condition: the mean of log p(z|x) - log p(z); 0 for N(0, I).
    total_correlation: KL(q(z) || prod_d q(z_d)), by the same q(z): too large
      where mutual_information is too small.
    active_units: dimensions with a variance of the mean above 0.01.
    kl_by_dimension: [Z], their sum is the kl.
    variance_by_dimension: [Z], Var_y(E[z_d | y]), in the scale of the prior,
      whose variance is 1: where it is learned, of (E[z | y] - its mean) / its
      standard deviation.
    variance_spectrum: [Z], eigenvalues of the covariance of E[z | y], largest
      first: few large ones, few directions that tell texts apart.
  """

  texts: int
  log_texts: float
  saturated: bool
  kl: Interval
  mutual_information: Interval
  most_mutual_information: float | None
  marginal_kl: Interval
  prior_information: Interval
  total_correlation: Interval
  active_units: int
  kl_by_dimension: tuple[float, ...]
  variance_by_dimension: tuple[float, ...]
  variance_spectrum: tuple[float, ...]


def measure(split: split_lib.Split) -> Information:
  """From one z of every text: no decoder is asked.

  The intervals resample the texts' shares of each mean; the aggregated
  posterior stays that of all texts.
  """
  texts = split.sample
  q = gaussian.Gaussian(jnp.asarray(texts.mean), jnp.asarray(texts.logvar))
  found = [np.asarray(x, np.float64) for x in probes.densities(q, texts.z)]
  own, joint, others, factors = found
  kl = np.sum(texts.kl, axis=1, dtype=np.float64)
  known = _known(texts)
  mean = texts.from_prior(texts.mean)
  # The exact KL less the estimate of the others: the parts add up, and where
  # z says nothing, or all, the noise of z cancels.
  shares = np.stack(
    [kl, own - joint, kl - (own - joint) + known, joint - factors, known],
    axis=1,
  )
  intervals = _intervals(shares, split)
  log_texts = math.log(split.count)
  spectrum = np.linalg.eigvalsh(_covariance(mean))[::-1]
  information = Information(
    texts=split.count,
    log_texts=log_texts,
    saturated=bool(
      split.latent_size and intervals[1].value >= _CEILING * log_texts
    ),
    kl=intervals[0],
    mutual_information=intervals[1],
    most_mutual_information=(
      split_lib.mean(own - others) if split.count > 1 else None
    ),
    marginal_kl=intervals[2],
    prior_information=intervals[4],
    total_correlation=intervals[3],
    active_units=probes.active_units(mean),
    kl_by_dimension=_floats(np.mean(texts.kl, axis=0, dtype=np.float64)),
    variance_by_dimension=_floats(np.var(mean, axis=0, dtype=np.float64)),
    variance_spectrum=_floats(np.maximum(spectrum, 0.0)),
  )
  if information.saturated:
    logging.warning('%s', _ceiling(information))
  return information


def _known(texts: split_lib.OneSample) -> Float[np.ndarray, ' N']:
  """log p(z | x) - log p(z) of every text; 0 where all have one prior."""
  mean, logvar = texts.prior_mean, texts.prior_logvar
  if (mean == mean[:1]).all() and (logvar == logvar[:1]).all():
    return np.zeros(len(mean))
  prior = gaussian.Gaussian(jnp.asarray(mean), jnp.asarray(logvar))
  found = probes.densities(prior, texts.z)
  return np.asarray(found.own, np.float64) - np.asarray(found.joint, np.float64)


def to_table(information: Information, title: str) -> rich_table.Table:
  """The split of the KL, and the dimensions that carry it."""
  table = rich_table.Table(title=title)
  table.add_column('figure')
  table.add_column('nats a text', justify='right')
  table.add_column('95 % interval', justify='right')
  if not information.kl_by_dimension:
    table.add_row('no latent, no information', '0', '')
    return table
  table.caption = (
    _ceiling(information)
    if information.saturated
    else 'intervals are of the choice of texts; where the two estimates of the '
    'mutual information differ, KL(q(z) || p(z)) and the total correlation are '
    'too large by up to as much'
  )
  rows = [
    ('KL(q(z|y) || p(z))', information.kl),
    (
      f'= mutual information, at most ln N = {information.log_texts:.2f}',
      information.mutual_information,
    ),
    ('+ KL(q(z) || p(z))', information.marginal_kl),
    ('total correlation of q(z)', information.total_correlation),
  ]
  known = information.prior_information
  if known.value:
    rows.insert(3, ('- what the prior knows by the condition', known))
  for name, found in rows:
    interval = f'{found.low:.3f} to {found.high:.3f}'
    table.add_row(name, f'{found.value:.3f}', interval)
  most = information.most_mutual_information
  if most is not None:
    table.add_row(
      "mutual information by the other texts' q(z): at most", f'{most:.3f}', ''
    )
  table.add_section()
  order = np.argsort(information.kl_by_dimension)[::-1]
  shown = ', '.join(
    f'{information.kl_by_dimension[place]:.2f} ({place})' for place in order[:8]
  )
  size = len(information.kl_by_dimension)
  table.add_row('KL by dimension, largest first (its number)', shown, '')
  table.add_row(
    'active units',
    f'{information.active_units} of {size}',
    'variance of the mean > 0.01',
  )
  spectrum = ', '.join(f'{x:.2f}' for x in information.variance_spectrum[:8])
  table.add_row('variances along principal axes', spectrum, 'the prior has 1')
  return table


def _ceiling(information: Information) -> str:
  return (
    f'the mutual information {information.mutual_information.value:.2f} is '
    f'within 5 % of ln N = {information.log_texts:.2f}, its ceiling with '
    f'{information.texts:,} texts: the truth may be far above it'
  )


def _intervals(
  shares: Float[np.ndarray, 'N F'], split: split_lib.Split
) -> list[Interval]:
  means = split_lib.resampled(shares, split.groups, _RESAMPLES, split.seed)
  low, high = np.percentile(means, _CENTRAL, axis=0)
  return [
    Interval(value=float(value), low=float(least), high=float(most))
    for value, least, most in zip(shares.mean(axis=0), low, high, strict=True)
  ]


def _covariance(mean: Float[np.ndarray, 'N Z']) -> Float[np.ndarray, 'Z Z']:
  centred = mean.astype(np.float64) - mean.mean(axis=0, dtype=np.float64)
  return centred.T @ centred / len(mean)


def _floats(values: Float[np.ndarray, ' n']) -> tuple[float, ...]:
  return tuple(map(float, values))
