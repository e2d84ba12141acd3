"""Figures of completions, against examples counted by hand."""

import dataclasses
import json
import math

import pytest

from lvdecode import errors
from lvdecode.evaluation import completion
from lvdecode.evaluation import stored

_TEXTS = ['Tom ate a red apple.', 'He was glad.']


def test_texts_that_are_those_of_the_data():
  found = completion.measure(_TEXTS, {'greedy': _TEXTS})
  assert found.written['greedy'] == found.real
  assert found.real.bleu == pytest.approx((100,) * 4)
  # Tom ate a red apple . / He was glad . : the full stop twice.
  assert found.real.words == 10
  assert found.real.distinct_1 == pytest.approx(100 * 9 / 10)
  assert found.real.distinct_2 == pytest.approx(100 * 8 / 8)
  assert found.texts == 2


def test_counts_by_hand():
  written = ['Tom ate a red pear.', 'He was glad.']
  found = completion.measure(_TEXTS, {'drawn': written}).written['drawn']
  # n-grams in common: of words 9 of 10, pairs 6 of 8, triples 4 of 6 and
  # quadruples 2 of 4; the lengths are equal, so that nothing is taken off.
  precisions = (9 / 10, 6 / 8, 4 / 6, 2 / 4)
  for order in range(1, 5):
    expected = 100 * math.prod(precisions[:order]) ** (1 / order)
    assert found.bleu[order - 1] == pytest.approx(expected)


def test_repetition_lowers_the_shares():
  same = completion.measure(_TEXTS, {'x': ['He was. He was.'] * 2})
  # he was . he was . , twice: 3 words of 12; "he was", "was .", ". he" of 10.
  assert same.written['x'].distinct_1 == pytest.approx(100 * 3 / 12)
  assert same.written['x'].distinct_2 == pytest.approx(100 * 3 / 10)


def test_there_must_be_a_completion_for_each_text():
  with pytest.raises(errors.UserError, match='2 texts, 1 completions'):
    completion.measure(_TEXTS, {'x': ['one']})


def test_nothing_written_is_nothing():
  found = completion.measure(_TEXTS, {'x': ['', '']}).written['x']
  assert (found.words, found.distinct_1, found.bleu[0]) == (0, 0, 0)


def test_what_is_stored_is_read_again():
  found = completion.measure(_TEXTS, {'x': _TEXTS, 'y': ['a', 'b']})
  value = json.loads(json.dumps(dataclasses.asdict(found)))
  assert stored.rebuild(completion.Completion, value) == found
  assert len(completion.to_table(found, 'title').rows) == 7
