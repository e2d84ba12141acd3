"""Free bits by their formulas, and the bound where the truth is known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from lvdecode import errors
from lvdecode.latent import bounds
from lvdecode.latent import gaussian

B, Z = 8, 4
RNG = np.random.default_rng(0)
# Dimensions on both sides of the threshold, by mean and in single examples.
KL = jnp.asarray(
  RNG.gamma(2.0, size=(B, Z)) * [0.05, 0.2, 0.4, 1.0], jnp.float32
)
KL = KL.at[7].set(90.0)  # a filler, which would charge every dimension
REAL = jnp.asarray([1, 1, 1, 1, 1, 1, 1, 0], jnp.float32)
NATS = {'none': 0.7, 'dim_batch': 0.5, 'total': 3.0}


def charge(kl, kind, real=REAL, axis_name=None):
  settings = bounds.FreeBitsSettings(kind=kind, nats=NATS[kind])
  return bounds.charged_kl(kl, real, settings, axis_name)


def mean_of(values, real=REAL):
  return real @ values / real.sum()


FORMULAS = {
  'none': lambda kl: kl.sum(-1).mean(),
  'dim_batch': lambda kl: np.maximum(kl.mean(0), NATS['dim_batch']).sum(),
  'total': lambda kl: np.maximum(kl.sum(-1), NATS['total']).mean(),
}


@pytest.mark.parametrize('kind', bounds.FREE_BITS)
def test_free_bits_are_their_formula(kind):
  expected = FORMULAS[kind](np.asarray(KL)[:7])  # the last row is a filler
  np.testing.assert_allclose(mean_of(charge(KL, kind)), expected, rtol=1e-6)


@pytest.mark.parametrize('kind', bounds.FREE_BITS)
def test_gradient_is_that_of_the_formula(kind):
  got = jax.grad(lambda kl: mean_of(charge(kl, kind)))(KL)
  real = np.asarray(KL)[:7]
  paid = {
    'none': np.ones_like(real),
    'dim_batch': np.broadcast_to(real.mean(0) > NATS[kind], real.shape),
    'total': np.broadcast_to(real.sum(-1)[:, None] > NATS[kind], real.shape),
  }[kind]
  if kind != 'none':
    assert paid.any() and not paid.all()
  np.testing.assert_allclose(got[:7], paid / 7, rtol=1e-6)
  np.testing.assert_array_equal(got[7], 0)


def test_dim_batch_gate_is_that_of_all_devices_together():
  devices = jax.devices()[:4]
  # Sorted: the devices' own means lie on different sides of the threshold.
  kl = jnp.sort(KL, axis=0)
  own = np.asarray(kl)[:6].reshape(3, 2, Z).mean(1) > NATS['dim_batch']
  assert (own.any(0) & ~own.all(0)).any()

  def total(kl, real, axis_name=None):
    return real @ charge(kl, 'dim_batch', real, axis_name)

  def shard(kl, real):
    value, gradient = jax.value_and_grad(total)(kl, real, 'batch')
    return jax.lax.psum(value, 'batch'), gradient

  value, gradient = jax.pmap(shard, axis_name='batch', devices=devices)(
    kl.reshape(4, 2, Z), REAL.reshape(4, 2)
  )
  expected, slope = jax.value_and_grad(total)(kl, REAL)
  np.testing.assert_allclose(value, np.full(4, expected), rtol=1e-6)
  np.testing.assert_allclose(gradient.reshape(B, Z), slope, rtol=1e-6)


@pytest.mark.parametrize('kind', bounds.FREE_BITS)
def test_without_a_latent_there_is_nothing_to_charge(kind):
  np.testing.assert_array_equal(charge(jnp.zeros((B, 0)), kind), np.zeros(B))


def test_free_bits_that_cannot_be_are_refused():
  with pytest.raises(errors.UserError, match="did you mean 'dim_batch'"):
    bounds.FreeBitsSettings(kind='dim_bach', nats=0.0)
  with pytest.raises(errors.UserError, match='nats = -1.0'):
    bounds.FreeBitsSettings(kind='total', nats=-1.0)


class Line:
  """x = W z + noise, z ~ N(0, I): everything about it is known.

  The columns of W are orthogonal, so that p(z | x) is diagonal.
  """

  W = np.array([[1.0, 0.5], [1.0, -0.5], [0.5, 0.0], [0.0, 0.7]])
  W[:, 1] -= W[:, 0] * (W[:, 0] @ W[:, 1]) / (W[:, 0] @ W[:, 0])
  noise = 0.5  # standard deviation
  x = np.array([[1.0, -0.3, 0.2, 0.9], [-2.0, 0.1, 0.4, 0.0]])

  def log_likelihood(self):
    cov = self.W @ self.W.T + self.noise**2 * np.eye(4)
    return stats.multivariate_normal(np.zeros(4), cov).logpdf(self.x)

  def posterior(self):
    precision = 1 + (self.W**2).sum(0) / self.noise**2
    mean = self.x @ self.W / self.noise**2 / precision
    logvar = np.broadcast_to(-np.log(precision), mean.shape)
    return gaussian.Gaussian(jnp.asarray(mean), jnp.asarray(logvar))

  def wrong_posterior(self):
    q = self.posterior()
    return gaussian.Gaussian(q.mean + 0.3, q.logvar + 0.5)

  def log_weights(self, q, samples):
    """log p(x, z_k) - log q(z_k | x), [K, B]."""
    noise = jax.random.normal(jax.random.key(0), (samples, 2, 2))
    every = jax.tree.map(lambda a: jnp.broadcast_to(a, noise.shape), q)
    z = every.sample(noise)
    log_x = stats.norm.logpdf(self.x, z @ self.W.T, self.noise).sum(-1)
    prior = gaussian.standard(noise.shape).log_prob(z)
    return jnp.asarray(log_x) + prior - every.log_prob(z)

  def negative_elbo(self, q):
    """With the expectation over z ~ q in closed form."""
    mean, variance = np.asarray(q.mean), np.exp(q.logvar)
    square = (self.x - mean @ self.W.T) ** 2 + variance @ (self.W**2).T
    log_x = -0.5 * square / self.noise**2 - math.log(
      self.noise * math.sqrt(2 * math.pi)
    )
    kl = gaussian.kl(q, gaussian.standard(q.mean.shape))
    return bounds.negative_elbo(bounds.Terms(jnp.asarray(-log_x.sum(-1)), kl))


LINE = Line()
TRUTH = -LINE.log_likelihood()  # [2]


@pytest.mark.parametrize('samples', [1, 3, 50])
def test_no_gap_for_the_exact_posterior(samples):
  weights = LINE.log_weights(LINE.posterior(), samples)
  nll = bounds.importance_weighted_nll(weights)
  np.testing.assert_allclose(nll, TRUTH, rtol=1e-5)


def test_one_sample_is_minus_its_log_weight():
  weights = LINE.log_weights(LINE.wrong_posterior(), 1)
  nll = bounds.importance_weighted_nll(weights)
  np.testing.assert_array_equal(nll, -weights[0])


def test_bound_falls_to_the_truth_as_samples_grow():
  weights = LINE.log_weights(LINE.wrong_posterior(), 32_000)

  def mean_bound(samples):
    groups = weights.reshape(samples, -1)
    return bounds.importance_weighted_nll(groups).reshape(-1, 2).mean(0)

  means = np.stack([mean_bound(k) for k in (1, 20, 32_000)])
  assert (np.diff(means, axis=0) < 0).all()
  assert (means[:2] > TRUTH).all()
  np.testing.assert_allclose(means[-1], TRUTH, atol=0.01)


def test_gap_of_the_elbo_is_the_kl_to_the_true_posterior():
  q = LINE.wrong_posterior()
  gap = gaussian.kl(q, LINE.posterior()).sum(-1)
  elbo = LINE.negative_elbo(q)
  np.testing.assert_allclose(elbo - TRUTH, gap, rtol=1e-4)
  np.testing.assert_allclose(
    LINE.negative_elbo(LINE.posterior()), TRUTH, rtol=1e-5
  )
  # And it is what one sample estimates.
  weights = LINE.log_weights(q, 32_000)
  np.testing.assert_allclose(-weights.mean(0), elbo, atol=0.03)


def test_negative_elbo_sums_over_dimensions():
  terms = bounds.Terms(jnp.asarray([1.0, 2.0]), jnp.asarray([[3.0, 4.0]] * 2))
  np.testing.assert_array_equal(bounds.negative_elbo(terms), [8.0, 9.0])


def test_weights_that_would_overflow_do_not():
  weights = jnp.asarray([[-2000.0], [-2001.0]])
  expected = 2000 - math.log((1 + math.exp(-1)) / 2)
  np.testing.assert_allclose(
    bounds.importance_weighted_nll(weights), [expected], rtol=1e-6
  )
