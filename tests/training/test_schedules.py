"""Ends and shape of every schedule."""

import dataclasses

import jax
import numpy as np
import pytest

from lvdecode import errors
from lvdecode.training import schedules

BASE = schedules.ScheduleSettings(
  kind='linear', start=0.2, end=0.7, steps=100, cycles=4, ratio=0.5
)


def curve(settings, last=120):
  value = jax.jit(lambda step: schedules.value(settings, step))
  return np.array([value(step) for step in range(last + 1)])


@pytest.mark.parametrize('kind', schedules.KINDS)
def test_flat_at_the_end_and_within_its_range(kind):
  y = curve(dataclasses.replace(BASE, kind=kind))
  np.testing.assert_array_equal(y[100:], np.float32(0.7))
  assert y.min() >= np.float32(0.2) and y.max() <= np.float32(0.7)
  assert y.dtype == np.float32


def test_constant_is_its_end_from_the_first_step():
  settings = dataclasses.replace(BASE, kind='constant', steps=0)
  np.testing.assert_array_equal(curve(settings), np.float32(0.7))


def test_linear_rises_evenly_from_its_start():
  y = curve(BASE)[:101]
  np.testing.assert_allclose(y, np.linspace(0.2, 0.7, 101), rtol=1e-6)


def test_falling_is_allowed():
  y = curve(dataclasses.replace(BASE, start=1.0, end=0.0))
  assert y[0] == 1.0 and y[50] == 0.5 and y[100] == 0.0


@pytest.mark.parametrize('steps', [100, 97])
def test_cyclical_is_the_formula_of_fu_et_al(steps):
  settings = dataclasses.replace(
    BASE, kind='cyclical', start=0.0, end=1.0, steps=steps
  )
  tau = (np.arange(steps) * 4 % steps) / steps
  expected = np.where(tau <= 0.5, tau / 0.5, 1.0)
  np.testing.assert_allclose(curve(settings)[:steps], expected, atol=1e-6)


def test_cyclical_starts_anew_in_every_cycle():
  y = curve(dataclasses.replace(BASE, kind='cyclical'))
  np.testing.assert_array_equal(y[[0, 25, 50, 75]], np.float32(0.2))
  np.testing.assert_array_equal(y[[13, 24, 99]], np.float32(0.7))


@pytest.mark.parametrize(
  'change, named',
  [
    ({'kind': 'sudden'}, "schedule.kind 'sudden'"),
    ({'steps': 0}, 'schedule.steps 0'),
    ({'kind': 'cyclical', 'cycles': 0}, 'schedule.cycles 0'),
    ({'kind': 'cyclical', 'ratio': 0.0}, 'schedule.ratio 0.0'),
    ({'kind': 'cyclical', 'ratio': 1.5}, 'schedule.ratio 1.5'),
  ],
)
def test_mistakes_are_named(change, named):
  with pytest.raises(errors.UserError, match=named):
    dataclasses.replace(BASE, **change)
