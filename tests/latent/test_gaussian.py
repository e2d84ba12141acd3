"""Densities, divergences and samples against scipy and Monte Carlo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from lvdecode.latent import gaussian

N, Z = 4, 3


def random(seed):
  rng = np.random.default_rng(seed)
  mean, logvar = rng.normal(size=(2, N, Z))
  return gaussian.Gaussian(jnp.asarray(mean), jnp.asarray(logvar))


Q, P = random(0), random(1)
POINTS = jnp.asarray(np.random.default_rng(2).normal(size=(N, Z)))


def test_log_prob_is_scipys():
  expected = stats.norm.logpdf(POINTS, Q.mean, np.exp(Q.logvar / 2)).sum(-1)
  np.testing.assert_allclose(Q.log_prob(POINTS), expected, rtol=1e-5)


@pytest.mark.parametrize('p', [P, gaussian.standard((N, Z))])
def test_kl_is_the_closed_form(p):
  """Of two full Gaussians, by determinants, traces and inverses."""
  for n in range(N):
    cov_q, cov_p = (np.diag(np.exp(g.logvar[n])) for g in (Q, p))
    gap = np.asarray(p.mean[n] - Q.mean[n])
    inverse = np.linalg.inv(cov_p)
    expected = 0.5 * (
      np.trace(inverse @ cov_q)
      + gap @ inverse @ gap
      - Z
      + np.log(np.linalg.det(cov_p) / np.linalg.det(cov_q))
    )
    # The KL of independent parts is their sum, not their mean.
    got = gaussian.kl(Q, p)[n].sum()
    np.testing.assert_allclose(got, expected, rtol=1e-5)
  np.testing.assert_allclose(gaussian.kl(p, p), 0, atol=1e-6)


def test_kl_is_the_mean_log_ratio_of_samples():
  noise = jax.random.normal(jax.random.key(0), (100_000, Z))
  q, p = (gaussian.Gaussian(g.mean[:1], g.logvar[:1]) for g in (Q, P))
  z = q.sample(noise)
  ratio = q.log_prob(z) - p.log_prob(z)
  error = 4 * ratio.std() / np.sqrt(len(ratio))
  assert abs(ratio.mean() - gaussian.kl(q, p).sum()) < error


def test_samples_have_the_mean_and_the_variance():
  noise = jax.random.normal(jax.random.key(0), (100_000, Z))
  z = gaussian.Gaussian(Q.mean[:1], Q.logvar[:1]).sample(noise)
  np.testing.assert_allclose(z.mean(0), Q.mean[0], atol=0.03)
  np.testing.assert_allclose(jnp.log(z.var(0)), Q.logvar[0], atol=0.03)
