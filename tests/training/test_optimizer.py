"""What moves, how fast, and which patterns are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy_task

from lvdecode import errors
from lvdecode.training import optimizer


def params():
  return toy_task.Toy().init(jax.random.key(0))


def step(settings, grads, params, at=0, total=100):
  made = optimizer.make(settings, total, params)
  updates, _ = made.tx.update(
    grads, made.tx.init(params), params, step=jnp.int32(at)
  )
  return updates


def settings(**changes):
  base = {
    'learning_rate': 0.5,
    'warmup_steps': 0,
    'decay': 'constant',
    'clip_norm': 0.0,
  }
  return toy_task.optimizer_settings(**base | changes)


def test_equals_adamw_of_optax():
  p = params()
  grads = jax.tree.map(lambda x: jnp.sin(7 * x), p)
  made = optimizer.make(settings(weight_decay=(('.*', 0.1),)), 100, p)
  reference = optax.adamw(0.5, b1=0.9, b2=0.99, eps=1e-8, weight_decay=0.1)
  mine, theirs = made.tx.init(p), reference.init(p)
  for at in range(3):
    update, mine = made.tx.update(grads, mine, p, step=jnp.int32(at))
    expected, theirs = reference.update(grads, theirs, p)
    for a, b in zip(*map(jax.tree.leaves, (update, expected)), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_decay_is_by_name_and_scaled_by_the_rate():
  p = jax.tree.map(jnp.ones_like, params())
  updates = step(settings(), jax.tree.map(jnp.zeros_like, p), p)
  np.testing.assert_allclose(updates['encoder']['kernel'], -0.05, rtol=1e-6)
  np.testing.assert_array_equal(updates['decoder']['bias'], 0.0)


def test_first_pattern_wins_and_scales_the_rate():
  p = params()
  grads = jax.tree.map(jnp.ones_like, p)
  rules = (('decoder/kernel', 0.25), ('decoder/.*', 0.5), ('.*', 1.0))
  updates = step(
    settings(multipliers=rules, weight_decay=(('.*', 0.0),)), grads, p
  )
  for path, factor in (
    (('decoder', 'kernel'), 0.25),
    (('decoder', 'bias'), 0.5),
    (('encoder', 'kernel'), 1.0),
  ):
    np.testing.assert_allclose(
      updates[path[0]][path[1]], -0.5 * factor, rtol=1e-6
    )


def test_frozen_parameters_have_no_state_and_no_update():
  p = params()
  rules = (('decoder/.*', 0.0), ('.*', 1.0))
  made = optimizer.make(settings(multipliers=rules), 100, p)
  state = made.tx.init(p)
  sizes = {leaf.shape for leaf in jax.tree.leaves(state)}
  assert sizes == {(), (toy_task.IN, toy_task.HIDDEN)}
  grads = jax.tree.map(jnp.ones_like, p)
  updates, _ = made.tx.update(grads, state, p, step=jnp.int32(0))
  assert updates['decoder'] == {'kernel': None, 'bias': None}
  assert made.trainable == {
    'encoder': {'kernel': True},
    'decoder': {'kernel': False, 'bias': False},
  }


def test_clipping_bounds_the_norm_adam_sees():
  p = params()
  grads = jax.tree.map(lambda x: 100 * jnp.ones_like(x), p)
  made = optimizer.make(settings(clip_norm=1.0), 100, p)
  _, state = made.tx.update(grads, made.tx.init(p), p, step=jnp.int32(0))
  mu = next(s.mu for s in state if isinstance(s, optax.ScaleByAdamState))
  np.testing.assert_allclose(optax.tree.norm(mu), 0.1, rtol=1e-5)


def test_warmup_then_cosine():
  rate = optimizer.make(
    settings(warmup_steps=10, decay='cosine', end_fraction=0.1), 110, params()
  ).learning_rate
  np.testing.assert_allclose(
    [rate(s) for s in (0, 4, 9, 10, 60, 110, 500)],
    [0.05, 0.25, 0.5, 0.5, 0.275, 0.05, 0.05],
    rtol=1e-6,
  )
  assert all(rate(s) > rate(s + 1) for s in range(10, 110, 9))


def test_warmup_then_constant():
  rate = optimizer.make(settings(warmup_steps=4), 10, params()).learning_rate
  np.testing.assert_allclose(
    [rate(s) for s in range(6)], [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]
  )


def test_the_rate_follows_the_step_of_the_run():
  p = params()
  grads = jax.tree.map(jnp.ones_like, p)
  chosen = settings(warmup_steps=10, weight_decay=(('.*', 0.0),))
  updates = step(chosen, grads, p, at=4)
  np.testing.assert_allclose(updates['encoder']['kernel'], -0.25, rtol=1e-6)


@pytest.mark.parametrize('key', ['weight_decay', 'multipliers'])
@pytest.mark.parametrize(
  'rules, named',
  [
    ((('encoder/.*', 1.0),), "no pattern for parameter 'decoder/bias'"),
    ((('.*', 1.0), ('kernel', 1.0)), "'kernel' matches no parameter"),
    ((('.*', 1.0), ('.*bias', 0.0)), "'.*bias' decides nothing"),
    ((('.*', 1.0), ('.*', 0.0)), "'.*' decides nothing"),
    ((('.*(', 1.0),), 'not a regular expression'),
    ((('.*', -1.0),), 'negative'),
    ((), 'no pattern'),
  ],
)
def test_patterns_must_cover_and_match(key, rules, named):
  with pytest.raises(errors.UserError, match=named) as error:
    optimizer.make(settings(**{key: rules}), 10, params())
  assert f'optimizer.{key}' in str(error.value)


def test_freezing_everything_is_refused():
  with pytest.raises(errors.UserError, match='freezes every parameter'):
    optimizer.make(settings(multipliers=(('.*', 0.0),)), 10, params())


@pytest.mark.parametrize(
  'change',
  [
    {'learning_rate': 0.0},
    {'warmup_steps': -1},
    {'decay': 'linear'},
    {'end_fraction': 1.5},
    {'b1': 1.0},
    {'b2': -0.1},
    {'eps': 0.0},
    {'clip_norm': -1.0},
  ],
)
def test_mistakes_are_named(change):
  (key,) = change
  with pytest.raises(errors.UserError, match=rf'optimizer\.{key} is'):
    settings(**change)
