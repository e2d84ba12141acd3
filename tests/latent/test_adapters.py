"""Adapters: silent at first, alone in what moves, gone once merged."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny

from configs import base
from lvdecode import errors
from lvdecode.latent import adapters
from lvdecode.training import flat
from lvdecode.training import optimizer as optimizer_lib
from lvdecode.training import step as step_lib

BATCH = tiny.batch()
SETTINGS = tiny.adapter_settings(rank=2, targets=('.*c_attn', 'h_0/mlp/.*'))
KERNELS = ['h_0/attn/c_attn', 'h_0/mlp/c_fc', 'h_0/mlp/c_proj']
# An encoder that is the decoder too, and the memory that a figure is about: so
# that every call of a model has something to tell adapters by.
PARTS = dict(points=('memory',), encoder=tiny.encoder_settings(kind='decoder'))
ADAPTED = tiny.task(tiny.shallow(**PARTS, adapters=SETTINGS))
PLAIN = tiny.task(tiny.shallow(**PARTS))


def figures(task, params):
  """All that a model is asked for."""
  z = tiny.latents()
  return {
    'loss': task.loss(params, BATCH, tiny.streams(), None, task.init_carry()),
    'encode': task.encode(params, BATCH),
    'nll': task.nll(params, BATCH, z),
    'memory_mass': task.memory_mass(params, BATCH, z),
  }


def same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.slow
def test_fresh_adapters_change_nothing():
  params = tiny.params(PLAIN.model)
  fresh = adapters.init(SETTINGS, jax.random.key(0), params['decoder'])
  for path in KERNELS:
    assert not leaves(fresh)[f'{path}/up'].any()
    assert leaves(fresh)[f'{path}/down'].all()
  same(figures(PLAIN, params), figures(ADAPTED, params | {'adapters': fresh}))


def leaves(tree):
  return dict(zip(flat.names(tree), jax.tree.leaves(tree), strict=True))


@pytest.mark.slow
def test_all_else_begins_as_without():
  adapted, plain = (
    tiny.task(tiny.shallow(points=(), adapters=chosen)).init(jax.random.key(0))
    for chosen in (SETTINGS, None)
  )
  same(adapted.pop('adapters') and adapted, plain)


@pytest.mark.slow
def test_a_merged_model_is_the_adapted_one():
  params = tiny.params(ADAPTED.model)
  assert flat.names(params['adapters']) == [
    f'{path}/{name}' for path in KERNELS for name in ('down', 'up')
  ]
  merged = adapters.merge(params, SETTINGS)
  shapes = jax.eval_shape(PLAIN.init, jax.random.key(0))
  assert jax.tree.structure(merged) == jax.tree.structure(shapes)
  same(figures(ADAPTED, params), figures(PLAIN, merged))
  silent = {k: v for k, v in params.items() if k != 'adapters'}
  apart = PLAIN.encode(silent, BATCH).mean - PLAIN.encode(merged, BATCH).mean
  assert (abs(apart) > 1e-3).all()


def test_what_is_merged_is_the_product_times_alpha_over_rank():
  params = tiny.params(ADAPTED.model)
  merged = leaves(adapters.merge(params, SETTINGS)['decoder'])
  change = leaves(params['adapters'])
  for name, before in leaves(params['decoder']).items():
    path = name.removesuffix('/kernel')
    expected = np.asarray(before, np.float64)
    if path in KERNELS and name != path:
      down, up = change[f'{path}/down'], change[f'{path}/up']
      expected = expected + 4.0 / 2 * np.asarray(down, np.float64) @ up
    np.testing.assert_allclose(merged[name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_with_a_frozen_decoder_adapters_alone_move():
  settings = optimizer_lib.OptimizerSettings(
    **base.get_config().optimizer.to_dict()
  )
  settings = dataclasses.replace(
    settings, multipliers=(('adapters/.*', 1.0), ('.*', 0.0))
  )
  task = tiny.task(tiny.shallow(points=(), adapters=SETTINGS))
  params = tiny.params(task.model)
  made = optimizer_lib.make(settings, 10, params)
  state = step_lib.TrainState(
    step=np.int32(5),
    params=params,
    opt_state=made.tx.init(params),
    rng=jax.random.key(0),
    ema=None,
    carry=task.init_carry(),
  )
  after, _ = jax.jit(
    lambda state, batch: step_lib.train_step(
      state,
      batch,
      loss_fn=task.loss,
      next_carry=task.next_carry,
      tx=made.tx,
      trainable=made.trainable,
    )
  )(state, BATCH)
  same(after.params['decoder'], params['decoder'])
  moved = leaves(
    jax.tree.map(
      lambda a, b: (a != b).all(), after.params['adapters'], params['adapters']
    )
  )
  assert all(moved.values()), moved
  held = sum(x.size for x in jax.tree.leaves(state.opt_state))
  assert held < 3 * sum(x.size for x in jax.tree.leaves(params['adapters']))


def test_they_are_the_decoders():
  for name in flat.names(tiny.params(ADAPTED.model)):
    if name.startswith('adapters/'):
      assert ADAPTED.part(name) == 'decoder'


def test_a_target_without_a_kernel_is_refused():
  for pattern in ('h_1/.*', 'c_attn', 'h_0/attn/c_attn/kernel', 'wte', 'ln_f'):
    chosen = tiny.adapter_settings(rank=2, targets=('.*c_attn', pattern))
    task = tiny.task(tiny.shallow(adapters=chosen))
    with pytest.raises(errors.UserError, match='matches no kernel') as error:
      jax.eval_shape(task.init, jax.random.key(0))
    assert repr(pattern) in str(error.value)
    assert "'h_0/attn/c_attn'" in str(error.value)
