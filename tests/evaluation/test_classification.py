"""Bayes' rule by hand: labels from likelihoods."""

import dataclasses
import json
import math

import numpy as np
import pytest

from lvdecode import errors
from lvdecode.evaluation import classification
from lvdecode.evaluation import stored
from lvdecode.text import sources


def _judged(**changes):
  chosen = dict(
    nll=np.array([[1.0, 2.0], [3.0, 2.5], [2.0, 2.1], [5.0, 1.0]]),
    label=np.array([0, 1, 1, 1]),
    shares=np.array([0.5, 0.5]),
    names=('bad', 'good'),
    samples=3,
  )
  return classification.judge(**(chosen | changes))


def test_figures_by_hand():
  found = _judged()
  # Taken for bad: the first and the third.
  assert found.accuracy == 0.75
  bad, good = found.labels
  assert (bad.texts, bad.precision, bad.recall) == (1, 0.5, 1.0)
  assert (good.texts, good.precision, good.recall) == (3, 1.0, 2 / 3)
  assert found.macro_f1 == pytest.approx((2 / 3 + 0.8) / 2)
  # -log of a softmax of -nll, at the true label.
  nats = [math.log1p(math.exp(gap)) for gap in (-1.0, -0.5, 0.1, -4.0)]
  assert found.nats == pytest.approx(np.mean(nats))


def test_what_is_rare_needs_more_evidence():
  found = _judged(shares=np.array([0.2, 0.8]))
  assert found.accuracy == 0.75  # now the third is good, and the first too
  assert found.labels[0].recall == 0
  assert found.majority == 0.75
  assert _judged(shares=np.array([0.8, 0.2])).majority == 0.25


def test_a_label_without_texts_is_left_out_of_the_mean():
  found = _judged(
    nll=np.array([[1.0, 2.0, 9.0]]),
    label=np.array([0]),
    shares=np.full(3, 1 / 3),
    names=('a', 'b', 'c'),
  )
  assert found.macro_f1 == 1
  assert math.isnan(found.error)


def test_texts_of_unknown_label_are_left_out():
  texts = sources.Texts(['a', 'bb', 'ccc', ''], ['x', 'y', '', 'z'], {})
  costs = {'x': 1.5, 'y': 2.0}

  def nll(some, label):
    assert some == ['a', 'bb']
    return np.array([abs(len(text) - costs[label]) for text in some])

  found = classification.measure(
    texts, ('x', 'y'), nll=nll, shares=np.full(2, 0.5), samples=1
  )
  assert (found.texts, found.accuracy) == (2, 1)
  with pytest.raises(errors.UserError, match='no text of the split'):
    classification.measure(texts, ('v',), nll=nll, shares=np.ones(1), samples=1)


def test_what_is_stored_is_read_again():
  found = _judged()
  value = json.loads(json.dumps(dataclasses.asdict(found)))
  assert stored.rebuild(classification.Classification, value) == found
  assert len(classification.to_table(found, 'title').rows) == 2
