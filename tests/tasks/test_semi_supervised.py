"""The semi-supervised bounds, against a likelihood that is summed exactly."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import labelled as tiny_labelled
import numpy as np
import pytest
import tiny

from lvdecode import errors
from lvdecode.latent import gaussian
from lvdecode.tasks import semi_supervised
from lvdecode.text import pipeline

MODEL, PARAMS = tiny_labelled.MODEL, tiny_labelled.params()
BATCH = tiny_labelled.batch()
PRIOR = np.asarray(tiny_labelled.PRIOR)
ROWS, LABELS = 3, 3


def repeated(x, count):
  return jax.tree.map(lambda leaf: jnp.repeat(leaf, count, axis=0), x)


def nll_at(z):
  """-log p(x | a, y, z) [B, Y, n] of z [B, Y, n], float64."""
  count = z.shape[2]
  texts = repeated(BATCH, LABELS * count)
  label = jnp.tile(jnp.repeat(jnp.arange(LABELS), count), ROWS)
  token_nll = tiny.apply(
    MODEL,
    PARAMS,
    texts.tokens[:, :-1],
    texts.tokens[:, 1:],
    jnp.asarray(z.reshape(-1, 1), jnp.float32),
    texts.condition.tokens,
    texts.condition.visible,
    label,
    1 << 24,
    method='told_nll',
  )
  total = np.asarray(token_nll * texts.weights[:, 1:], np.float64).sum(axis=1)
  return total.reshape(z.shape)


@functools.cache
def truth(nodes=40):
  """By quadrature over z: -log p(x, y | a) [B, Y], and the bound's terms.

  These are E_q[-log p(x | a, y, z)] and KL(q || p), [B, Y], and log q(y | x).
  """
  points, mass = np.polynomial.hermite_e.hermegauss(nodes)
  mass = mass / mass.sum()
  shape = (ROWS, LABELS, nodes)
  likelihood = np.exp(-nll_at(np.broadcast_to(points, shape))) @ mass
  task = tiny_labelled.task()
  log_q = np.asarray(task.log_q(PARAMS, BATCH), np.float64)
  _, q, _ = task.terms(PARAMS, BATCH, jnp.asarray(log_q), tiny.keys())
  mean, deviation = np.asarray(q.mean), np.exp(np.asarray(q.logvar) / 2)
  nll = nll_at(mean + deviation * points) @ mass
  kl = np.asarray(gaussian.kl(q, gaussian.standard(q.mean.shape)))[..., 0]
  return -np.log(likelihood * PRIOR), nll, kl, log_q


@pytest.mark.slow
def test_the_unlabelled_bound_is_a_bound_and_its_gap_two_divergences():
  joint, nll, kl, log_q = truth()
  evidence = -np.log(np.exp(-joint).sum(axis=1))
  q = np.exp(log_q)
  bound = (q * (nll + kl - np.log(PRIOR) + log_q)).sum(axis=1)
  assert (bound > evidence).all()
  of_z = nll + kl - np.log(PRIOR) - joint  # KL(q(z | x, y) || p(z | x, y))
  of_y = (q * (log_q + joint - evidence[:, None])).sum(axis=1)
  assert (of_z > 0).all() and (of_y > 0).all()
  np.testing.assert_allclose(bound - evidence, (q * of_z).sum(1) + of_y)
  # The task's, of many draws of z.
  count = 200
  found = tiny_labelled.task().evaluate(
    PARAMS, repeated(BATCH, count), tiny.keys(ROWS * count)
  )
  draws = np.asarray(found['negative_bound']).reshape(ROWS, count)
  error = draws.std(axis=1, ddof=1) / math.sqrt(count)
  assert (np.abs(draws.mean(axis=1) - bound) < 4 * error).all()
  assert (4 * error < bound - evidence).any()  # so that it says something


def loss(task=None, batch=BATCH, params=PARAMS, first=0):
  task = task or tiny_labelled.task()
  streams = tiny.streams(len(batch.tokens), first=first)
  return task.loss(params, batch, streams, None, task.init_carry())


def one_label_by_hand(label):
  """nll [3] and kl [3] of these labels, with the noise of the loss."""
  label = jnp.asarray(label)
  visible = jnp.asarray(BATCH.weights > 0).at[:, 0].set(True)
  aspect = BATCH.condition.tokens, BATCH.condition.visible
  q = tiny.apply(
    MODEL, PARAMS, BATCH.tokens, visible, *aspect, label, method='infer'
  )
  keys = tiny.streams().per_example('latent')
  noise = np.stack([jax.random.normal(key, (1,)) for key in keys])
  z = jnp.asarray(q.mean + np.exp(q.logvar / 2) * noise)
  token_nll = tiny.apply(
    MODEL,
    PARAMS,
    BATCH.tokens[:, :-1],
    BATCH.tokens[:, 1:],
    z,
    *aspect,
    label,
    1 << 20,
    method='told_nll',
  )
  kl = 0.5 * (q.mean**2 + np.exp(q.logvar) - q.logvar - 1).sum(axis=1)
  return (np.asarray(token_nll) * BATCH.weights[:, 1:]).sum(axis=1), kl


@pytest.mark.slow
def test_with_all_labels_given_it_is_the_labelled_objective():
  label = (2, 1, 0)
  nll, kl = one_label_by_hand(label)
  log_q = np.asarray(tiny_labelled.task().log_q(PARAMS, BATCH))
  judged = -log_q[np.arange(3), label]
  labelled = tiny_labelled.batch(label)
  task = tiny_labelled.task(
    objective=tiny.objective(beta=0.5), classifier=7.0, generative=2.0
  )
  total, metrics = loss(task, labelled)
  bound = nll + 0.5 * kl - np.log(PRIOR[list(label)])
  np.testing.assert_allclose(
    total, (2.0 * bound + 7.0 * judged).sum(), rtol=1e-5
  )
  np.testing.assert_allclose(
    metrics['labelled_bound'].total, (bound + 0.5 * kl).sum(), rtol=1e-5
  )
  assert metrics['labelled_bound'].weight == 3
  assert metrics['unlabelled_bound'].weight == 0
  right = (log_q.argmax(axis=1) == label).sum()
  assert metrics['accuracy'] == (right, 3)


@pytest.mark.slow
def test_a_sure_classifier_reduces_the_unlabelled_to_the_labelled_bound():
  sure = PARAMS | {
    'classes': PARAMS['classes'] | {'bias': jnp.asarray([-99.0, 99.0, -99.0])}
  }
  task = tiny_labelled.task(classifier=0.0)
  unlabelled, _ = loss(task, tiny_labelled.batch((-1, -1, -1)), sure)
  labelled, _ = loss(task, tiny_labelled.batch((1, 1, 1)), sure)
  np.testing.assert_allclose(unlabelled, labelled, rtol=1e-6)


def test_the_two_kinds_of_text_are_reported_apart():
  _, metrics = loss()
  weights = {name: float(mean.weight) for name, mean in metrics.items()}
  assert weights == dict.fromkeys(
    ('loss', 'nll', 'kl', 'beta'), 3
  ) | dict.fromkeys(('labelled_bound', 'classifier_nll', 'accuracy'), 2) | {
    'unlabelled_bound': 1,
    'entropy': 1,
  }


@pytest.mark.slow
def test_padding_and_fillers_move_nothing():
  def padded(x, rows, columns=0, value=0):
    room = ((0, rows), (0, columns))[: x.ndim]
    return jnp.pad(x, room, constant_values=value)

  task = tiny_labelled.task(objective=tiny.objective(free_bits='dim_batch'))
  long = pipeline.Batch(
    padded(BATCH.tokens, 2, 3, 4)
    .at[:3, 7:]
    .set(tiny.PAD),  # fillers hold words, rows padding
    padded(BATCH.weights, 2, 3),
    condition=pipeline.Condition(
      padded(BATCH.condition.tokens, 2, 2, 4),
      padded(BATCH.condition.visible, 2, 2),
      padded(BATCH.condition.segments, 2, 2),
    ),
    label=padded(BATCH.label, 2, value=1),
  )
  short, of_short = loss(task)
  total, of_long = loss(task, long)
  np.testing.assert_allclose(total, short, rtol=1e-5)
  for name, mean in of_short.items():
    np.testing.assert_allclose(of_long[name], mean, rtol=1e-5, err_msg=name)


def test_labels_share_the_dropout_of_a_text():
  # A model to which labels mean nothing tells none from another.
  shape = tiny_labelled.MODEL.settings
  wet = dataclasses.replace(
    shape,
    decoder=dataclasses.replace(shape.decoder, dropout=0.5),
    encoder=dataclasses.replace(shape.encoder, dropout=0.5),
  )
  task = tiny_labelled.task(MODEL.clone(settings=wet))
  params = {
    name: jax.tree.map(jnp.zeros_like, tree)
    if name.startswith('label')
    else tree
    for name, tree in PARAMS.items()
  }
  assert sum(name.startswith('label') for name in params) == 2
  log_q = task.log_q(params, BATCH)
  terms = task._noisy_terms(params, BATCH, log_q, tiny.streams(), None)
  np.testing.assert_allclose(
    terms.nll, np.repeat(terms.nll[:, :1], LABELS, axis=1), rtol=1e-5
  )
  dry = tiny_labelled.task()._noisy_terms(
    params, BATCH, log_q, tiny.streams(), None
  )
  assert np.abs(dry.nll - terms.nll).min() > 1e-3


@pytest.mark.slow
def test_the_loss_is_a_sum_over_texts_wherever_they_lie():
  whole, _ = loss()
  parts = 0.0
  for first, last in ((0, 1), (1, 3)):
    part = jax.tree.map(lambda x, rows=slice(first, last): x[rows], BATCH)
    parts += loss(batch=part, first=first)[0]
  np.testing.assert_allclose(parts, whole, rtol=1e-5)


@pytest.mark.slow
def test_labels_alone_leave_the_generative_model_as_it_is():
  task = tiny_labelled.task(generative=0.0, classifier=2.0)

  def total(params):
    return loss(task, params=params)

  (value, metrics), gradient = jax.value_and_grad(total, has_aux=True)(PARAMS)
  assert 'nll' not in metrics  # the decoder is not even asked
  log_q = np.asarray(task.log_q(PARAMS, BATCH))
  np.testing.assert_allclose(value, -2 * (log_q[0, 2] + log_q[2, 0]), rtol=1e-5)
  moved = {
    name: any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(tree))
    for name, tree in gradient.items()
  }
  assert {name for name, moves in moved.items() if moves} == {
    'classifier',
    'classes',
    'mark_read',
    'decoder',  # the embeddings that the classifier reads by
  }


def test_figures_of_a_text_do_not_depend_on_its_batch():
  task = tiny_labelled.task()
  whole = task.evaluate(PARAMS, BATCH, tiny.keys())
  turned = jax.tree.map(lambda leaf: leaf[::-1], BATCH)
  again = task.evaluate(PARAMS, turned, tiny.keys()[::-1])
  for name, values in whole.items():
    np.testing.assert_allclose(again[name][::-1], values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'labels': ('b', 'a')}, 'sorted'),
    ({'labels': ('a',)}, 'two labels'),
    ({'prior': (0.5, 0.5)}, 'each of'),
    ({'prior': (0.5, 0.4, 0.2)}, 'sum to 1'),
    ({'labelled_share': 1.0}, 'labelled_share'),
    ({'generative': 0.0, 'classifier': 0.0}, 'are both 0'),
  ],
)
def test_settings_that_make_no_sense_are_named(changes, words):
  with pytest.raises(errors.UserError, match=words):
    tiny_labelled.settings(**changes)


def test_a_prior_of_nothing_is_uniform():
  found = tiny_labelled.settings(prior=()).log_prior
  np.testing.assert_allclose(found, np.log([1 / 3] * 3), rtol=1e-6)


def test_texts_without_labels_and_aspects_are_all_unknown():
  bare = tiny.batch()
  assert semi_supervised.label_of(bare).tolist() == [-1, -1, -1]
  assert not semi_supervised.aspect_of(bare).given.any()
