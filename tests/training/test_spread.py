"""A whole model takes the same steps however its state is split."""

import functools

import jax
import numpy as np
import pytest
import tiny

from lvdecode.training import metrics
from lvdecode.training import optimizer as optimizer_lib
from lvdecode.training import parallel
from lvdecode.training import step as step_lib

SIZES = (7, 5, 3, 6, 4, 5, 3, 7, 6, 5, 4, 3, 7, 6, 5, 4)


def task():
  """All that couples examples, and masks over a whole batch."""
  model = tiny.model(
    ('memory', 'softmax'),
    decoder=tiny.decoder_settings(layers=1, width=32, dropout=0.1),
    encoder=tiny.encoder_settings(width=32, dropout=0.1),
    posterior=tiny.posterior_settings(batch_norm=0.5),
  )
  return tiny.task(
    model,
    rate={'kind': 'pi'},
    mmd=5.0,
    bag_of_words=0.3,
    latent_dropout=0.2,
    word_dropout=0.2,
  )


def settings():
  return optimizer_lib.OptimizerSettings(
    learning_rate=1e-3,
    warmup_steps=0,
    decay='constant',
    end_fraction=1.0,
    b1=0.9,
    b2=0.99,
    # Rounding of a gradient near 0 is not to become a step of full size.
    eps=1e-3,
    clip_norm=1.0,
    weight_decay=(('.*', 0.01),),
    multipliers=(('.*', 1.0),),
    stages=(),
  )


def take(how, steps=5, accumulate=2):
  """Parameters after some steps, the last metrics, and what was split."""
  chosen = task()
  shapes = jax.eval_shape(chosen.init, jax.random.key(0))
  params = tiny.random_params(shapes)
  optimizer = optimizer_lib.make(settings(), 10, params)
  state = step_lib.TrainState(
    step=np.int32(0),
    params=params,
    opt_state=optimizer.tx.init(params),
    rng=jax.random.key(0),
    ema=None,
    carry=chosen.init_carry(),
  )
  devices = parallel.make(*how)
  step = devices.compile(
    functools.partial(
      step_lib.train_step,
      loss_fn=chosen.loss,
      next_carry=chosen.next_carry,
      tx=optimizer.tx,
      trainable=optimizer.trainable,
      axis_name=devices.axis_name,
      accumulate=accumulate,
      spread=devices.spread,
    )
  )
  state = devices.place(state)
  for i in range(steps):
    batch = tiny.batch(SIZES, seed=i)
    batch = batch._replace(weights=batch.weights.at[3].set(0))
    host = jax.tree.map(np.asarray, batch)
    state, means = step(state, devices.shard(host))
    jax.block_until_ready(state.params)
  split = [
    x for x in jax.tree.leaves(state) if not x.sharding.is_fully_replicated
  ]
  return devices.whole(state.params), metrics.values(means), split


@pytest.fixture(name='one', scope='module')
def _one():
  return take(('jit',))


@pytest.mark.slow
@pytest.mark.parametrize(
  'how',
  [
    pytest.param(('mesh',), marks=pytest.mark.long),
    pytest.param(('fsdp',), marks=pytest.mark.long),
    ('fsdp', 2),
  ],
  ids=('mesh', 'fsdp', 'model'),
)
def test_eight_devices_take_the_steps_of_one(one, how):
  params, figures, _ = one
  others, others_figures, split = take(how)
  assert bool(split) == (how[0] == 'fsdp')
  for a, b in zip(
    jax.tree.leaves(params), jax.tree.leaves(others), strict=True
  ):
    np.testing.assert_allclose(a, b, atol=1e-5)
  for name, value in figures.items():
    np.testing.assert_allclose(
      others_figures[name], value, rtol=1e-4, err_msg=name
    )
