"""Paths and sums of latents in a world where a latent is two counts."""

import dataclasses
import io
import json
import re

import numpy as np
import pytest
from rich import console

from lvdecode import errors
from lvdecode.evaluation import codes


def encode(texts):
  """(number of a, number of b)."""
  return np.array(
    [[text.count('a'), text.count('b')] for text in texts], np.float32
  )


def decode(z):
  counts = np.maximum(np.round(z), 0).astype(int).tolist()
  return [' '.join(['a'] * a + ['b'] * b) for a, b in counts]


def nll(texts):
  """Two nats a word, the end counted, and one more a text."""
  return np.array([2 * (len(text.split()) + 1) + 1 for text in texts], float)


def paths(first, last, steps, decode=decode):
  return codes.interpolate(first, last, encode, decode, nll, steps, shown=1)


def test_an_even_path_has_no_detour_and_no_jump():
  found = paths(['a', 'b'], ['a a a a a', 'b b b b b'], 5)
  assert found.pairs == 2
  assert found.paths == (('a', 'a a', 'a a a', 'a a a a', 'a a a a a'),)
  assert found.edits == (1, 1, 1, 1)
  assert found.end_edits == 4
  assert found.detour == 1
  assert found.largest_jump == 1 / 4
  assert found.nll == (5, 7, 9, 11, 13)
  assert found.nll_per_word == pytest.approx(
    [5 / 2, 7 / 3, 9 / 4, 11 / 5, 13 / 6]
  )


def test_a_jump_and_a_detour_are_seen():
  written = iter([['a', 'a', 'a a a', 'a a a'], ['a', 'x', 'y', 'a b']])
  jump, detour = (
    paths(['a'], ['b'], 4, lambda z: next(written)) for _ in range(2)
  )
  assert (jump.edits, jump.detour, jump.largest_jump) == ((0, 2, 0), 1, 1)
  assert (detour.edits, detour.detour, detour.largest_jump) == ((1, 1, 2), 4, 2)


def test_figures_are_sums_over_pairs_not_means_of_ratios():
  """3 edits of 1 in the first pair, 4 of 4 in the second."""
  written = ['a', 'b', 'c', 'd', '', 'a', 'a a', 'a a a a']
  found = paths(['a', 'a'], ['b', 'b'], 4, lambda z: written)
  assert found.edits == (1, 1, 1.5)
  assert found.detour == 7 / 5
  assert found.largest_jump == (1 + 2) / 5
  # 4 texts of two words, 'd' and five, '' and one; nats are 2 a word and 1.
  assert found.nll_per_word[0] == pytest.approx((5 + 3) / (2 + 1))


def test_a_collapsed_decoder_has_neither():
  found = paths(['a'], ['b'], 3, lambda z: ['x'] * len(z))
  assert (found.detour, found.largest_jump) == (None, None)
  assert json.loads(json.dumps(dataclasses.asdict(found)))['detour'] is None


def test_sums_are_a_minus_b_plus_c():
  triples = [('a a a', 'a', 'a b'), ('b', 'a', 'a a')]
  found = codes.arithmetic(triples, encode, decode)
  assert [each.text for each in found] == ['a a a b', 'a b']
  assert (found[0].a, found[0].b, found[0].c) == triples[0]


def test_word_edits_are_of_words():
  assert codes.word_edits('the soup was fresh', 'the old soup is fresh') == 2
  assert codes.word_edits('', 'a b') == 2


TEXTS = ['a ' * a + 'b ' * b for a in range(4) for b in range(4)]
LABELS = [str(text.count('a')) for text in TEXTS]


def measured(labels=LABELS, texts=TEXTS, **changes):
  chosen = dict(
    encode=encode,
    decode=decode,
    nll=lambda texts, samples: nll(texts) + samples,
    samples=5,
    pairs=3,
    steps=4,
    shown=2,
    seed=0,
  )
  return codes.measure(texts, labels, **{**chosen, **changes})


def test_pairs_are_of_different_texts():
  found = measured(pairs=8, shown=8)
  ends = [text for path in found.interpolation.paths for text in path[::3]]
  assert found.interpolation.pairs == 8
  assert sorted(ends) == sorted(text.strip() for text in TEXTS)
  assert measured(pairs=99).interpolation.pairs == 8


def test_sums_change_a_label():
  for each in measured(shown=20).sums:
    assert each.a.count('a') != each.b.count('a') == each.c.count('a')
    assert each.b != each.c


def test_sums_leave_out_texts_without_a_label():
  labels = ['a', '', 'b', 'a', ''] + [''] * (len(TEXTS) - 5)
  known = {TEXTS[row] for row in (0, 2, 3)}
  for seed in range(9):
    for each in measured(labels, shown=5, seed=seed).sums:
      assert {each.a, each.b, each.c} == known


@pytest.mark.parametrize('labels', [None, ['same'] * len(TEXTS)])
def test_sums_are_of_three_texts_whatever_the_labels(labels):
  for seed in range(5):
    for each in measured(labels, shown=20, seed=seed).sums:
      assert len({each.a, each.b, each.c}) == 3


def test_sums_need_no_second_text_of_a_label():
  labels = [str(row) for row in range(len(TEXTS))]
  assert len(measured(labels, shown=5).sums) == 5


def test_the_seed_decides():
  assert measured() == measured() != measured(seed=1)


@pytest.mark.parametrize(
  'changes, message',
  [
    (dict(texts=['a', 'b'], labels=None), 'the split has 2 texts'),
    (dict(steps=1), 'steps = 1: it must be at least 2'),
    (dict(encode=lambda texts: np.zeros((len(texts), 0))), 'plain language'),
  ],
)
def test_what_cannot_be_measured_is_refused(changes, message):
  with pytest.raises(errors.UserError, match=message):
    measured(**changes)


def test_the_table_shows_figures_paths_and_sums():
  file = io.StringIO()
  console.Console(file=file, width=120).print(codes.to_table(measured(), 'x'))
  for wanted in (
    'path 4/4',
    r'a - b \+ c',
    'K = 5',
    'nats per sequence',
    '3 pairs',
  ):
    assert re.search(wanted, file.getvalue())
