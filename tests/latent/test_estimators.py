"""Gradient estimators on a model whose likelihood and posterior are known.

z ~ N(0, I), x = W z + noise with orthogonal columns of W, so that p(z | x) is
the diagonal Gaussian that q can be.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lvdecode.latent import bounds
from lvdecode.latent import gaussian

K, B, Z, NOISE = 5, 2, 2, 0.5
X = jnp.asarray([[1.0, -0.3, 0.2, 0.9], [-2.0, 0.1, 0.4, 0.0]])
W = jnp.asarray([[1.0, 0.2], [1.0, -0.2], [0.5, 0.0], [0.0, 0.7]])
PRECISION = 1 + jnp.sum(W**2, axis=0) / NOISE**2
EXACT = {
  'decoder': W,
  'encoder': W / NOISE**2 / PRECISION[None],
  'logvar': -jnp.log(PRECISION),
}
WRONG = EXACT | {
  'encoder': EXACT['encoder'] + 0.1,
  'logvar': EXACT['logvar'] + 0.4,
}


def loss(params, key, estimator):
  """The mean over B of the bound of K draws."""
  mean = jnp.broadcast_to(X @ params['encoder'], (K, B, Z))
  logvar = jnp.broadcast_to(params['logvar'], (K, B, Z))
  q = gaussian.Gaussian(mean, logvar)
  z, zeros = q.sample(jax.random.normal(key, (K, B, Z))), jnp.zeros((K, B))
  if estimator == 'dreg':
    z, q, zeros = bounds.doubly_reparameterised(z, q)
  error = X[None] - jnp.einsum('kbz,xz->kbx', z, params['decoder'])
  log_x = -0.5 * jnp.sum(error**2, axis=-1) / NOISE**2
  log_joint = log_x + gaussian.standard(z.shape).log_prob(z)
  weights = log_joint - q.log_prob(z) + zeros
  return jnp.mean(bounds.importance_weighted_nll(weights))


@functools.partial(jax.jit, static_argnames=('estimator', 'draws'))
def gradients(params, estimator, draws=20_000, seed=0):
  """Of independent draws, each [draws, ...] and flat."""
  keys = jax.random.split(jax.random.key(seed), draws)
  each = jax.vmap(lambda key: jax.grad(loss)(params, key, estimator))(keys)
  return jax.tree.map(lambda g: g.reshape(draws, -1), each)


@pytest.mark.slow
def test_dreg_has_the_value_of_iwae():
  for seed in range(3):
    key = jax.random.key(seed)
    assert loss(WRONG, key, 'dreg') == loss(WRONG, key, 'iwae')


@pytest.mark.slow
@pytest.mark.parametrize('part', WRONG)
def test_both_have_the_same_expected_gradient(part):
  """Within four standard errors of the difference of independent means."""
  iwae = np.asarray(gradients(WRONG, 'iwae')[part], np.float64)
  dreg = np.asarray(gradients(WRONG, 'dreg', seed=1)[part], np.float64)
  error = np.sqrt((iwae.var(0) + dreg.var(0)) / len(iwae))
  gap = np.abs(iwae.mean(0) - dreg.mean(0))
  assert (gap < 4 * error).all(), gap / error
  # It is a gradient that would be missed: far from zero by the same measure.
  assert (np.abs(iwae.mean(0)) > 10 * error).any()


def test_the_decoder_keeps_the_gradient_of_the_bound():
  iwae = gradients(WRONG, 'iwae', draws=100)['decoder']
  dreg = gradients(WRONG, 'dreg', draws=100)['decoder']
  np.testing.assert_allclose(iwae, dreg, rtol=1e-5)


@pytest.mark.parametrize('part', ['encoder', 'logvar'])
def test_dreg_has_less_variance_for_the_encoder(part):
  iwae = gradients(WRONG, 'iwae')[part].var(0)
  dreg = gradients(WRONG, 'dreg')[part].var(0)
  assert (dreg < 0.5 * iwae).all()


def test_dreg_is_silent_where_q_is_the_posterior():
  dreg, iwae = (gradients(EXACT, e, draws=1_000) for e in ('dreg', 'iwae'))
  for part in ('encoder', 'logvar'):
    # Rounding alone; the plain estimator's noise is not small.
    assert jnp.abs(dreg[part]).max() < 1e-5
    assert jnp.abs(iwae[part]).mean() > 0.05


def test_an_example_that_does_not_count_has_no_gradient():
  def masked(z):
    q = gaussian.standard(z.shape)
    z, _, zeros = bounds.doubly_reparameterised(z, q)
    weights = -0.5 * jnp.sum((z - 1) ** 2, axis=-1) + zeros
    bound = bounds.importance_weighted_nll(weights)
    return 3.0 * bound[0] + 0.0 * bound[1]

  z = jax.random.normal(jax.random.key(0), (K, B, Z))
  slope = jax.grad(masked)(z)
  shares = jax.nn.softmax(-0.5 * jnp.sum((z - 1) ** 2, axis=-1), axis=0)
  expected = 3.0 * (shares**2)[..., None] * (z - 1)
  np.testing.assert_allclose(slope[:, 0], expected[:, 0], rtol=1e-5)
  np.testing.assert_array_equal(slope[:, 1], 0.0)
