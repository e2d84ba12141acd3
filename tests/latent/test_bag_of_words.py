"""The bag of words knows the words, and neither their order nor padding."""

import jax
import jax.numpy as jnp
import numpy as np
import numpy_gpt2
import tiny

from lvdecode.latent import bag_of_words

BATCH = tiny.batch()
TARGETS, WEIGHTS = BATCH.tokens[:, 1:], BATCH.weights[:, 1:]


def logits():
  module = bag_of_words.BagOfWords(tiny.WIDTH, tiny.VOCAB)
  shapes = jax.eval_shape(module.init, jax.random.key(0), tiny.latents())
  params = tiny.random_params(shapes['params'])
  return module.apply({'params': params}, tiny.latents()), params


def test_nll_is_that_of_its_docstring_word_by_word():
  scores, params = logits()
  params = jax.tree.map(np.asarray, params)
  hidden = np.tanh(
    numpy_gpt2.dense(params['hidden'], np.asarray(tiny.latents()))
  )
  log_p = numpy_gpt2.log_softmax(numpy_gpt2.dense(params['words'], hidden))
  expected = np.zeros(3)
  for b, size in enumerate((7, 5, 3)):
    for t in range(1, size):  # every word and EOS; not BOS, not padding
      expected[b] -= log_p[b, BATCH.tokens[b, t]]
  found = bag_of_words.nll(scores, TARGETS, WEIGHTS)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_uniform_logits_cost_ln_v_a_target():
  flat = bag_of_words.nll(jnp.zeros((3, tiny.VOCAB)), TARGETS, WEIGHTS)
  expected = np.log(tiny.VOCAB) * np.array([6, 4, 2])
  np.testing.assert_allclose(flat, expected, rtol=1e-6)


def test_the_order_of_words_does_not_matter():
  scores, _ = logits()
  one = bag_of_words.nll(scores, TARGETS, WEIGHTS)
  other = bag_of_words.nll(scores, TARGETS[:, ::-1], WEIGHTS[:, ::-1])
  np.testing.assert_allclose(one, other, rtol=1e-6)
