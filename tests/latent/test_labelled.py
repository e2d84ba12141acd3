"""Where an aspect stands, and who is told a label and an aspect."""

import jax
import jax.numpy as jnp
import labelled as tiny_labelled
import numpy as np
import pytest
import tiny

from lvdecode.latent import labelled

MODEL = tiny_labelled.MODEL
BATCH = tiny_labelled.batch()


def apply(method, *inputs, params=None):
  return tiny.apply(
    MODEL, params or tiny_labelled.params(), *inputs, method=method
  )


@pytest.mark.parametrize(
  ('text', 'aspect', 'marks'),
  [
    ([1, 5, 6, 7, 2], [6], [0, 0, 1, 0, 0]),
    ([1, 5, 6, 7, 2], [6, 7], [0, 0, 1, 1, 0]),
    ([1, 5, 6, 5, 2], [5], [0, 1, 0, 1, 0]),
    ([1, 5, 5, 5, 2], [5, 5], [0, 1, 1, 1, 0]),
    ([1, 5, 6, 7, 2], [5, 7], [0, 0, 0, 0, 0]),
    ([1, 5, 6, 7, 8], [8, 0], [0, 0, 0, 0, 0]),
    ([1, 5, 6, 7, 2], [], [0, 0, 0, 0, 0]),
  ],
)
def test_the_tokens_that_spell_an_aspect_are_marked(text, aspect, marks):
  room = 3
  tokens = np.zeros((1, room), np.int32)
  tokens[0, : len(aspect)] = aspect
  given = np.arange(room)[None, :] < len(aspect)
  found = labelled.occurrences(
    jnp.asarray([text]), jnp.asarray(tokens), jnp.asarray(given)
  )
  assert found.tolist() == [marks]


def inputs():
  visible = jnp.asarray(BATCH.weights > 0).at[:, 0].set(True)
  return BATCH.tokens, visible, BATCH.condition.tokens, BATCH.condition.visible


def test_the_posterior_sees_the_label_and_the_aspect():
  tokens, visible, aspect, given = inputs()
  label = jnp.asarray([0, 1, 2])
  q = apply('infer', *inputs(), label)
  other = apply('infer', *inputs(), (label + 1) % 3)
  assert (np.abs(q.mean - other.mean) > 1e-3).all()
  nothing = apply('infer', tokens, visible, aspect, given & False, label)
  moved = np.abs(q.mean - nothing.mean)[:, 0] > 1e-3
  assert moved.tolist() == [True, True, False]  # the last has no aspect


def test_the_classifier_depends_on_the_aspect():
  tokens, visible, aspect, given = inputs()
  scores = apply('classify', *inputs())
  first = apply('classify', tokens, visible, tokens[:, 1:3], given | True)
  assert (np.abs(scores - first).max(axis=1) > 1e-3)[[0, 2]].all()


def nll(tokens, label=(0, 1, 2)):
  """Of every target [B, t]."""
  _, _, aspect, given = inputs()
  return apply(
    'told_nll',
    tokens[:, :-1],
    tokens[:, 1:],
    jnp.ones((3, 1)),
    aspect,
    given,
    jnp.asarray(label),
    1 << 20,
  )


def test_the_decoder_is_told_the_label_at_every_position():
  moved = np.abs(nll(BATCH.tokens) - nll(BATCH.tokens, (1, 2, 0))) > 1e-5
  assert moved.all()


def test_the_decoder_does_not_see_the_aspect_before_it_stands_there():
  """Its place in the text depends on tokens that are still to be predicted."""
  changed = BATCH.tokens.at[0, 3].set(3)  # the aspect's second word
  before, after = nll(BATCH.tokens)[0], nll(changed)[0]
  np.testing.assert_array_equal(before[:2], after[:2])
  assert before[2] != after[2]


def test_an_aspect_that_is_not_there_tells_the_decoder_nothing():
  injected = apply(
    'tell',
    jnp.zeros((3, 1)),
    *inputs()[2:],
    jnp.asarray([0, 0, 0]),
  )
  label = tiny_labelled.params()['label_told']['embedding'][0]
  np.testing.assert_allclose(injected.embedding[2], label, rtol=1e-6)
  assert np.abs(injected.embedding[0] - label).max() > 1e-2


def test_parts():
  shapes = jax.eval_shape(tiny_labelled.task().init, jax.random.key(0))
  parts = {name: MODEL.part(f'{name}/x') for name in shapes}
  decoder = {'decoder', 'injection', 'label_told', 'aspect_told'}
  assert {name for name, part in parts.items() if part != 'encoder'} == decoder
