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
# Close to a mean, so that a threshold a little off is seen.
NATS = {
  'none': 0.7,
  'total': 3.0,
  'total_batch': 2.9,
  'dim_sample': 0.46,
  'dim_batch': 0.46,
  'dim_mask': 0.46,
}


def charge(kl, kind, real=REAL, axis_name=None, nats=None):
  settings = bounds.FreeBitsSettings(
    kind=kind, nats=NATS[kind] if nats is None else nats
  )
  return bounds.charged_kl(kl, real, settings, axis_name)


def mean_of(values, real=REAL):
  return real @ values / real.sum()


def formula(kl, kind, nats):
  """The mean charge of `kl` [B, Z], and whether each entry is paid for."""
  mean, whole = kl.mean(0), kl.sum(-1)
  value, paid = {
    'none': (whole.mean(), True),
    'total': (np.maximum(whole, nats).mean(), whole[:, None] > nats),
    'total_batch': (max(whole.mean(), nats), whole.mean() > nats),
    'dim_sample': (np.maximum(kl, nats).sum(-1).mean(), kl > nats),
    'dim_batch': (np.maximum(mean, nats).sum(), mean > nats),
    'dim_mask': (mean[mean > nats].sum(), mean > nats),
  }[kind]
  return value, np.broadcast_to(paid, kl.shape)


@pytest.mark.slow
@pytest.mark.parametrize('side', [0.0, 1.0, 100.0])
@pytest.mark.parametrize('kind', bounds.FREE_BITS)
def test_free_bits_and_their_gradient_are_the_formula(kind, side):
  nats = NATS[kind] * side
  real = np.asarray(KL)[:7]  # the last row is a filler
  expected, paid = formula(real, kind, nats)
  value, slope = jax.value_and_grad(
    lambda kl: mean_of(charge(kl, kind, nats=nats))
  )(KL)
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  np.testing.assert_allclose(slope[:7], paid / 7, rtol=1e-6)
  np.testing.assert_array_equal(slope[7], 0)
  # All above the threshold, on both sides of it, all below; of the one number
  # that 'total_batch' compares there are not both.
  if kind not in ('none', 'total_batch'):
    assert paid.any() == (side < 100.0) and paid.all() == (side == 0.0)


@pytest.mark.parametrize('kind', bounds.FREE_BITS)
def test_free_bits_of_many_thresholds_run_as_one(kind):
  many = jnp.asarray([0.0, 0.5, 3.0, 50.0])
  charged = jax.jit(jax.vmap(lambda nats: charge(KL, kind, nats=nats)))(many)
  for row, nats in zip(charged, many, strict=True):
    expected = charge(KL, kind, nats=float(nats))
    np.testing.assert_allclose(row, expected, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize('kind', bounds.FREE_BITS)
def test_eight_devices_charge_what_one_does(kind):
  # Sorted: the devices' own means lie on different sides of the threshold.
  kl = jnp.concatenate([jnp.sort(KL[:7], axis=0), KL[7:]]).repeat(2, axis=0)
  real = REAL.repeat(2)
  nats = {'total': 2.0, 'total_batch': 2.0}.get(kind, NATS[kind])
  rows = np.asarray(kl)[:14].reshape(7, 2, Z)
  own = np.stack([formula(two, kind, nats)[1] for two in rows])
  whole = formula(rows.reshape(14, Z), kind, nats)[1].reshape(own.shape)
  if 'batch' in kind or kind == 'dim_mask':
    assert (own != whole).any()

  def total(kl, real, axis_name=None):
    return real @ charge(kl, kind, real, axis_name, nats)

  def shard(kl, real):
    value, gradient = jax.value_and_grad(total)(kl, real, 'batch')
    return jax.lax.psum(value, 'batch'), gradient

  value, gradient = jax.pmap(shard, axis_name='batch')(
    kl.reshape(8, 2, Z), real.reshape(8, 2)
  )
  expected, slope = jax.value_and_grad(total)(kl, real)
  np.testing.assert_allclose(value, np.full(8, expected), rtol=1e-6)
  np.testing.assert_allclose(gradient.reshape(-1, Z), slope, rtol=1e-6)


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


@pytest.mark.slow
@pytest.mark.parametrize('samples', [1, 3, 50])
def test_no_gap_for_the_exact_posterior(samples):
  weights = LINE.log_weights(LINE.posterior(), samples)
  nll = bounds.importance_weighted_nll(weights)
  np.testing.assert_allclose(nll, TRUTH, rtol=1e-5)


def test_one_sample_is_minus_its_log_weight():
  weights = LINE.log_weights(LINE.wrong_posterior(), 1)
  nll = bounds.importance_weighted_nll(weights)
  np.testing.assert_array_equal(nll, -weights[0])


@pytest.mark.slow
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
