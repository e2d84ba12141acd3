"""Rate control by its formulas, by a toy that is solved, and on a model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from lvdecode import errors
from lvdecode.latent import rate
from lvdecode.training import step

KL = jnp.asarray([1.0, 4.0, 2.0, 6.0, 99.0])
REAL = jnp.asarray([1.0, 1.0, 1.0, 1.0, 0.0])  # the mean is 3.25
BETA = jnp.float32(0.5)
CONTROLLED = [kind for kind in rate.KINDS if kind != 'none']


def settings(kind, **changes):
  return tiny.rate_settings(dict(kind=kind, **changes))


def charge(chosen, memory, kl=KL, axis_name=None, real=REAL):
  return rate.charge(chosen, memory, BETA, kl, real, axis_name)


def mean_and_slope(chosen, memory):
  def mean(kl):
    cost = charge(chosen, memory, kl).cost
    return REAL @ cost / REAL.sum()

  return jax.value_and_grad(mean)(KL)


MEMORIES = {
  'none': None,
  'distance': None,
  'dual': rate.Multiplier(jnp.float32(0.2)),
  'pi': rate.Controller(jnp.float32(0.7), jnp.float32(0.1)),
}


@pytest.mark.parametrize('target', [2.0, 5.0])
@pytest.mark.parametrize('kind', rate.KINDS)
def test_the_cost_and_its_gradient_are_the_formula(kind, target):
  expected, weight = {
    'none': (0.5 * 3.25, 0.5),
    'distance': (0.5 * abs(3.25 - target), 0.5 * np.sign(3.25 - target)),
    'dual': (0.5 * 3.25 + 0.2 * (target - 3.25), 0.5 - 0.2),
    'pi': (0.7 * 3.25, 0.7),
  }[kind]
  chosen = settings(kind, target=target)
  value, slope = mean_and_slope(chosen, MEMORIES[kind])
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  np.testing.assert_allclose(slope, weight * REAL / 4, rtol=1e-6)
  logged = charge(chosen, MEMORIES[kind]).weight
  np.testing.assert_allclose(logged, weight, rtol=1e-6)


def test_the_distance_is_that_of_all_devices_together():
  # On four devices of two; the first two alone are below the target.
  kl = jnp.concatenate([KL, KL[:3]])
  real = jnp.concatenate([REAL, jnp.ones(3)])
  chosen = settings('distance', target=2.6)
  one = charge(chosen, None, kl, real=real)
  many = jax.pmap(
    lambda kl, real: charge(chosen, None, kl, 'batch', real),
    axis_name='batch',
    devices=jax.devices()[:4],
  )(kl.reshape(4, 2), real.reshape(4, 2))
  np.testing.assert_allclose(many.cost.reshape(-1), one.cost, rtol=1e-6)


def test_the_multiplier_ascends_and_stays_above_zero():
  chosen = settings('dual', target=3.0, dual_step=0.1)
  memory = rate.start(chosen)
  assert memory == rate.Multiplier(0.0)
  seen = []
  for kl in (1.0, 2.0, 3.0, 4.5, 9.0, 2.5):
    memory = rate.advance(chosen, memory, jnp.float32(kl))
    seen.append(float(memory.value))
  np.testing.assert_allclose(seen, [0.2, 0.3, 0.3, 0.15, 0, 0.05], atol=1e-6)


def controlled(kls, **changes):
  chosen = settings('pi', **changes)
  memory = rate.start(chosen)
  betas = []
  for kl in kls:
    memory = rate.advance(chosen, memory, jnp.float32(kl))
    betas.append(float(memory.beta))
  return betas


def test_the_controller_is_the_equation_of_controlvae():
  kls = [4.0, 5.5, 2.0, 3.5]
  errors_so_far = 3.0 - np.asarray(kls)
  expected = (
    0.2 / (1 + np.exp(errors_so_far)) - 0.05 * np.cumsum(errors_so_far) + 0.1
  )
  betas = controlled(
    kls, proportional=0.2, integral=0.05, beta_min=0.1, beta_max=9.0
  )
  np.testing.assert_allclose(betas, expected, rtol=1e-5)
  assert rate.start(settings('pi', beta_min=0.1)).beta == np.float32(0.1)


def test_the_controller_keeps_its_limits_and_does_not_wind_up():
  low, high = 0.2, 0.8
  betas = controlled(
    [0.0] * 50 + [50.0] * 50 + [2.0] * 3,
    integral=0.1,
    beta_min=low,
    beta_max=high,
  )
  np.testing.assert_allclose(betas[:50], low, atol=1e-6)
  # At once, not after the 50 steps of the other error are made up for.
  assert betas[50] > low + 0.5
  np.testing.assert_allclose(betas[51:100], high, atol=1e-6)
  assert betas[100] < high and betas[102] < betas[100]


@pytest.mark.parametrize('kind', rate.KINDS)
def test_many_targets_run_as_one(kind):
  def both(target):
    chosen = settings(kind, target=target)
    cost = charge(chosen, MEMORIES[kind]).cost
    return cost, rate.advance(chosen, MEMORIES[kind], jnp.float32(3.0))

  targets = jnp.asarray([0.0, 2.5, 8.0])
  many = jax.jit(jax.vmap(both))(targets)
  for index, target in enumerate(targets):
    row = jax.tree.map(lambda x, index=index: x[index], many)
    one = both(float(target))
    for a, b in zip(jax.tree.leaves(row), jax.tree.leaves(one), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize('target', [0.5, 2.0, 4.0])
@pytest.mark.parametrize('kind', CONTROLLED)
def test_a_solved_trade_off_ends_at_the_target(kind, target):
  """nll = 8 exp(-KL / 2): at weight w the best KL is 2 log(4 / w)."""
  chosen = settings(
    kind, target=target, dual_step=0.03, integral=0.01, beta_max=8.0
  )
  if kind == 'distance':
    weight = jnp.float32(6.0)  # more than the nll's slope of at most 4
  else:
    weight = jnp.float32(1.0)

  def loss(kl, memory):
    paid = rate.charge(chosen, memory, weight, kl[None], jnp.ones(1), None)
    return 8 * jnp.exp(-kl / 2) + paid.cost[0]

  def move(carry, _):
    kl, memory = carry
    moved = kl - 0.004 * jax.grad(loss)(kl, memory)
    return (moved, rate.advance(chosen, memory, kl)), moved

  start = jnp.float32(1.5), rate.start(chosen)
  _, kls = jax.lax.scan(move, start, None, length=12_000)
  last = np.asarray(kls[-500:])
  if kind == 'dual':
    # Only a floor: at beta = 1 the KL is 2 log 4 by itself.
    target = max(target, 2 * np.log(4))
  np.testing.assert_allclose(last.mean(), target, rtol=0.03)
  np.testing.assert_allclose(last, target, rtol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize('kind', CONTROLLED)
def test_a_model_ends_at_the_target(kind):
  """At beta = 1 without control this model's KL ends at 0.02."""
  target = 4.0
  task = tiny.task(
    tiny.shallow(points=('memory', 'softmax')),
    beta=5.0 if kind == 'distance' else 1.0,
    rate=dict(kind=kind, target=target, dual_step=0.01, integral=0.005),
  )
  batch = tiny.batch((7,) * 16)
  tx = optax.adam(3e-3)

  @jax.jit
  def train(state):
    def one(state, _):
      state, metrics = step.train_step(
        state,
        batch,
        loss_fn=task.loss,
        next_carry=task.next_carry,
        tx=tx,
      )
      return state, (metrics['kl'].value(), metrics['beta'].value())

    return jax.lax.scan(one, state, None, length=2_000)

  _, (kl, beta) = train(step.init_state(task, tx, 0, 0.0))
  np.testing.assert_allclose(np.mean(kl[-500:]), target, rtol=0.1)
  assert np.isfinite(beta).all()


@pytest.mark.parametrize(
  ('change', 'named'),
  [
    ({'kind': 'pid'}, "rate.kind = 'pid': did you mean 'pi'"),
    ({'target': -1.0}, 'rate.target = -1.0'),
    ({'integral': -0.1}, 'rate.integral = -0.1'),
    ({'beta_min': 2.0}, 'rate.beta_max = 1.0: it must be at least 2.0'),
  ],
)
def test_mistakes_are_named(change, named):
  with pytest.raises(errors.UserError, match=named):
    dataclasses.replace(settings('none'), **change)
