"""Which points share a program, and numbers put in place of numbers."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from lvdecode import errors
from lvdecode import settings as settings_lib
from lvdecode.latent import bounds
from lvdecode.latent import rate
from lvdecode.sweeps import points
from lvdecode.sweeps import vectorize
from lvdecode.training import optimizer
from lvdecode.training import schedules

BASE = base.get_config('quick').to_dict()
OTHER = {
  'optimizer.learning_rate': 3e-4,
  'optimizer.end_fraction': 0.5,
  'objective.beta.start': 0.25,
  'objective.beta.end': 0.75,
  'objective.free_bits.nats': 0.4,
  'objective.rate.target': 1.5,
}


def settings(overrides):
  found = settings_lib.from_dict(points.overridden(BASE, overrides))
  return settings_lib.in_steps(found, 10)


def sweep(*added):
  return points.expand(BASE, lambda add: [add(one) for one in added])


def figures(objective, optimizer_settings):
  """All that the numbers enter, at steps in and after the rise of beta."""
  steps = jnp.arange(0, 60, 7)
  kl = jnp.linspace(0.0, 2.0, 12).reshape(3, 4)
  real = jnp.array([1.0, 1.0, 0.0])
  learning_rate = optimizer.make(
    optimizer_settings, 60, {'kernel': jnp.zeros(2)}
  ).learning_rate
  memory = rate.Multiplier(jnp.array(0.3))
  charge = rate.charge(
    objective.rate, memory, jnp.ones(()), jnp.sum(kl, axis=1), real, None
  )
  return (
    learning_rate(steps),
    jax.vmap(lambda s: schedules.value(objective.beta, s))(steps),
    bounds.charged_kl(kl, real, objective.free_bits, None),
    charge.cost,
    rate.advance(objective.rate, memory, 2.0).value,
  )


def test_traced_numbers_do_what_those_of_the_settings_do():
  assert set(OTHER) == set(vectorize.NUMBERS)
  # Patterns that fit the one parameter here.
  rules = {'optimizer.weight_decay': (('.*', 0.1),)}
  first = settings(rules)
  members = [first, *(settings({**rules, k: v}) for k, v in OTHER.items())]
  values = [vectorize.numbers(member) for member in members]

  @jax.jit
  @jax.vmap
  def together(own):
    return figures(
      vectorize.with_numbers(first.objective, 'objective', own),
      vectorize.with_numbers(first.optimizer, 'optimizer', own),
    )

  stacked = {k: np.float32([v[k] for v in values]) for k in values[0]}
  found = together(stacked)
  before = figures(first.objective, first.optimizer)
  for i, member in enumerate(members):
    wanted = figures(member.objective, member.optimizer)
    for one, other in zip(found, wanted, strict=True):
      np.testing.assert_allclose(one[i], other, rtol=1e-5, atol=1e-9)
    # Every number does something.
    changed = [
      not np.allclose(a, b) for a, b in zip(wanted, before, strict=True)
    ]
    assert any(changed) == bool(i)


def test_points_that_differ_in_more_are_apart():
  seeds = [{'seed': s} for s in range(5)]
  deep = [{'seed': s, 'model.decoder.layers': 3} for s in range(2)]
  dropout = [{'model.decoder.dropout': 0.3}]
  found = vectorize.chunks(sweep(*seeds, *deep, *dropout), 3)
  seeds = [[p.settings.seed for p in chunk] for chunk in found]
  assert seeds == [[0, 1, 2], [3, 4], [0, 1], [0]]
  assert {p.settings.model.decoder.layers for p in found[2]} == {3}
  assert all(len(c) == 1 for c in vectorize.chunks(sweep(*deep), 1))


def test_differences_restore_the_points():
  """Also where a key is given in one point and left alone in another."""
  chunk = sweep({'seed': 1}, {'seed': 1, 'objective.beta.end': 0.5})
  told = json.loads(json.dumps(vectorize.differences(chunk)))
  for point in chunk:
    tree = points.overridden(BASE, chunk[0].overrides)
    tree = points.overridden(tree, told[point.name])
    assert settings_lib.from_dict(tree) == point.settings


@pytest.mark.parametrize(
  'overrides',
  [
    {'training.encoder_updates': 2},
    {'objective.pretraining_steps': 5},
    {'optimizer.stages': ((5, (('.*', 1.0),)),)},
    {'semi_supervised.labels': ('bad', 'good')},
  ],
)
def test_what_needs_other_programs_is_refused(overrides):
  (key,) = overrides
  with pytest.raises(errors.UserError, match=key):
    vectorize.check([settings(overrides)])
  # In a sweep such points are on their own, and others are not.
  if key != 'semi_supervised.labels':
    both = [overrides | {'seed': s} for s in range(2)]
    found = vectorize.chunks(sweep({'seed': 0}, {'seed': 1}, *both), 4)
    assert [len(chunk) for chunk in found] == [2, 1, 1]


def test_runs_that_differ_in_shape_are_refused():
  with pytest.raises(errors.UserError, match='nothing but seed'):
    vectorize.check([settings({}), settings({'model.decoder.layers': 3})])
