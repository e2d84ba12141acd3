"""Bounds with a label known and summed out, against sums written by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from lvdecode.latent import label_bounds

COST = jnp.asarray([[2.0, 3.0, 7.0]])
LOG_PRIOR = jnp.log(jnp.asarray([0.5, 0.3, 0.2]))
SCORES = jnp.asarray([[0.3, -1.0, 0.8]])


def bound(scores, label):
  log_q = jax.nn.log_softmax(scores)
  share = label_bounds.weights(log_q, jnp.asarray(label))
  terms = label_bounds.Terms(COST, 0.5 * COST[..., None], log_q)
  nll, kl = label_bounds.expected(terms, share)
  return label_bounds.negative_bound(nll, kl.sum(-1), share, LOG_PRIOR)[0]


def test_a_known_label_takes_its_own_terms_alone():
  np.testing.assert_allclose(bound(SCORES, [1]), 4.5 - np.log(0.3), rtol=1e-6)
  gradient = jax.grad(bound)(SCORES, [1])
  np.testing.assert_array_equal(gradient, np.zeros((1, 3)))


def test_an_unknown_label_is_summed_out():
  q = np.exp(SCORES[0]) / np.exp(SCORES[0]).sum()
  joint = 1.5 * np.asarray(COST[0]) - np.asarray(LOG_PRIOR)
  expected = q @ (joint + np.log(q))
  np.testing.assert_allclose(bound(SCORES, [-1]), expected, rtol=1e-6)


def test_the_gradient_draws_the_classifier_to_the_posterior_of_the_label():
  """It is 0 where q(y | x) is proportional to exp(-cost_y) p(y)."""
  q = np.exp(SCORES[0]) / np.exp(SCORES[0]).sum()
  joint = 1.5 * np.asarray(COST[0]) - np.asarray(LOG_PRIOR)
  slope = joint + np.log(q)
  by_hand = q * (slope - q @ slope)
  found = jax.grad(bound)(SCORES, [-1])[0]
  np.testing.assert_allclose(found, by_hand, rtol=1e-5)
  at_posterior = jax.grad(bound)(jnp.asarray([-joint], jnp.float32), [-1])
  np.testing.assert_allclose(at_posterior, np.zeros((1, 3)), atol=1e-6)


def test_a_classifier_that_is_sure_leaves_the_labelled_bound():
  sure = jnp.asarray([[-200.0, 200.0, -200.0]])
  np.testing.assert_allclose(bound(sure, [-1]), bound(sure, [1]), rtol=1e-6)
  assert np.isfinite(jax.grad(bound)(sure, [-1])).all()
