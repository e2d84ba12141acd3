"""Ends and shape of every schedule, and how long each lasts."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lvdecode import errors
from lvdecode.training import schedules

BASE = schedules.ScheduleSettings(
  kind='linear',
  start=0.2,
  end=0.7,
  duration='100 steps',
  shape='linear',
  cycles=4,
  wait=0.25,
  ratio=0.5,
)
RISES = ('linear', 'sigmoid', 'cosine')


def make(kind, **changes):
  return dataclasses.replace(BASE, kind=kind, **changes)


def unit(kind, **changes):
  """From 0 to 1, so that a value is the part of the change that is done."""
  return make(kind, start=0.0, end=1.0, **changes)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _curve(settings, last):
  return jax.vmap(lambda step: schedules.value(settings, step))(
    jnp.arange(last + 1)
  )


def curve(settings, last=120):
  return np.array(_curve(settings, last))


@pytest.mark.parametrize('kind', schedules.KINDS)
def test_flat_at_the_end_and_within_its_range(kind):
  y = curve(make(kind))
  np.testing.assert_array_equal(y[100:], np.float32(0.7))
  assert y.min() >= np.float32(0.2) and y.max() <= np.float32(0.7)
  assert y.dtype == np.float32


@pytest.mark.parametrize(
  'kind', [k for k in schedules.KINDS if k != 'constant']
)
def test_starts_at_its_start_and_stays_within_the_run_below_the_end(kind):
  y = curve(make(kind))
  assert y[0] == np.float32(0.2)
  assert (y[:100] < 0.7).any()


def test_constant_is_its_end_from_the_first_step():
  np.testing.assert_array_equal(curve(make('constant')), np.float32(0.7))


def test_linear_rises_evenly_from_its_start():
  y = curve(BASE)[:101]
  np.testing.assert_allclose(y, np.linspace(0.2, 0.7, 101), rtol=1e-6)


def test_falling_is_allowed():
  y = curve(make('linear', start=1.0, end=0.0))
  assert y[0] == 1.0 and y[50] == 0.5 and y[100] == 0.0


@pytest.mark.parametrize('kind', RISES)
def test_rises_are_monotone_and_symmetric(kind):
  y = curve(unit(kind), 100)
  assert (np.diff(y) > 0).all()
  np.testing.assert_allclose(y + y[::-1], 1.0, atol=1e-6)


def test_sigmoid_is_a_logistic_function_of_the_step():
  y = curve(unit('sigmoid'), 100)[1:-1].astype(np.float64)
  logistic = 1 / (1 + np.exp(-12 * (np.arange(1, 100) / 100 - 0.5)))
  # Stretched by half a percent, so that it ends at 0 and 1.
  np.testing.assert_allclose(y, logistic, atol=0.0026)
  assert y[24] < 0.05 and y[74] > 0.95  # far from a line


def test_cosine_is_half_a_wave():
  y = curve(unit('cosine'), 100)
  wave = (1 - np.cos(np.pi * np.arange(101) / 100)) / 2
  np.testing.assert_allclose(y, wave, atol=1e-6)


@pytest.mark.parametrize('steps', [100, 97])
def test_cyclical_is_the_formula_of_fu_et_al(steps):
  settings = unit('cyclical', duration=f'{steps} steps')
  tau = (np.arange(steps) * 4 % steps) / steps
  expected = np.where(tau <= 0.5, tau / 0.5, 1.0)
  np.testing.assert_allclose(curve(settings)[:steps], expected, atol=1e-6)


def test_cyclical_starts_anew_in_every_cycle():
  y = curve(make('cyclical'))
  np.testing.assert_array_equal(y[[0, 25, 50, 75]], np.float32(0.2))
  np.testing.assert_array_equal(y[[13, 24, 99]], np.float32(0.7))


@pytest.mark.parametrize('shape', RISES)
def test_a_cycle_rises_in_the_shape_it_is_told(shape):
  cycles = curve(unit('cyclical', shape=shape, cycles=2, ratio=0.8))
  whole = curve(unit(shape, duration='40 steps'))[:40]
  for begin in (0, 50):
    np.testing.assert_allclose(cycles[begin:][:40], whole, atol=1e-6)
    np.testing.assert_allclose(cycles[begin + 40 :][:10], 1.0, atol=1e-6)


@pytest.mark.parametrize('shape', RISES)
def test_zero_then_ramp_is_half_a_quarter_and_a_quarter(shape):
  y = curve(unit('zero_then_ramp', shape=shape), 100)
  np.testing.assert_array_equal(y[:51], 0.0)
  ramp = curve(unit(shape, duration='25 steps'))[:26]
  np.testing.assert_allclose(y[50:76], ramp, atol=1e-6)
  np.testing.assert_array_equal(y[75:], 1.0)


def test_ramp_hold_reset_waits_rises_holds_and_starts_anew():
  settings = unit('ramp_hold_reset', cycles=2, wait=0.2, ratio=0.5)
  y = curve(settings, 99)
  one = np.clip((np.arange(50) - 10) / 25, 0.0, 1.0)
  np.testing.assert_allclose(y, np.tile(one, 2), atol=1e-6)
  np.testing.assert_array_equal(y[50:61], 0.0)
  np.testing.assert_array_equal(y[85:], 1.0)


@pytest.mark.slow
@pytest.mark.parametrize('kind', schedules.KINDS)
def test_many_schedules_run_as_one(kind):
  ends, starts = jnp.asarray([0.0, 0.5, 2.0]), jnp.asarray([0.0, 1.0, 0.1])

  def at(start, end, step):
    return schedules.value(make(kind, start=start, end=end), step)

  steps = jnp.asarray([0, 30, 60, 100])
  many = jax.jit(jax.vmap(jax.vmap(at, (None, None, 0)), (0, 0, None)))(
    starts, ends, steps
  )
  for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
    y = curve(make(kind, start=float(start), end=float(end)))
    np.testing.assert_allclose(many[row], y[np.asarray(steps)], rtol=1e-6)


@pytest.mark.parametrize(
  ('text', 'steps'),
  [
    ('2500 steps', 2500),
    ('1 step', 1),
    ('3 epochs', 150),
    ('0.5 epochs', 25),
    ('1 epoch', 50),
    ('60 %', 2400),
    ('12.5%', 500),
    ('0.001 %', 1),
  ],
)
def test_durations_in_steps(text, steps):
  assert schedules.parse_duration('a', text).steps(4000, 50) == steps
  resolved = schedules.resolve('a', make('cosine', duration=text), 4000, 50)
  assert resolved == make('cosine', duration=f'{steps} steps')


@pytest.mark.parametrize(
  'text', ['', '60', 'steps', '60 percent', '-3 steps', '0 %', '1e3 steps']
)
def test_durations_that_are_none_are_refused(text):
  with pytest.raises(errors.UserError, match='a.duration = .*number above 0'):
    schedules.parse_duration('a.duration', text)


def test_half_a_step_is_refused():
  with pytest.raises(errors.UserError, match="'2.5 steps': steps are whole"):
    schedules.parse_duration('a.duration', '2.5 steps')


@pytest.mark.parametrize(
  ('text', 'steps'),
  [('4001 steps', 4001), ('81 epochs', 4050), ('101 %', 4040)],
)
def test_a_schedule_longer_than_the_run_is_refused(text, steps):
  with pytest.raises(errors.UserError) as caught:
    schedules.resolve('b', make('cosine', duration=text), 4000, 50)
  for part in (f"b.duration = '{text}' is {steps} steps", 'steps = 4000'):
    assert part in str(caught.value)
  schedules.resolve('b', make('constant', duration=text), 4000, 50)


def test_what_is_not_resolved_has_no_value():
  with pytest.raises(ValueError, match='not resolved'):
    schedules.value(make('linear', duration='60 %'), 0)


@pytest.mark.parametrize(
  ('change', 'named'),
  [
    ({'kind': 'sudden'}, "schedule.kind = 'sudden'"),
    ({'shape': 'round'}, "schedule.shape = 'round'"),
    ({'duration': 'long'}, "schedule.duration = 'long'"),
    ({'kind': 'cyclical', 'cycles': 0}, 'schedule.cycles = 0'),
    ({'kind': 'cyclical', 'ratio': 0.0}, 'schedule.ratio = 0.0'),
    ({'kind': 'cyclical', 'ratio': 1.5}, 'schedule.ratio = 1.5'),
    ({'kind': 'ramp_hold_reset', 'wait': -0.1}, 'schedule.wait = -0.1'),
    ({'kind': 'ramp_hold_reset', 'wait': 0.6}, 'more than a cycle'),
  ],
)
def test_mistakes_are_named(change, named):
  with pytest.raises(errors.UserError, match=named):
    dataclasses.replace(BASE, **change)
