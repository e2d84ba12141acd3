"""Where an aspect stands, and who is told a label and an aspect."""

import jax
import jax.numpy as jnp
import labelled as tiny_labelled
import numpy as np
import pytest
import tiny

from lvdecode import errors
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


@pytest.mark.parametrize('off', ['mark_read', 'classes'])
def test_the_classifier_is_told_the_aspect_by_marks_and_by_what_is_pooled(off):
  """Either is enough."""
  params = dict(tiny_labelled.params())
  if off == 'mark_read':
    params[off] = jax.tree.map(jnp.zeros_like, params[off])
  else:  # the half that reads the aspect's states
    kernel = params[off]['kernel'].at[tiny.WIDTH :].set(0.0)
    params[off] = params[off] | {'kernel': kernel}
  tokens, visible, aspect, given = inputs()
  scores = apply('classify', *inputs(), params=params)
  first = tokens[:, 1:3], given | True
  other = apply('classify', tokens, visible, *first, params=params)
  assert (np.abs(scores - other).max(axis=1) > 1e-3)[[0, 2]].all()


def nll(tokens, label=(0, 1, 2), aspect=None):
  """Of every target [B, t]."""
  given = jnp.ones((3, 3), bool) if aspect is not None else inputs()[3]
  return apply(
    'told_nll',
    tokens[:, :-1],
    tokens[:, 1:],
    jnp.ones((3, 1)),
    inputs()[2] if aspect is None else aspect,
    given,
    jnp.asarray(label),
    1 << 20,
  )


@pytest.mark.slow
def test_the_decoder_is_told_the_label_at_every_position():
  moved = np.abs(nll(BATCH.tokens) - nll(BATCH.tokens, (1, 2, 0))) > 1e-5
  assert moved.all()


def test_the_decoder_does_not_see_the_aspect_before_it_stands_there():
  """That it begins here would tell which words follow."""
  aspect = BATCH.tokens[:, 1:4]
  changed = BATCH.tokens.at[:, 3].set(3)  # no text has the aspect now
  before, after = (nll(t, aspect=aspect) for t in (BATCH.tokens, changed))
  np.testing.assert_array_equal(before[:, :2], after[:, :2])
  assert (before[:, 2] != after[:, 2]).all()


def test_an_aspect_that_is_not_there_tells_the_decoder_nothing():
  injected = apply(
    'inform',
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


def test_it_is_no_model_of_texts_alone():
  tokens, visible, *_ = inputs()
  z = jnp.ones((3, 1))
  for method, *asked in (
    ('encode', tokens, visible),
    ('token_nll', tokens, tokens, z, 1 << 20),
    ('start', z, 5),
  ):
    with pytest.raises(errors.UserError, match='Model.judge'):
      apply(method, *asked)
