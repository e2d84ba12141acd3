"""Errors of means, where some texts are drawn together."""

import dataclasses
import io
import json
import math

import numpy as np
import pytest
from rich import console
import truth

from lvdecode.evaluation import information
from lvdecode.evaluation import likelihood
from lvdecode.evaluation import split
from lvdecode.evaluation import stored
from lvdecode.evaluation import use

RNG = np.random.default_rng(3)
VALUES = RNG.normal(size=40)
EACH = np.repeat(np.arange(40), 5)
CORPUS = truth.texts(30)
LINEAR = truth.linear()


def test_texts_of_their_own_have_the_common_error():
  common = VALUES.std(ddof=1) / math.sqrt(40)
  assert split.standard_error(VALUES) == pytest.approx(common)
  alone = split.standard_error(VALUES, RNG.permutation(40))
  assert alone == pytest.approx(common)


def test_a_text_that_is_met_five_times_tells_no_more_than_once():
  once, five = split.standard_error(VALUES), np.repeat(VALUES, 5)
  assert split.standard_error(five, EACH) == pytest.approx(once)
  assert split.standard_error(five) < 0.5 * once
  means = split.resampled(VALUES[:, None], None, 50, seed=1)
  whole = split.resampled(five[:, None], EACH, 50, seed=1)
  np.testing.assert_allclose(whole, means)


def test_the_error_is_how_means_of_other_groups_scatter():
  """Groups of several sizes, whose texts share a part of their value."""
  sizes = np.tile([1, 3, 6], 60)
  groups = np.repeat(np.arange(len(sizes)), sizes)
  means, errors = [], []
  for seed in range(300):
    rng = np.random.default_rng((7, seed))
    shared = rng.normal(size=len(sizes))[groups]
    values = shared + rng.normal(size=len(groups))
    means.append(values.mean())
    errors.append(split.standard_error(values, groups))
  assert np.mean(errors) == pytest.approx(np.std(means), rel=0.1)


@pytest.mark.parametrize('groups', [None, np.zeros(1, int)])
def test_one_draw_has_no_error(groups):
  assert math.isnan(split.standard_error(np.ones(1), groups))
  assert math.isnan(split.standard_error(VALUES, np.zeros(40, int)))


@pytest.mark.slow
def test_every_error_that_is_reported_is_of_the_groups():
  # Each text twice, its two draws of z apart.
  groups = np.arange(30) // 2
  alone, together = (
    truth.ask(LINEAR, CORPUS, groups=chosen) for chosen in (None, groups)
  )
  nll = alone.sample.nll.astype(np.float64)
  known = split.standard_error(nll, groups)
  assert known != pytest.approx(split.standard_error(nll), rel=0.01)
  found = [likelihood.measure(each, samples=2) for each in (alone, together)]
  assert found[0].nll == found[1].nll
  for name in ('error', 'fall_error'):
    one, two = (getattr(each.curve[-1], name) for each in found)
    assert one != pytest.approx(two, rel=0.01)
  gaps = [use.measure(each).prior for each in (alone, together)]
  assert gaps[0].gap == gaps[1].gap
  assert gaps[0].error != pytest.approx(gaps[1].error, rel=0.01)
  widths = []
  for each in (alone, together):
    kl = information.measure(each).kl
    widths.append(kl.high - kl.low)
  assert widths[0] != pytest.approx(widths[1], rel=0.01)


@pytest.mark.slow
def test_where_there_is_no_error_none_is_told():
  assert split.with_error(1.25, 0.5, '+.1f') == '+1.2 ± 0.5'
  assert split.with_error(1.25, math.nan) == '1.25'
  alone = truth.ask(LINEAR, truth.texts(1))
  screen = console.Console(file=io.StringIO(), width=160)
  for measure, section in (
    (lambda x: likelihood.measure(x, samples=1), likelihood),
    (information.measure, information),
    (use.measure, use),
  ):
    found = measure(alone)
    screen.print(section.to_table(found, 'one text'))
    again = stored.rebuild(type(found), json.loads(to_json(found)))
    screen.print(section.to_table(again, 'one text'))
  assert 'nan' not in screen.file.getvalue()


def to_json(found):
  text = json.dumps(dataclasses.asdict(found))
  return text.replace('NaN', 'null').replace('Infinity', 'null')


def test_one_text_reaches_the_ceiling_of_what_it_can_tell():
  found = information.measure(truth.ask(LINEAR, truth.texts(1)))
  assert found.saturated and found.most_mutual_information is None


def test_the_first_texts_of_a_split_keep_their_groups():
  asked = truth.ask(LINEAR, CORPUS, groups=np.arange(30) // 5)
  assert asked.few(7).groups.tolist() == [0] * 5 + [1] * 2
