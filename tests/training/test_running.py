"""Running statistics follow their metric, and nothing else moves them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_task

from lvdecode.training import metrics
from lvdecode.training import optimizer as optimizer_lib
from lvdecode.training import parallel
from lvdecode.training import running
from lvdecode.training import step as step_lib


class Following(toy_task.Toy):
  """Its statistic becomes half of itself and half of the batch's mean x."""

  def init(self, rng):
    params = super().init(rng)
    params['encoder']['running_mean'] = jnp.ones((toy_task.IN,))
    return params

  def loss(self, params, batch, streams, axis_name, carry):
    total, figures = super().loss(params, batch, streams, axis_name, carry)
    old = params['encoder']['running_mean']
    count = jnp.sum(batch.weights)
    moved = 0.5 * old * count + 0.5 * (batch.weights @ batch.x)
    # A gradient that would be seen, if there were one.
    total += jnp.sum(old) * count
    return total, figures | {'encoder/running_mean': metrics.Mean(moved, count)}


def take(kind, steps=3, accumulate=1, bad=()):
  toy = Following()
  devices = parallel.make(kind)
  params = toy.init(jax.random.key(0))
  optimizer = optimizer_lib.make(
    toy_task.optimizer_settings(weight_decay=(('.*', 0.1),)), 10, params
  )
  state = step_lib.init_state(toy, optimizer.tx, 0, 0.5)
  step = devices.compile(
    functools.partial(
      step_lib.train_step,
      loss_fn=toy.loss,
      next_carry=toy.next_carry,
      tx=optimizer.tx,
      trainable=optimizer.trainable,
      axis_name=devices.axis_name,
      accumulate=accumulate,
      ema=0.5,
    )
  )
  state = devices.place(state)
  data = toy_task.Data(bad)
  for _ in range(steps):
    state, means = step(state, devices.shard(next(data)))
    jax.block_until_ready(state.params)
  assert 'encoder/running_mean' not in means
  return state, optimizer


@pytest.mark.slow
@pytest.mark.parametrize(
  ('kind', 'accumulate'), [('jit', 1), ('jit', 4), ('pmap', 2)]
)
def test_a_statistic_follows_the_whole_batch(kind, accumulate):
  state, optimizer = take(kind, accumulate=accumulate)
  statistic, average = np.ones(toy_task.IN), np.ones(toy_task.IN)
  for index in range(3):
    batch = toy_task.make_batch(index)
    mean = batch.x[batch.weights > 0].mean(0)
    statistic = 0.5 * statistic + 0.5 * mean
    average = 0.5 * average + 0.5 * statistic
  found = state.params['encoder']['running_mean']
  np.testing.assert_allclose(found, statistic, atol=1e-6)
  found = state.ema['encoder']['running_mean']
  np.testing.assert_allclose(found, average, atol=1e-6)
  assert not optimizer.trainable['encoder']['running_mean']
  assert optimizer.trainable['encoder']['kernel']


def test_a_step_that_is_not_finite_moves_no_statistic():
  before, _ = take('jit', steps=2)
  after, _ = take('jit', steps=3, bad=[2])
  jax.tree.map(np.testing.assert_array_equal, before.params, after.params)


def test_a_batch_of_fillers_moves_no_statistic():
  params = {'running_mean': jnp.ones(2), 'kernel': jnp.ones(2)}
  figures = {
    'running_mean': metrics.Mean(jnp.zeros(2), jnp.zeros(())),
    'kernel': metrics.Mean(jnp.zeros(()), jnp.ones(())),
  }
  moved, rest = running.follow(params, figures)
  np.testing.assert_array_equal(moved['running_mean'], 1)
  # A metric of a parameter's name that is no statistic stays a metric.
  np.testing.assert_array_equal(moved['kernel'], 1)
  assert set(rest) == {'kernel'}
