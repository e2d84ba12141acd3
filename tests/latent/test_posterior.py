"""Pooling sees what is real, and no variance overflows."""

import jax
import jax.numpy as jnp
import numpy as np
import numpy_gpt2
import pytest
from scipy import special
import tiny

from lvdecode import errors
from lvdecode.latent import gaussian
from lvdecode.latent import posterior

B, T, D, H, Z = 3, 7, tiny.WIDTH, tiny.HEADS, tiny.LATENT
VISIBLE = jnp.arange(T)[None, :] < jnp.asarray([[7], [5], [3]])
STATES = jnp.asarray(
  np.random.default_rng(0).normal(size=(B, T, D)), jnp.float32
)
each = pytest.mark.parametrize('pooling', posterior.POOLINGS)


def make(pooling):
  module = posterior.Posterior(tiny.posterior_settings(), Z, pooling, H)
  shapes = jax.eval_shape(module.init, jax.random.key(0), STATES, VISIBLE)
  return module, tiny.random_params(shapes['params'])


def run(pooling, states=STATES, scale=1.0):
  module, params = make(pooling)
  params = jax.tree.map(lambda p: scale * p, params)
  return module.apply({'params': params}, states, VISIBLE)


def pooled(pooling, params):
  """[B, D] in NumPy, a row at a time over its real states."""
  rows = []
  for states, visible in zip(STATES, np.asarray(VISIBLE), strict=True):
    real = np.asarray(states)[visible]
    if pooling == 'first':
      rows.append(real[0])
    elif pooling == 'mean':
      rows.append(real.mean(0))
    else:
      shares = numpy_gpt2.softmax((real @ params['query']['kernel']).T)
      parts = np.split(real, H, axis=-1)
      parts = [s @ part for s, part in zip(shares, parts, strict=True)]
      rows.append(np.concatenate(parts))
  return np.stack(rows)


@each
def test_posterior_is_that_of_its_docstring(pooling):
  params = jax.tree.map(np.asarray, make(pooling)[1])
  states = pooled(pooling, params)
  q = run(pooling)
  mean = numpy_gpt2.dense(params['mean'], states)
  logvar = 10 * np.tanh(numpy_gpt2.dense(params['logvar'], states) / 10)
  np.testing.assert_allclose(q.mean, mean, atol=1e-5)
  np.testing.assert_allclose(q.logvar, logvar, atol=1e-5)


@each
def test_padding_changes_nothing(pooling):
  noisy = jnp.where(VISIBLE[:, :, None], STATES, 1e4)
  for a, b in zip(run(pooling), run(pooling, noisy), strict=True):
    np.testing.assert_array_equal(a, b)


@each
def test_huge_states_overflow_neither_value_nor_gradient(pooling):
  def rate(states):
    q = run(pooling, states, scale=1e3)
    return jnp.sum(jnp.exp(q.logvar) + jnp.exp(-q.logvar)), q

  gradient, q = jax.jit(jax.grad(rate, has_aux=True))(1e6 * STATES)
  assert jnp.abs(q.logvar).max() <= posterior.LOGVAR_LIMIT
  assert jnp.isfinite(gradient).all()
  assert jnp.isfinite(q.mean).all()


@each
def test_states_of_half_precision_are_pooled_in_float32(pooling):
  half = STATES.astype(jnp.bfloat16)
  q = run(pooling, half)
  assert isinstance(q, gaussian.Gaussian)
  for a, b in zip(q, run(pooling, half.astype(jnp.float32)), strict=True):
    assert a.dtype == jnp.float32
    np.testing.assert_array_equal(a, b)


def shaped(states=STATES, real=(1, 1, 1), step=0, params=None, **settings):
  """q with a group, q without, what is sown, and the parameters."""
  module = posterior.Posterior(
    tiny.posterior_settings(**settings), Z, 'mean', H
  )
  visible = VISIBLE[: len(states)]
  if params is None:
    shapes = jax.eval_shape(module.init, jax.random.key(0), states, visible)
    params = tiny.random_params(shapes['params'])
  params = jax.tree.map(jnp.asarray, params)
  group = posterior.Group(jnp.asarray(real, jnp.float32), step, None)
  q, sown = module.apply(
    {'params': params}, states, visible, group, mutable=['running']
  )
  alone = module.apply({'params': params}, states, visible)
  return q, alone, sown.get('running', {}), params


def test_normalised_means_have_the_bias_as_mean_and_gamma_as_deviation():
  q, _, _, params = shaped(batch_norm=0.7)
  np.testing.assert_allclose(q.mean.mean(0), params['norm_bias'], rtol=1e-5)
  np.testing.assert_allclose(q.mean.std(0), [0.7] * Z, rtol=1e-5)
  params = jax.tree.map(np.asarray, params)
  raw = pooled('mean', params)
  raw = raw @ params['mean']['kernel']
  expected = 0.7 * (raw - raw.mean(0)) / raw.std(0) + params['norm_bias']
  np.testing.assert_allclose(q.mean, expected, atol=1e-5)
  assert 'bias' not in params['mean']


@pytest.mark.parametrize('scale', [1e-2, 1.0, 1e2])
@pytest.mark.parametrize('seed', range(3))
def test_the_kl_of_a_batch_is_at_least_half_z_gamma_squared(scale, seed):
  _, _, _, params = shaped(batch_norm=0.5)
  params = tiny.random_params(params, seed) | {'norm_bias': jnp.zeros(Z)}
  # However small the encoder makes its means, and whatever its variance.
  params['mean'] = jax.tree.map(lambda p: scale * p, params['mean'])
  params['logvar'] = jax.tree.map(lambda p: 0.01 * p, params['logvar'])
  q, _, _, _ = shaped(batch_norm=0.5, params=params)
  rate = gaussian.kl(q, gaussian.standard(q.mean.shape)).sum(-1).mean()
  bound = Z * 0.5**2 / 2
  assert bound * (1 - 1e-3) <= rate < bound * 1.01
  params['norm_bias'] += 1.0
  moved, _, _, _ = shaped(batch_norm=0.5, params=params)
  rate = gaussian.kl(moved, gaussian.standard(q.mean.shape)).sum(-1).mean()
  np.testing.assert_allclose(rate, bound + Z / 2, rtol=0.01)


def test_fillers_are_not_in_the_statistics():
  real, _, sown, params = shaped(STATES[:2], (1, 1), batch_norm=0.7)
  with_filler, _, again, _ = shaped(
    STATES.at[2].set(100.0), (1, 1, 0), batch_norm=0.7, params=params
  )
  np.testing.assert_allclose(with_filler.mean[:2], real.mean, atol=1e-5)
  for name, value in sown.items():
    np.testing.assert_allclose(value, again[name], rtol=1e-5)


def test_running_statistics_are_means_first_and_then_decay():
  _, _, _, params = shaped(batch_norm=0.7)
  params = jax.tree.map(np.asarray, params)
  raw = pooled('mean', params)
  raw = raw @ params['mean']['kernel']
  truth = {'running_mean': raw.mean(0), 'running_variance': raw.var(0)}
  # At step 3 a quarter; later 1 - decay = 0.1.
  for step, rate in ((0, 1.0), (3, 0.25), (99, 0.1)):
    _, _, sown, _ = shaped(batch_norm=0.7, step=step, params=params)
    assert set(sown) == set(truth)
    for name, value in truth.items():
      expected = (1 - rate) * params[name] + rate * value
      np.testing.assert_allclose(sown[name], expected, atol=1e-5)


def test_without_a_group_a_text_knows_no_batch_mates():
  _, alone, _, params = shaped(batch_norm=0.7)
  mates = STATES.at[1:].add(1.0)
  _, again, _, _ = shaped(mates, batch_norm=0.7, params=params)
  np.testing.assert_array_equal(alone.mean[0], again.mean[0])
  assert (alone.mean[1:] != again.mean[1:]).all()
  # And it is what a group of these very statistics would give.
  params = jax.tree.map(np.asarray, params)
  raw = pooled('mean', params)
  raw = raw @ params['mean']['kernel']
  center, variance = params['running_mean'], params['running_variance']
  expected = 0.7 * (raw - center) / np.sqrt(variance) + params['norm_bias']
  np.testing.assert_allclose(alone.mean, expected, atol=1e-5)


@pytest.mark.parametrize('rate', [1e-4, 0.05, 0.7, 4.0])
def test_the_largest_deviation_solves_its_equation(rate):
  # e^u - u = 1 + 2 rate; by hand, e^u = -W(-exp(-1 - 2 rate)).
  truth = np.log(-special.lambertw(-np.exp(-1 - 2 * rate)).real)
  np.testing.assert_allclose(posterior.max_logvar(rate), truth, rtol=1e-4)


@pytest.mark.parametrize('delta', [0.1, 2.0, 9.0])
@pytest.mark.parametrize('seed', range(3))
def test_no_text_has_a_kl_below_the_least_rate(delta, seed):
  _, _, _, params = shaped(min_rate=delta)
  params = tiny.random_params(params, seed)
  # Zero means, and variances that strive for the prior's.
  for scale in (0.0, 1.0, 30.0):
    params['mean'] = jax.tree.map(jnp.zeros_like, params['mean'])
    params['logvar']['bias'] = jnp.full(Z, scale)
    q, alone, _, _ = shaped(min_rate=delta, params=params)
    for each_q in (q, alone):
      rates = gaussian.kl(each_q, gaussian.standard(q.mean.shape)).sum(-1)
      assert (rates >= delta * (1 - 1e-4)).all()
  np.testing.assert_allclose(rates, delta, rtol=0.01)  # and no higher


def test_far_below_the_bound_a_variance_is_what_it_was():
  found = posterior.below(jnp.asarray([[-9.0, -1.0, 8.0]]), -1.0)
  np.testing.assert_allclose(found, [[-9.0, -1.6931, -1.0]], atol=1e-3)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'batch_norm': -0.5}, 'model.posterior.batch_norm = -0.5'),
    ({'batch_norm_decay': 1.0}, 'model.posterior.batch_norm_decay = 1.0'),
    ({'min_rate': float('nan')}, 'model.posterior.min_rate = nan'),
  ],
)
def test_posteriors_that_cannot_be_are_refused(settings, message):
  with pytest.raises(errors.UserError, match=message):
    tiny.posterior_settings(**settings)


def test_four_devices_normalise_as_one():
  rng = np.random.default_rng(3)
  raw = jnp.asarray(rng.normal(size=(8, Z)) + 1, jnp.float32)
  real = jnp.asarray([1.0, 1, 0, 1, 0, 0, 1, 1])  # 2, 1, 0 and 2 a device
  target = jnp.asarray(rng.normal(size=(8, Z)), jnp.float32)

  def loss(raw, real, target, axis_name):
    center, variance = posterior.moments(raw, real, axis_name)
    mean = posterior.normalized(raw, center, variance, 0.7)
    return jnp.sum(real[:, None] * (mean - target) ** 2)

  value = jax.value_and_grad(loss)
  one, slope = value(raw, real, target, None)
  many, slopes = jax.pmap(
    lambda *part: value(*part, 'batch'),
    axis_name='batch',
    devices=jax.devices()[:4],
  )(*(x.reshape(4, 2, *x.shape[1:]) for x in (raw, real, target)))
  np.testing.assert_allclose(many.sum(), one, rtol=1e-5)
  np.testing.assert_allclose(slopes.reshape(8, Z), slope, atol=1e-5)
