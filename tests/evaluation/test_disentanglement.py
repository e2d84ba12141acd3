"""Disentanglement: high where it is by construction, at chance on noise."""

import dataclasses
import functools
import io
import json
import math

import numpy as np
import pytest
from rich import console

from lvdecode import errors
from lvdecode.evaluation import disentanglement

SIZES = {'a': 2, 'b': 3, 'c': 5, 'd': 2}
N, F, Z = 1_200, len(SIZES), 7
FIELDS = tuple(
  field.name for field in dataclasses.fields(disentanglement.Scores)
)


def values():
  """[N, F]: independent factors."""
  rng = np.random.default_rng(0)
  return np.stack([rng.integers(k, size=N) for k in SIZES.values()], axis=1)


def code(kind):
  """[N, Z], of which the first F dimensions may know something."""
  rng = np.random.default_rng(1)
  noise = rng.normal(size=(N, Z))
  scaled = values() - values().mean(axis=0)
  scaled = scaled / scaled.std(axis=0) + 0.02 * rng.normal(size=(N, F))
  if kind == 'rotated':
    # Every dimension has an equal part of every factor.
    two = np.array([[1, 1], [1, -1]]) / np.sqrt(2)
    scaled = scaled @ np.kron(two, two)
  if kind == 'noise':
    return noise
  if kind == 'collapsed':
    return 1e-3 * noise
  tail = noise[:, F:] * (1e-3 if kind == 'dead' else 1)
  return np.concatenate([scaled, tail], axis=1)


@functools.cache
def measured(kind):
  factors = {
    name: [f'{name}{value}' for value in column]
    for name, column in zip(SIZES, values().T, strict=True)
  }
  return disentanglement.measure(code(kind), factors, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['perfect', 'dead'])
def test_a_perfect_code_has_the_best_scores(kind):
  scores, best = measured(kind).scores, measured(kind).best_sap
  assert best == pytest.approx(np.mean([1 / 2, 2 / 3, 4 / 5, 1 / 2]))
  # What is known of a factor by chance: some hundredths of a nat.
  assert scores.mig == pytest.approx(1, abs=0.03)
  assert scores.sap == pytest.approx(best, abs=0.03)
  for field in FIELDS:
    if field not in ('mig', 'sap'):
      assert getattr(scores, field) == pytest.approx(1, abs=0.01), field


@pytest.mark.slow
@pytest.mark.parametrize('field', FIELDS)
def test_a_rotated_code_knows_as_much_and_scores_lower(field):
  perfect = getattr(measured('dead').scores, field)
  rotated = getattr(measured('rotated').scores, field)
  # Rotation takes nothing away: all dimensions together still tell.
  least = 0.0 if field == 'informativeness' else 0.4
  assert rotated <= perfect - least
  assert measured('rotated').scores.informativeness > 0.9


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['noise', 'collapsed'])
def test_noise_is_at_chance(kind):
  scores = measured(kind).scores
  for field in ('mig', 'disentanglement', 'completeness', 'sap'):
    assert getattr(scores, field) == pytest.approx(0, abs=0.04), field
  guess = np.mean([1 / size for size in SIZES.values()])
  assert scores.informativeness == pytest.approx(guess, abs=0.05)
  assert scores.z_diff == pytest.approx(1 / F, abs=0.06)
  assert scores.z_min_var == pytest.approx(1 / F, abs=0.06)


@pytest.mark.slow
def test_chance_is_what_a_code_of_other_texts_scores():
  chance = measured('perfect').chance
  noise = measured('noise').scores
  for field in FIELDS:
    low = getattr(noise, field)
    assert getattr(chance, field) == pytest.approx(low, abs=0.06), field


def test_dead_dimensions_are_counted_and_say_nothing():
  assert measured('perfect').active_units == Z
  assert measured('dead').active_units == F
  assert measured('collapsed').active_units == 0
  factors = dict(zip(SIZES, values().T.astype(str).tolist(), strict=True))
  # All of them know everything, too quietly to be told to a decoder.
  found = disentanglement.measure(1e-3 * code('perfect'), factors, seed=0)
  assert found.scores == measured('collapsed').scores


def test_the_gap_of_mutual_information_by_hand():
  """A dimension that knows the factor, one that knows it for half the texts."""
  value = np.array([0, 0, 1, 1] * 5)[:, None]
  first = value[:, 0]
  # 2 is either; 0 and 1 are sure. Then I = H / 2 = ln(2) / 2.
  second = np.where(np.arange(20) % 2, 2, first)
  codes = np.stack([first, second, np.zeros(20)], axis=1).astype(float)
  gap = disentanglement.mutual_information_gap(codes, value)
  assert gap == pytest.approx(1 / 2)
  alone = disentanglement.mutual_information_gap(codes[:, 1:2], value)
  assert alone == pytest.approx(1 / 2)
  twice = disentanglement.mutual_information_gap(codes[:, [0, 0]], value)
  assert twice == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
  'importance, expected',
  [
    (np.eye(3), 1),
    (np.ones((3, 3)), 0),
    (np.array([[1.0, 0, 0], [0, 0, 0]]), 1),  # a dead row has no weight
    # Rows of weight 3 and 1; the second is spread over two of three columns.
    (
      np.array([[3, 0, 0], [0, 0.5, 0.5]]),
      3 / 4 + 1 / 4 * (1 - math.log(2) / math.log(3)),
    ),
    (np.zeros((2, 2)), 0),
    (np.ones((3, 1)), 1),  # one column: nothing to be spread over
  ],
)
def test_entropies_of_importances_by_hand(importance, expected):
  found = disentanglement.disentanglement(importance.astype(float))
  assert found == pytest.approx(expected)


def test_predictability_by_hand():
  """Thresholds: one knows 3 values of 3, the other one value from the rest."""
  value = np.arange(60)[:, None] % 3
  codes = np.concatenate([5.0 - value, value == 1], axis=1)
  train = np.arange(60) < 30
  gap = disentanglement.attribute_predictability(codes, value, train)
  # The second is right on value 1 and on one of the two others.
  assert gap == pytest.approx(1 - 2 / 3)
  # Alone it is compared with guessing.
  alone = disentanglement.attribute_predictability(codes[:, :1], value, train)
  assert alone == pytest.approx(1 - 1 / 3)


def test_predictability_counts_every_value_alike():
  """1 of 3 of the common value and all of the rare one, by a threshold."""
  value = np.repeat([0, 0, 1], [10, 20, 5])
  column = np.repeat([0.0, 1.0], [10, 25])
  value, column = np.tile(value, 2)[:, None], np.tile(column, 2)[:, None]
  train = np.arange(70) < 35
  gap = disentanglement.attribute_predictability(column, value, train)
  assert gap == pytest.approx((1 / 3 + 1) / 2 - 1 / 2)


def test_two_dimensions_for_a_factor_are_disentangled_and_not_complete():
  few = values()[:600, :3]
  spread = np.repeat(few, 2, axis=1).astype(float)
  scores = disentanglement.score(spread, few, 0)
  assert scores.disentanglement == pytest.approx(1, abs=0.01)
  assert scores.completeness < 0.8
  assert scores.mig < 0.01


def test_two_factors_in_a_dimension_are_complete_and_not_disentangled():
  few = values()[:600, [0, 3, 1]]
  both = 2.0 * few[:, 0] + few[:, 1]
  scores = disentanglement.score(np.stack([both, few[:, 2]], axis=1), few, 0)
  assert scores.completeness == pytest.approx(1, abs=0.01)
  assert scores.disentanglement < 0.8
  assert scores.informativeness > 0.99


@pytest.mark.slow
def test_the_seed_decides():
  one = disentanglement.score(code('noise')[:300], values()[:300], 0)
  assert one == disentanglement.score(code('noise')[:300], values()[:300], 0)
  assert one != disentanglement.score(code('noise')[:300], values()[:300], 1)


@pytest.mark.parametrize(
  'factors, size, message',
  [
    ({}, 2, 'data have 0 known factors'),
    ({'a': list('abab')}, 2, 'data have 1 known factors'),
    ({'a': list('abab'), 'b': list('aabb')}, 0, 'plain language model'),
    ({'a': list('abab'), 'b': list('aaaa')}, 2, "'b' has one value only"),
  ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(factors, size, message):
  mean = np.random.default_rng(0).normal(size=(4, size))
  with pytest.raises(errors.UserError, match=message) as raised:
    disentanglement.measure(mean, factors, seed=0)
  assert '\n' not in str(raised.value)


def test_the_table_has_chance_and_best_beside_every_score():
  file = io.StringIO()
  found = measured('dead')
  table = disentanglement.to_table(found, 'title')
  console.Console(file=file, width=100).print(table)
  assert file.getvalue().count('1.000') >= len(FIELDS)
  assert f'{F} of {Z} dimensions active' in file.getvalue()
  assert f'{found.chance.z_diff:.3f}' in file.getvalue()
  again = json.loads(json.dumps(dataclasses.asdict(found)))
  assert again['scores']['mig'] == found.scores.mig
