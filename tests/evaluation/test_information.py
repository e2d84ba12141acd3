"""The split of the KL where its parts are known in closed form."""

import io
import logging
import math

import jax.numpy as jnp
import numpy as np
import pytest
from rich import console
import tiny
import truth

from lvdecode.evaluation import information
from lvdecode.evaluation import split
from lvdecode.latent import gaussian
from lvdecode.latent import probes

N = 60


class Given(split.Split):
  """A split whose posteriors and samples are given."""

  def __init__(self, mean, logvar, seed=0):
    task = truth.linear()
    super().__init__(
      task=task,
      params={},
      corpus=truth.texts(len(mean)),
      batch_size=8,
      lengths=truth.LENGTHS,
      seed=seed,
    )
    mean, logvar = np.asarray(mean, np.float32), np.asarray(logvar, np.float32)
    noise = np.random.default_rng((9, seed)).normal(size=mean.shape)
    q = gaussian.Gaussian(mean, logvar)
    self.__dict__['sample'] = split.OneSample(
      mean=mean,
      logvar=logvar,
      prior_mean=np.zeros_like(mean),
      prior_logvar=np.zeros_like(mean),
      z=np.asarray(q.sample(jnp.asarray(noise, jnp.float32))),
      nll=np.zeros(len(mean)),
      kl=np.asarray(gaussian.kl(q, gaussian.standard(mean.shape))),
    )


def clusters(count, distance=40.0, correlated=True):
  """Two clusters of texts, a bit; along both dimensions or along one."""
  mean = np.zeros((count, 2))
  mean[: count // 2, 0] = distance
  if correlated:
    mean[: count // 2, 1] = distance
  return mean, np.zeros((count, 2))


@pytest.mark.slow
def test_two_clusters_are_one_bit_and_so_is_what_ties_their_dimensions():
  got = information.measure(Given(*clusters(N)))
  bit = math.log(2)
  assert got.mutual_information.value == pytest.approx(bit, abs=1e-3)
  assert got.total_correlation.value == pytest.approx(bit, abs=1e-3)
  assert got.kl.value == pytest.approx(40**2 / 2)
  assert got.marginal_kl.value == pytest.approx(40**2 / 2 - bit)
  assert not got.saturated
  alone = information.measure(Given(*clusters(N, correlated=False)))
  assert alone.total_correlation.value == pytest.approx(0.0, abs=1e-3)
  assert alone.mutual_information.value == pytest.approx(bit, abs=1e-3)


@pytest.mark.slow
def test_a_gaussian_aggregated_posterior_has_its_closed_form():
  """Texts spread as N(0, s^2 R) make q(z) = N(0, s^2 R + v I)."""
  count, spread, within, tie = 2_000, 1.5, 0.8, 0.6
  rng = np.random.default_rng(0)
  covariance = spread**2 * np.array([[1, tie], [tie, 1]])
  mean = rng.multivariate_normal(np.zeros(2), covariance, count)
  logvar = np.full((count, 2), math.log(within))
  got = information.measure(Given(mean, logvar))
  whole = covariance + within * np.eye(2)
  # I(y; z) = H(z) - H(z | y), both Gaussian.
  mutual = 0.5 * (np.linalg.slogdet(whole)[1] - 2 * math.log(within))
  marginal = 0.5 * (np.trace(whole) - 2 - np.linalg.slogdet(whole)[1])
  total = 0.5 * (np.log(np.diag(whole)).sum() - np.linalg.slogdet(whole)[1])
  for interval, known in (
    (got.mutual_information, mutual),
    (got.marginal_kl, marginal),
    (got.total_correlation, total),
    (got.kl, mutual + marginal),
  ):
    assert interval.low < interval.value < interval.high
    assert interval.value == pytest.approx(known, abs=0.08)
    # The interval is as wide as twice 1.96 standard errors.
    assert 0.005 < interval.high - interval.low < 0.3
  assert got.mutual_information.value + got.marginal_kl.value == pytest.approx(
    got.kl.value
  )
  np.testing.assert_allclose(
    got.variance_spectrum, spread**2 * np.array([1 + tie, 1 - tie]), rtol=0.1
  )


@pytest.mark.slow
@pytest.mark.parametrize('size', [6, 12])
def test_the_two_estimates_of_the_information_hold_the_truth_between_them(size):
  """In expectation, where ln N is no longer far: 0.6 and 1.2 times the truth."""
  count, within, runs = 400, 0.3, 8
  known = -0.5 * size * math.log(within)
  least, most, marginal = [], [], []
  for seed in range(runs):
    rng = np.random.default_rng((4, seed))
    mean = rng.normal(size=(count, size), scale=math.sqrt(1 - within))
    logvar = np.full((count, size), math.log(within))
    got = information.measure(Given(mean, logvar, seed))
    least.append(got.mutual_information.value)
    most.append(got.most_mutual_information)
    marginal.append(got.marginal_kl.value)
    assert f'{most[-1]:.3f}' in shown(got) and 'too large' in shown(got)
  assert np.mean(least) < known - 0.1 and known < np.mean(most)
  # What it lacks, KL(q(z) || p(z)), which is 0 here, has too much.
  assert np.mean(marginal) == pytest.approx(known - np.mean(least), abs=0.1)


@pytest.mark.slow
def test_the_interval_is_that_of_other_texts():
  """About 95 % of intervals hold the truth, known here exactly."""
  held, runs = 0, 40
  for seed in range(runs):
    rng = np.random.default_rng((1, seed))
    mean = rng.normal(size=(80, 1))
    got = information.measure(Given(mean, np.zeros((80, 1)), seed))
    held += got.kl.low <= 0.5 <= got.kl.high
  assert 0.85 * runs <= held


def test_a_collapsed_code_says_nothing():
  got = information.measure(Given(np.zeros((N, 3)), np.zeros((N, 3))))
  for found in (got.kl, got.mutual_information, got.marginal_kl):
    assert (found.value, found.low, found.high) == pytest.approx((0, 0, 0))
  assert got.active_units == 0


@pytest.mark.slow
def test_the_ceiling_is_named_when_it_is_reached(caplog):
  mean = 100.0 * np.arange(N)[:, None]
  with caplog.at_level(logging.WARNING):
    got = information.measure(Given(mean, np.zeros((N, 1))))
  assert got.saturated
  assert got.mutual_information.value == pytest.approx(math.log(N), abs=1e-4)
  assert got.mutual_information.value <= got.log_texts + 1e-6
  assert f'ln N = {math.log(N):.2f}' in caplog.text
  assert 'lower' not in caplog.text
  caplog.clear()
  information.measure(Given(*clusters(N)))
  assert not caplog.text


def test_dimensions_are_told_apart():
  mean = np.zeros((N, 3))
  mean[::2, 1] = 2.0
  logvar = np.zeros((N, 3))
  logvar[:, 2] = -1.0
  got = information.measure(Given(mean, logvar))
  narrow = 0.5 * (math.exp(-1) + 1 - 1)
  assert got.kl_by_dimension == pytest.approx((0, 1.0, narrow), abs=1e-6)
  assert got.variance_by_dimension == pytest.approx((0, 1.0, 0))
  assert got.variance_spectrum == pytest.approx((1.0, 0, 0), abs=1e-9)
  assert got.active_units == 1
  assert sum(got.kl_by_dimension) == pytest.approx(got.kl.value)


@pytest.mark.parametrize('block', [1, 2**10, 2**30])
def test_the_densities_are_those_of_the_definition(block, monkeypatch):
  rng = np.random.default_rng(3)
  mean, logvar, z = rng.normal(size=(3, 7, 2))
  monkeypatch.setattr(probes, '_BLOCK', block)
  got = probes.densities(
    gaussian.Gaussian(*(jnp.asarray(x, jnp.float32) for x in (mean, logvar))),
    z.astype(np.float32),
  )
  # [n, m, d]: of z_n under text m.
  log_density = -0.5 * (
    (z[:, None] - mean) ** 2 / np.exp(logvar) + logvar + math.log(2 * math.pi)
  )
  own = np.diagonal(log_density.sum(-1))
  joint = np.log(np.exp(log_density.sum(-1)).mean(1))
  apart = np.exp(log_density.sum(-1)) * (1 - np.eye(7))
  others = np.log(apart.sum(1) / 6)
  factors = np.log(np.exp(log_density).mean(1)).sum(-1)
  for found, known in zip(got, (own, joint, others, factors), strict=True):
    np.testing.assert_allclose(found, known, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_prior_of_each_texts_own_is_the_one_that_counts():
  task = truth.linear(conditional=True)
  corpus = truth.texts()
  got = information.measure(truth.ask(task, corpus))
  batch, params = truth.whole(corpus), truth.params(task)
  known = gaussian.kl(task.encode(params, batch), task.prior(params, batch))
  assert got.kl.value == pytest.approx(float(known.sum(1).mean()), rel=1e-4)
  # What the prior knows: p(z) is the mean of the texts' priors.
  prior = task.prior(params, batch)
  z = truth.ask(task, corpus).sample.z.astype(np.float64)
  mean, logvar = (np.asarray(x, np.float64) for x in prior)
  square = (z[:, None] - mean) ** 2 * np.exp(-logvar)
  log_p = -0.5 * (square + logvar + np.log(2 * np.pi)).sum(-1)
  parts = np.diag(log_p) - np.log(np.exp(log_p).mean(1))
  assert got.prior_information.value == pytest.approx(parts.mean(), rel=1e-4)
  whole = got.mutual_information.value + got.marginal_kl.value
  assert whole - parts.mean() == pytest.approx(got.kl.value, rel=1e-4)
  assert 'what the prior knows by the condition' in shown(got)
  # Of one prior it knows nothing.
  plain = information.measure(truth.ask(truth.linear(), corpus))
  assert plain.prior_information.value == 0
  assert 'by the condition' not in shown(plain)


def test_units_are_active_beyond_what_the_condition_says():
  """A posterior that is its prior has no active unit, wherever the prior is."""
  task = truth.linear(conditional=True)
  params = truth.params(task)
  params['loads'] = jnp.zeros_like(params['loads'])
  asked = truth.ask(task, truth.texts(), params=params)
  assert np.var(asked.sample.mean, axis=0).min() > 0.1
  got = information.measure(asked)
  assert got.kl.value == pytest.approx(0, abs=1e-5)
  assert got.active_units == 0
  assert max(got.variance_by_dimension) < 1e-6
  # Nor is another text's z worse than the own: all come from the prior.
  moved = asked.sample.of(asked.neighbour)
  noise = asked.sample.from_prior(asked.sample.z)
  again = asked.sample._replace(z=moved).from_prior(moved)
  np.testing.assert_allclose(again, noise[asked.neighbour], atol=1e-4)


@pytest.mark.slow
def test_a_plain_language_model_has_no_information_and_a_table_says_so():
  plain = tiny.shallow(points=())
  asked = truth.ask(tiny.task(plain), truth.texts(5), params=tiny.params(plain))
  got = information.measure(asked)
  assert got.kl.value == got.mutual_information.value == 0
  assert not got.saturated and got.kl_by_dimension == ()
  assert 'no latent' in shown(got)


def shown(found):
  screen = console.Console(file=io.StringIO(), width=120)
  screen.print(information.to_table(found, 'title'))
  return screen.file.getvalue()


def test_the_table_has_the_ceiling_beside_the_estimate():
  got = information.measure(Given(*clusters(N)))
  text = shown(got)
  assert f'at most ln N = {math.log(N):.2f}' in text
  assert f'{got.mutual_information.value:.3f}' in text
  assert '2 of 2' in text
