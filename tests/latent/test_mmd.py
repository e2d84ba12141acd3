"""The distance of latents from the prior against its closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from lvdecode import errors
from lvdecode.latent import mmd

Z = 3
each = pytest.mark.parametrize('kernel', tuple(mmd.KERNELS))


def expected_kernel(kernel, shift):
  """E k(x, y) of x ~ N(a, I), y ~ N(0, I) with |a|^2 = shift.

  x - y ~ N(a, 2 I), so E exp(-t |x - y|^2) is a product of Gaussian
  integrals; C / (C + d^2) is the integral of C exp(-t (C + d^2)) over t.
  """

  def laplace(t):
    return (1 + 4 * t) ** (-Z / 2) * np.exp(-t * shift / (1 + 4 * t))

  if kernel == 'gaussian':
    return laplace(1 / (2 * Z))
  scale = 2 * Z
  return integrate.quad(
    lambda t: scale * np.exp(-scale * t) * laplace(t), 0, np.inf
  )[0]


@functools.partial(jax.jit, static_argnames=('kernel', 'count', 'tries'))
def estimates(kernel, shift, count, tries):
  """Many independent estimates from `count` draws each."""

  def one(key):
    first, second = jax.random.split(key)
    z = jax.random.normal(first, (count, Z)) + shift[None, :]
    prior = jax.random.normal(second, (count, Z))
    return mmd.squared(z, prior, jnp.ones(count), kernel, None)

  return jax.lax.map(
    one, jax.random.split(jax.random.key(0), tries), batch_size=100
  )


def test_a_prior_of_each_text_leaves_it_unbiased():
  # q = p(z | x): both draws are near the same mean, which differs over texts.
  def one(key):
    means, first, second = jax.random.normal(key, (3, 5, Z))
    prior = 3 * means + 0.1 * second
    z = 3 * means + 0.1 * first
    return mmd.squared(z, prior, jnp.ones(5), 'gaussian', None)

  found = np.asarray(jax.vmap(one)(jax.random.split(jax.random.key(1), 4000)))
  assert abs(found.mean()) < 4 * found.std() / np.sqrt(len(found))


@pytest.mark.slow
@each
@pytest.mark.parametrize('shift', [(0.0, 0.0, 0.0), (1.0, -0.5, 2.0)])
def test_its_expectation_is_the_closed_form_for_few_draws(kernel, shift):
  # Unbiased: exact on average even from five draws; 0 where q is p.
  shift = jnp.asarray(shift)
  far = float(jnp.sum(shift**2))
  truth = 2 * (expected_kernel(kernel, 0.0) - expected_kernel(kernel, far))
  found = np.asarray(estimates(kernel, shift, 5, 4000))
  error = found.std() / np.sqrt(len(found))
  assert abs(found.mean() - truth) < 4 * error
  assert error < 0.005
  assert (truth == 0) == (far == 0)


def draws(seed, count):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=(count, Z)), jnp.float32)


@pytest.mark.slow
@each
def test_fillers_do_not_count(kernel):
  z, prior = draws(0, 6) + 1, draws(1, 6)
  few = mmd.squared(z[:4], prior[:4], jnp.ones(4), kernel, None)
  real = jnp.asarray([1.0, 1, 0, 1, 0, 1])
  mixed = z.at[jnp.asarray([0, 1, 3, 5])].set(z[:4])
  drawn = prior.at[jnp.asarray([0, 1, 3, 5])].set(prior[:4])
  many = mmd.squared(mixed, drawn, real, kernel, None)
  np.testing.assert_allclose(few, many, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('real', [0, 1])
def test_a_batch_without_pairs_is_finite_in_value_and_gradient(real):
  weights = (jnp.arange(3) < real).astype(jnp.float32)

  def value(z):
    return mmd.squared(z, draws(1, 3), weights, 'gaussian', None)

  assert jnp.isfinite(value(draws(0, 3)))
  assert jnp.isfinite(jax.grad(value)(draws(0, 3))).all()


def test_settings_that_cannot_be_are_refused():
  with pytest.raises(errors.UserError, match=r'objective.mmd.weight = -1'):
    mmd.MmdSettings(weight=-1.0, kernel='gaussian')
  with pytest.raises(errors.UserError, match="objective.mmd.kernel = 'rbf'"):
    mmd.MmdSettings(weight=1.0, kernel='rbf')


@pytest.mark.slow
def test_four_devices_have_the_distance_of_one():
  z, prior = draws(0, 8) + 1, draws(1, 8)
  real = jnp.asarray([1.0, 1, 0, 1, 0, 0, 1, 1])  # 2, 1, 0 and 2 a device

  def loss(z, prior, real, axis_name):
    distance = mmd.squared(z, prior, real, 'gaussian', axis_name)
    return jnp.sum(real) * distance  # the share of a device

  value = jax.value_and_grad(loss)
  one, slope = value(z, prior, real, None)
  many, slopes = jax.pmap(
    lambda *part: value(*part, 'batch'),
    axis_name='batch',
    devices=jax.devices()[:4],
  )(*(x.reshape(4, 2, *x.shape[1:]) for x in (z, prior, real)))
  np.testing.assert_allclose(many.sum(), one, rtol=1e-5)
  np.testing.assert_allclose(slopes.reshape(8, Z), slope, atol=1e-5)
