"""Pooling sees what is real, and no variance overflows."""

import jax
import jax.numpy as jnp
import numpy as np
import numpy_gpt2
import pytest
import tiny

from lvdecode.latent import gaussian
from lvdecode.latent import posterior

B, T, D, H, Z = 3, 7, tiny.WIDTH, tiny.HEADS, tiny.LATENT
VISIBLE = jnp.arange(T)[None, :] < jnp.asarray([[7], [5], [3]])
STATES = jnp.asarray(
  np.random.default_rng(0).normal(size=(B, T, D)), jnp.float32
)
each = pytest.mark.parametrize('pooling', posterior.POOLINGS)


def make(pooling):
  module = posterior.Posterior(Z, pooling, H)
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
