"""One step is the same step however it is spread."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy_task

from lvdecode.training import metrics
from lvdecode.training import optimizer as optimizer_lib
from lvdecode.training import parallel
from lvdecode.training import step as step_lib

SPREAD = [('pmap',), ('mesh',), ('fsdp', 2, toy_task.RULES)]


def take(
  steps=5,
  how=('jit',),
  accumulate=1,
  ema=0.0,
  bad=(),
  toy=None,
  with_start=False,
  **changes,
):
  """The final state on the host and every step's metrics."""
  toy = toy or toy_task.Toy()
  devices = parallel.make(*how)
  optimizer = optimizer_lib.make(
    toy_task.optimizer_settings(**changes), 10, toy.init(jax.random.key(0))
  )
  state = step_lib.init_state(toy, optimizer.tx, 0, ema)
  start = jax.tree.map(np.array, state._replace(rng=None))
  compiled = devices.compile(
    functools.partial(
      step_lib.train_step,
      loss_fn=toy.loss,
      next_carry=toy.next_carry,
      tx=optimizer.tx,
      trainable=optimizer.trainable,
      axis_name=devices.axis_name,
      accumulate=accumulate,
      spread=devices.spread,
      ema=ema,
    )
  )
  state = devices.place(state)
  data = toy_task.Data(bad)
  seen = []
  for _ in range(steps):
    state, means = compiled(state, devices.shard(next(data)))
    jax.block_until_ready(state.params)
    seen.append(metrics.values(means))
  final = jax.tree.map(np.array, state._replace(rng=None))
  return (start, final, seen) if with_start else (final, seen)


def close(a, b, rtol=0.0, atol=1e-6):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize('how', SPREAD, ids=lambda how: how[0])
@pytest.mark.parametrize('more', [False, True])
def test_eight_devices_take_the_step_of_one(more, how):
  toy = toy_task.Toy(coupled=more, remembers=more)
  one, seen_one = take(toy=toy, ema=0.9)
  many, seen_many = take(toy=toy, ema=0.9, how=how)
  close(one.ema, many.ema)
  close(one.params, many.params)
  close(one.carry, many.carry, rtol=1e-5)
  for a, b in zip(seen_one, seen_many, strict=True):
    close(a, b, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('how', [('jit',), *SPREAD[:2]], ids=lambda how: how[0])
def test_accumulation_takes_the_same_step(how):
  toy = toy_task.Toy(remembers=True)
  whole, seen_whole = take(how=how, toy=toy)
  parts, seen_parts = take(how=how, accumulate=4, toy=toy)
  close(whole.params, parts.params)
  close(whole.carry, parts.carry, rtol=1e-5)
  for a, b in zip(seen_whole, seen_parts, strict=True):
    close(a, b, rtol=1e-5)


@pytest.mark.slow
def test_a_compiler_shares_out_the_micro_batches_of_one_device():
  """What is coupled within a micro-batch is the same on any devices."""
  toy = toy_task.Toy(coupled=True)
  one, seen_one = take(toy=toy, accumulate=4)
  many, seen_many = take(toy=toy, accumulate=4, how=SPREAD[2])
  close(one.params, many.params)
  for a, b in zip(seen_one, seen_many, strict=True):
    close(a, b, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['jit', 'pmap', 'mesh'])
def test_metrics_are_of_the_whole_batch(kind):
  devices = parallel.make(kind)
  toy, tx = toy_task.Toy(), optax.sgd(0.0)
  compiled = devices.compile(
    functools.partial(
      step_lib.train_step,
      loss_fn=toy.loss,
      next_carry=toy.next_carry,
      tx=tx,
      axis_name=devices.axis_name,
    )
  )
  state = devices.place(step_lib.init_state(toy, tx, 0, 0.0))
  _, means = compiled(state, devices.shard(toy_task.make_batch(0)))
  weights = {name: float(mean.weight) for name, mean in means.items()}
  real = float(np.sum(toy_task.make_batch(0).weights))
  assert weights == {'loss': real, 'noise': real, 'grad_norm': 1, 'skipped': 1}


@pytest.mark.slow
def test_gradient_is_of_the_mean_over_real_examples():
  toy = toy_task.Toy(noise=0.0)
  tx = optax.sgd(1.0)
  state = step_lib.init_state(toy, tx, 0, 0.0)
  batch = toy_task.make_batch(0)
  new, _ = step_lib.train_step(
    state, batch, loss_fn=toy.loss, next_carry=toy.next_carry, tx=tx
  )

  def mean(params):
    real = batch.weights.astype(bool)
    x, y = batch.x[real], batch.y[real]
    hidden = x @ params['encoder']['kernel']
    out = hidden @ params['decoder']['kernel'] + params['decoder']['bias'][None]
    return jnp.mean(jnp.sum((out - y) ** 2, axis=-1))

  expected = jax.tree.map(
    lambda p, g: p - g, state.params, jax.grad(mean)(state.params)
  )
  close(new.params, expected, rtol=1e-5, atol=1e-5)


def test_noise_differs_between_steps_and_examples():
  seen = []

  class Spy(toy_task.Toy):
    def loss(self, params, batch, streams, axis_name, carry):
      seen.append((streams.step, streams.place))
      return super().loss(params, batch, streams, axis_name, carry)

  toy, tx = Spy(), optax.sgd(0.0)
  state = step_lib.init_state(toy, tx, 0, 0.0)
  for _ in range(2):
    state, _ = step_lib.train_step(
      state,
      toy_task.make_batch(0),
      loss_fn=toy.loss,
      next_carry=toy.next_carry,
      tx=tx,
      offset=7,
    )
  assert [int(step) for step, _ in seen] == [0, 1]
  for _, place in seen:
    np.testing.assert_array_equal(place, 7 + np.arange(toy_task.BATCH))
  _, figures = take(how=('pmap',), learning_rate=1e-9)
  assert len({f['noise'] for f in figures}) == 5


def test_what_is_remembered_is_of_the_steps_before():
  final, seen = take(steps=3, toy=toy_task.Toy(remembers=True))
  carry = 0.0
  for figures in seen:
    carry = 0.9 * carry + 0.1 * figures['loss']
  np.testing.assert_allclose(final.carry, carry, rtol=1e-6)
  _, forgetful = take(steps=3)
  assert seen[0]['loss'] == forgetful[0]['loss']
  assert seen[1]['loss'] > 1.1 * forgetful[1]['loss']


def test_frozen_stay_bit_identical_and_all_others_move():
  start, final, _ = take(
    multipliers=(('decoder/kernel', 0.0), ('.*', 1.0)),
    ema=0.9,
    with_start=True,
  )
  for before, after in ((start.params, final.params), (start.ema, final.ema)):
    np.testing.assert_array_equal(
      before['decoder']['kernel'], after['decoder']['kernel']
    )
    assert (before['encoder']['kernel'] != after['encoder']['kernel']).all()
    assert (before['decoder']['bias'] != after['decoder']['bias']).all()


def test_frozen_parameters_do_not_count_in_the_norm():
  _, everything = take(steps=1)
  _, part = take(steps=1, multipliers=(('encoder/.*', 0.0), ('.*', 1.0)))
  assert 0 < part[0]['grad_norm'] < everything[0]['grad_norm']


@pytest.mark.slow
def test_norm_is_reported_before_clipping():
  _, clipped = take(steps=1, clip_norm=1e-3)
  _, free = take(steps=1, clip_norm=0.0)
  assert clipped[0]['grad_norm'] == free[0]['grad_norm'] > 1


@pytest.mark.slow
def test_average_follows_the_parameters():
  final, _ = take(steps=3, ema=0.75)
  average, _ = take(steps=0, ema=0.75)
  expected = average.params
  for steps in (1, 2, 3):
    params = take(steps=steps)[0].params
    expected = jax.tree.map(lambda e, p: 0.75 * e + 0.25 * p, expected, params)
  close(final.ema, expected)
  assert take(steps=1)[0].ema is None


@pytest.mark.parametrize('kind', ['jit', 'pmap'])
def test_a_step_that_is_not_finite_changes_nothing_but_the_count(kind):
  toy = toy_task.Toy(remembers=True)
  before, _ = take(steps=3, how=(kind,), ema=0.9, toy=toy)
  after, seen = take(steps=4, how=(kind,), ema=0.9, toy=toy, bad=[3])
  assert after.step == 4
  for a, b in zip(
    jax.tree.leaves(before._replace(step=None)),
    jax.tree.leaves(after._replace(step=None)),
    strict=True,
  ):
    np.testing.assert_array_equal(a, b)
  assert [f['skipped'] for f in seen] == [0, 0, 0, 1]
  # NaN for nothing counted: it does not spoil the mean of other steps.
  assert all(np.isnan(seen[3][k]) for k in ('loss', 'noise', 'grad_norm'))


def test_a_run_goes_on_after_a_step_that_is_not_finite():
  final, seen = take(steps=6, bad=[2])
  assert np.isfinite([f['loss'] for i, f in enumerate(seen) if i != 2]).all()
  adam = final.opt_state[1] if len(final.opt_state) == 3 else final.opt_state[0]
  assert adam.count == 5
