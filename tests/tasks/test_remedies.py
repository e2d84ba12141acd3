"""What is done against a posterior's collapse: where it acts and where not."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from lvdecode import errors
from lvdecode.latent import bag_of_words
from lvdecode.latent import mmd
from lvdecode.tasks import inference
from lvdecode.tasks import latent
from lvdecode.tasks import noise
from lvdecode.training import flat
from lvdecode.training import metrics
from lvdecode.training import optimizer as optimizer_lib
from lvdecode.training import parallel
from lvdecode.training import parts
from lvdecode.training import schedules
from lvdecode.training import step as step_lib

BATCH = tiny.batch()
MODEL = tiny.shallow()
SHAPED = tiny.shallow(
  posterior=tiny.posterior_settings(batch_norm=0.6, min_rate=1.0)
)
OPTIMIZER = optimizer_lib.OptimizerSettings(
  learning_rate=0.1,
  warmup_steps=0,
  decay='constant',
  end_fraction=1.0,
  b1=0.9,
  b2=0.99,
  eps=1.0,  # so large that the update is in proportion to the gradient
  clip_norm=0.0,
  weight_decay=(('.*', 0.0),),
  multipliers=(('.*', 1.0),),
  stages=(),
)


@functools.cache
def params_of(task):
  """The model's, which are those of `tiny.params`, and the words' own."""
  shapes = dict(jax.eval_shape(task.init, jax.random.key(0)))
  own = {name: shapes[name] for name in shapes if name == 'bag_of_words'}
  return tiny.params(task.model) | tiny.random_params(own)


def loss(task, step=0, params=None):
  params = params_of(task) if params is None else params
  streams = tiny.streams(step=step)
  return task.loss(params, BATCH, streams, None, task.init_carry())


@pytest.mark.slow
def test_a_decoder_that_begins_anew_keeps_what_the_encoder_reads_by():
  encoder = tiny.encoder_settings(kind='shared_embeddings')
  task = tiny.task(tiny.shallow(encoder=encoder))
  shapes = jax.eval_shape(task.init, jax.random.key(0))
  optimizer = optimizer_lib.make(OPTIMIZER, 10, shapes, parts_wait=True)
  before = step_lib.init_state(task, optimizer.tx, 0, 0.0)
  before = before._replace(params=tiny.params(task.model))
  after = parts.reset(before, task, optimizer).params
  changed = {
    name
    for name, old, new in zip(
      flat.names(after),
      jax.tree.leaves(before.params),
      jax.tree.leaves(after),
      strict=True,
    )
    if (np.asarray(old) != np.asarray(new)).any()
  }
  assert {name.split('/')[0] for name in changed} == {'decoder', 'injection'}
  assert 'decoder/h_0/attn/c_attn/kernel' in changed
  assert not any('wte' in name or 'wpe' in name for name in changed)


def sampled(streams):
  """z [3, Z] of the loss at these streams."""
  visible = inference.visible(BATCH)
  params = tiny.params(MODEL)
  q = tiny.apply(MODEL, params, BATCH.tokens, visible, method='encode')
  keys = streams.per_example('latent')
  return q.sample(noise.normal(keys, (1, tiny.LATENT))[:, 0])


def added(name, weight, **changes):
  """The metric of a term that the loss adds, seen to be all it changes."""
  plain, before = loss(tiny.task(MODEL, **changes), params=tiny.params(MODEL))
  task = tiny.task(MODEL, **changes, **{name: weight})
  total, after = loss(task)
  term = after.pop(name)
  assert term.weight == 3
  np.testing.assert_allclose(total, plain + weight * term.total, rtol=1e-5)
  assert set(after) == set(before)
  for key in set(before) - {'loss'}:  # the bound among them
    np.testing.assert_array_equal(before[key], after[key])
  return term.total / 3


@pytest.mark.parametrize('kernel', tuple(mmd.KERNELS))
def test_mmd_is_added_with_its_weight_and_is_not_in_the_bound(kernel):
  streams = tiny.streams()
  prior = noise.normal(streams.per_example('prior'), (tiny.LATENT,))
  z = sampled(streams)
  expected = mmd.squared(z, prior, jnp.ones(3), kernel, None)
  found = added('mmd', 7.0, kernel=kernel)
  np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_bag_of_words_is_added_with_its_weight_and_is_not_in_the_bound():
  params = params_of(tiny.task(MODEL, bag_of_words=0.5))
  module = bag_of_words.BagOfWords(tiny.WIDTH, tiny.VOCAB)
  logits = module.apply(
    {'params': params['bag_of_words']}, sampled(tiny.streams())
  )
  expected = bag_of_words.nll(logits, BATCH.tokens[:, 1:], BATCH.weights[:, 1:])
  found = added('bag_of_words', 0.5)
  np.testing.assert_allclose(found, expected.mean(), rtol=1e-5)


def test_bag_of_words_has_parameters_only_when_on():
  for weight, there in ((0.0, False), (0.5, True)):
    task = tiny.task(MODEL, bag_of_words=weight)
    shapes = jax.eval_shape(task.init, jax.random.key(3))
    assert ('bag_of_words' in shapes) == there


@pytest.mark.slow
def test_bag_of_words_changes_no_other_parameter():
  without = tiny.task(MODEL).init(jax.random.key(3))
  params = tiny.task(MODEL, bag_of_words=0.5).init(jax.random.key(3))
  own = params.pop('bag_of_words')
  assert own['words']['kernel'].shape == (tiny.WIDTH, tiny.VOCAB)
  jax.tree.map(np.testing.assert_array_equal, params, without)


def test_evaluation_knows_no_remedy_of_the_loss():
  plain = tiny.task(MODEL)
  task = tiny.task(
    MODEL, mmd=3.0, bag_of_words=0.5, latent_dropout=0.5, pretraining_steps=9
  )
  expected = plain.evaluate(tiny.params(MODEL), BATCH, tiny.keys())
  found = task.evaluate(params_of(task), BATCH, tiny.keys())
  jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize('rate', [0.0, 0.3, 0.8])
def test_latent_dropout_hides_the_rate_and_keeps_the_mean(rate):
  z = jnp.ones((2, 400, 15))
  told = noise.drop(z, tiny.keys(400), rate)
  hidden = told == 0
  assert abs(hidden.mean() - rate) <= (0.02 if rate else 0)
  np.testing.assert_allclose(told.mean(), 1.0, atol=0.05)
  np.testing.assert_allclose(told[~hidden], 1 / (1 - rate), rtol=1e-6)
  if rate:
    rows = np.asarray(hidden).reshape(800, 15)  # each draw and text its own
    assert len(np.unique(rows, axis=0)) > 500


def test_latent_dropout_hides_from_the_decoder_not_from_the_kl():
  plain, half, again, later = (
    loss(tiny.task(MODEL, latent_dropout=rate, beta=0.0), step)[1]
    for rate, step in ((0.0, 0), (0.5, 0), (0.5, 0), (0.5, 1))
  )
  assert plain['nll'].total != half['nll'].total == again['nll'].total
  assert half['nll'].total != later['nll'].total
  assert plain['kl'].total == half['kl'].total


def test_pretraining_has_no_kl_and_moves_the_schedule():
  task = tiny.task(MODEL, pretraining_steps=10)
  schedule = schedules.ScheduleSettings(
    kind='linear',
    start=0.2,
    end=1.0,
    duration='8 steps',
    shape='linear',
    cycles=1,
    wait=0.0,
    ratio=1.0,
  )
  beta = schedules.resolve('beta', schedule, 20, 0)
  objective = dataclasses.replace(task.objective, beta=beta)
  task = latent.LatentTask(MODEL, objective, tiny.HIDDEN)
  betas = [float(task.beta(step)) for step in (0, 9, 10, 14, 18, 50)]
  np.testing.assert_allclose(betas, [0, 0, 0.2, 0.6, 1, 1], rtol=1e-6)
  total, figures = loss(task, step=9)
  assert total == figures['nll'].total
  assert loss(task, step=10)[0] > figures['nll'].total


def test_an_auto_encoder_takes_its_turns():
  task = tiny.task(MODEL, autoencode_every=3, pretraining_steps=1)
  betas = [float(task.beta(step)) for step in range(8)]
  assert betas == [0, 1, 1, 0, 1, 1, 0, 1]
  total, figures = loss(task, step=3)
  assert total == figures['nll'].total
  assert loss(task, step=4)[0] > figures['nll'].total


def test_normalised_means_and_the_least_rate_are_in_the_loss():
  _, figures = loss(tiny.task(SHAPED))
  bound = 1.0 + tiny.LATENT * 0.6**2 / 2
  assert figures['kl'].total / 3 >= bound
  names = {'posterior/running_mean', 'posterior/running_variance'}
  assert names < set(figures)
  for name in names:
    assert figures[name].total.shape == (tiny.LATENT,)


def test_normalised_evaluation_knows_no_batch_mates():
  task = tiny.task(SHAPED)
  figures = task.evaluate(params_of(task), BATCH, tiny.keys())
  mates = tiny.batch((4, 5, 7), seed=5)
  mixed = jax.tree.map(lambda a, b: b.at[1].set(a[1]), BATCH, mates)
  again = task.evaluate(params_of(task), mixed, tiny.keys())
  for name, values in figures.items():
    np.testing.assert_allclose(values[1], again[name][1], atol=1e-5)


def everything():
  return tiny.task(
    SHAPED, mmd=5.0, bag_of_words=0.3, latent_dropout=0.2, beta=0.5
  )


def take(kind, accumulate=1):
  """One step of SGD on two texts a device, some of them fillers."""
  task = everything()
  sizes = (7, 5, 3, 6, 4, 5, 3, 7, 6, 5, 4, 3, 7, 6, 5, 4)
  batch = tiny.batch(sizes, seed=1)
  weights = batch.weights.at[jnp.asarray([3, 8, 9])].set(0)
  batch = jax.tree.map(np.asarray, batch._replace(weights=weights))
  devices = parallel.make(kind)
  optimizer = optimizer_lib.make(OPTIMIZER, 10, params_of(task))
  state = step_lib.TrainState(
    step=jnp.asarray(4),
    params=jax.tree.map(jnp.copy, params_of(task)),
    opt_state=optimizer.tx.init(params_of(task)),
    rng=jax.random.key(0),
    ema=None,
    carry=task.init_carry(),
  )
  step = devices.compile(
    functools.partial(
      step_lib.train_step,
      loss_fn=task.loss,
      next_carry=task.next_carry,
      tx=optimizer.tx,
      trainable=optimizer.trainable,
      axis_name=devices.axis_name,
      accumulate=accumulate,
    )
  )
  state, means = step(devices.place(state), devices.shard(batch))
  return jax.tree.map(np.asarray, state.params), metrics.values(means)


@pytest.mark.slow
def test_eight_devices_take_the_step_of_one_under_all_remedies():
  one, figures = take('jit')
  many, again = take('pmap')
  assert set(figures) >= {'mmd', 'bag_of_words', 'kl'}
  assert 'posterior/running_mean' not in figures
  for name, value in figures.items():
    np.testing.assert_allclose(value, again[name], rtol=1e-4, atol=1e-5)
  before = jax.tree.map(np.asarray, params_of(everything()))
  for a, b, c in zip(*map(jax.tree.leaves, (one, many, before)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert (a != c).any()  # all are moved, running statistics too


@pytest.mark.slow
def test_added_terms_have_their_own_gradient_beside_any_estimator():
  weights = dict(mmd=7.0, bag_of_words=0.5, samples=2, latent_dropout=0.2)

  def gradient(**changes):
    task = tiny.task(MODEL, **changes)
    params = params_of(tiny.task(MODEL, bag_of_words=0.5))
    slope = jax.jit(jax.grad(lambda p: loss(task, params=p)[0]))(params)
    return slope['posterior']

  def own(estimator):
    # What the terms add to the gradient, whatever the bound's is.
    plain = dict(samples=2, latent_dropout=0.2)
    return jax.tree.map(
      lambda a, b: a - b,
      gradient(estimator=estimator, **weights),
      gradient(estimator=estimator, **plain),
    )

  elbo, dreg = own('elbo'), own('dreg')
  for a, b in zip(jax.tree.leaves(elbo), jax.tree.leaves(dreg), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
  assert np.abs(elbo['mean']['kernel']).max() > 1e-2


@pytest.mark.parametrize(
  'changes',
  [dict(rate={'kind': 'dual'}), dict(rate={'kind': 'pi'})]
  + [dict(estimator=name) for name in ('iwae', 'dreg')],
)
def test_pretraining_is_refused_beside_what_knows_no_weight(changes):
  tiny.objective(**changes)
  with pytest.raises(errors.UserError, match='pretraining_steps'):
    tiny.objective(pretraining_steps=5, **changes)
  with pytest.raises(errors.UserError, match='autoencode_every'):
    tiny.objective(autoencode_every=2, **changes)


def test_an_auto_encoder_leaves_steps_for_the_kl():
  with pytest.raises(errors.UserError, match='autoencode_every = 1 leaves'):
    tiny.objective(autoencode_every=1)
