"""Active units by hand, and information where it is known."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from lvdecode.latent import gaussian
from lvdecode.latent import probes

Z = 2


def test_active_units_are_those_whose_mean_varies():
  mean = np.zeros((4, 5), np.float32)
  mean[:, 1] = 3.0  # far from 0, but the same for every text
  mean[:, 2] = [0.09, -0.09, 0.09, -0.09]  # variance 0.0081
  mean[:, 3] = [0.11, -0.11, 0.11, -0.11]  # variance 0.0121
  mean[:, 4] = [5.0, 0.0, 0.0, 0.0]
  assert probes.active_units(mean) == 2


def information(mean, logvar, seed=0):
  q = gaussian.Gaussian(jnp.asarray(mean), jnp.asarray(logvar))
  noise = np.random.default_rng(seed).normal(size=mean.shape)
  z = q.sample(jnp.asarray(noise))
  return probes.mutual_information(
    gaussian.Gaussian(np.asarray(mean), np.asarray(logvar)), np.asarray(z)
  )


@pytest.mark.parametrize('count', [7, 70])  # 64 at a time inside
def test_separate_posteriors_tell_all_and_equal_ones_nothing(count):
  far = np.zeros((count, Z), np.float32)
  far[:, 0] = 100 * np.arange(count)
  logvar = np.full((count, Z), -1.0, np.float32)
  assert information(far, logvar) == pytest.approx(math.log(count), abs=1e-5)
  same = np.full((count, Z), 2.0, np.float32)
  assert information(same, logvar) == pytest.approx(0.0, abs=1e-5)


def test_information_of_two_clusters_is_that_of_one_bit():
  mean = np.zeros((70, Z), np.float32)
  mean[:35] = 50.0
  logvar = np.full((70, Z), 0.3, np.float32)
  assert information(mean, logvar) == pytest.approx(math.log(2), abs=1e-4)


@pytest.mark.parametrize('spread', [0.1, 1.0, 10.0])
def test_information_never_exceeds_its_ceiling(spread):
  rng = np.random.default_rng(0)
  mean = rng.normal(size=(70, Z), scale=spread).astype(np.float32)
  logvar = rng.normal(size=(70, Z)).astype(np.float32)
  for seed in range(3):
    assert information(mean, logvar, seed) <= math.log(70) + 1e-5


def test_a_text_of_many_meets_the_definition():
  rng = np.random.default_rng(1)
  mean, logvar, z = rng.normal(size=(3, 5, Z)).astype(np.float32)
  log_density = np.array(
    [
      [
        -0.5
        * np.sum(
          (z[n] - mean[m]) ** 2 / np.exp(logvar[m])
          + logvar[m]
          + np.log(2 * np.pi)
        )
        for m in range(5)
      ]
      for n in range(5)
    ]
  )
  marginal = np.log(np.exp(log_density).mean(1))
  expected = np.mean(np.diag(log_density) - marginal)
  got = probes.mutual_information(gaussian.Gaussian(mean, logvar), z)
  assert got == pytest.approx(expected, abs=1e-5)


def test_without_a_latent_there_is_no_information():
  empty = np.zeros((5, 0), np.float32)
  q = gaussian.Gaussian(empty, empty)
  assert probes.mutual_information(q, empty) == 0.0
  assert probes.active_units(empty) == 0
