"""The objective with a prior that is learned from the condition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from lvdecode.latent import gaussian
from lvdecode.latent import mmd
from lvdecode.tasks import noise

BATCH = tiny.batch()._replace(condition=tiny.condition())
MODEL = tiny.shallow(
  condition=tiny.condition_settings(routes=('memory',)),
  prior=tiny.prior_settings(kind='learned'),
)


def loss(task, batch=BATCH, params=None, streams=None):
  params = tiny.params(MODEL) if params is None else params
  return task.loss(
    params, batch, streams or tiny.streams(), None, task.init_carry()
  )


def draws(samples):
  """q, p(z | x), and [K, 3, Z] of q as the loss draws them."""
  q, given = tiny.task(MODEL).read(tiny.params(MODEL), BATCH)
  keys = tiny.streams().per_example('latent')
  made = noise.normal(keys, (samples, tiny.LATENT)).swapaxes(0, 1)
  return q, given.prior, [q.sample(each) for each in made]


def log_prob(normal, z):
  """[3], in NumPy."""
  mean, logvar = (np.asarray(x, np.float64) for x in normal)
  square = (np.asarray(z) - mean) ** 2 / np.exp(logvar)
  return -0.5 * (square + logvar + np.log(2 * np.pi)).sum(-1)


@pytest.mark.slow
def test_the_kl_is_that_to_the_prior_of_the_condition():
  q, prior, _ = draws(1)
  assert np.abs(prior.mean).min() > 0
  _, metrics = loss(tiny.task(MODEL))
  # One draw of many: KL = E[log q - log p].
  rng = np.random.default_rng(0)
  made = rng.normal(size=(20_000, 3, tiny.LATENT))
  z = np.asarray(q.mean) + np.exp(np.asarray(q.logvar) / 2) * made
  gap = log_prob(q, z) - log_prob(prior, z)
  error = gap.std(0).sum() / 20_000**0.5
  assert abs(metrics['kl'].total - gap.mean(0).sum()) < 5 * error
  standard = gaussian.kl(q, gaussian.standard(q.mean.shape)).sum()
  assert abs(metrics['kl'].total - standard) > 20 * error


@pytest.mark.slow
@pytest.mark.parametrize('estimator', ['iwae', 'dreg'])
def test_importance_weights_are_of_the_prior_of_the_condition(estimator):
  q, prior, drawn = draws(3)
  task, params = tiny.task(MODEL), tiny.params(MODEL)
  nll = [np.asarray(task.nll(params, BATCH, z)) for z in drawn]
  weights = [
    np.exp(log_prob(prior, z) - x - log_prob(q, z))
    for z, x in zip(drawn, nll, strict=True)
  ]
  chosen = tiny.task(MODEL, estimator=estimator, samples=3)
  total, _ = loss(chosen)
  expected = -np.log(np.mean(weights, axis=0)).sum()
  np.testing.assert_allclose(total, expected, rtol=1e-4)


@pytest.mark.slow
def test_free_bits_and_mmd_are_of_it_too():
  q, prior, drawn = draws(1)
  kl = np.asarray(gaussian.kl(q, prior))
  nats = float(kl.sum(1).max()) + 1
  task = tiny.task(MODEL, free_bits='total', nats=nats, mmd=2.0)
  total, metrics = loss(task)
  keys = tiny.streams().per_example('prior')
  own = prior.sample(noise.normal(keys, (tiny.LATENT,)))
  distance = mmd.squared(
    drawn[0], own, jnp.ones(3), 'inverse_multiquadric', None
  )
  np.testing.assert_allclose(metrics['mmd'].total / 3, distance, rtol=1e-4)
  expected = metrics['nll'].total + 3 * nats + 6 * distance
  np.testing.assert_allclose(total, expected, rtol=1e-5)


@pytest.mark.slow
def test_the_prior_and_the_routes_learn():
  task = tiny.task(MODEL)
  slopes = jax.grad(lambda params: loss(task, params=params)[0])(
    tiny.params(MODEL)
  )
  for part in ('prior', 'condition', 'encoder', 'posterior', 'decoder'):
    for leaf in jax.tree.leaves(slopes[part]):
      assert jnp.isfinite(leaf).all()
    assert max(jnp.abs(x).max() for x in jax.tree.leaves(slopes[part])) > 1e-3


@pytest.mark.slow
def test_what_a_text_is_given_does_not_depend_on_its_batch():
  """Nor do its posterior, its likelihood and its importance weights."""
  task, params = tiny.task(MODEL), tiny.params(MODEL)
  mates = tiny.batch((4, 5, 7), seed=5)._replace(
    condition=tiny.condition((3, 4, 2), seed=9)
  )
  mixed = jax.tree.map(lambda a, b: b.at[1].set(a[1]), BATCH, mates)
  keys = tiny.keys(seed=3).at[1].set(tiny.keys()[1])
  first = task.log_weights(params, BATCH, tiny.keys(), 2)
  again = task.log_weights(params, mixed, keys, 2)
  np.testing.assert_allclose(first[:, 1], again[:, 1], rtol=1e-5)
  assert (abs(first - again)[:, [0, 2]] > 1e-3).all()


def test_whose_the_parameters_are():
  shared, apart = (
    tiny.model(
      condition=tiny.condition_settings(
        routes=('prefix', 'cross'), segments=2, share=share
      ),
      prior=tiny.prior_settings(kind='learned', share=share),
    )
    for share in (True, False)
  )
  for path, whose in {
    'posterior/mean/kernel': ('encoder', 'encoder'),
    'encoder/h_0/ln_1/scale': ('both', 'encoder'),
    'segments_encoder/embedding': ('both', 'encoder'),
    'segments_decoder/embedding': ('decoder', 'decoder'),
    'prior/mean/kernel': ('decoder', 'decoder'),
    'prior_encoder/wte/embedding': ('decoder', 'decoder'),
    'condition/cross_out': ('decoder', 'decoder'),
  }.items():
    assert (shared.part(path), apart.part(path)) == whose
