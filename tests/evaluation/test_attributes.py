"""Attribute vectors in a world where one dimension is the attribute."""

import dataclasses
import io
import json

import numpy as np
import pytest
from rich import console

from lvdecode import errors
from lvdecode.evaluation import attributes
from lvdecode.evaluation import probing

# Of the first dimension: under -1, around 0, above 1.
MOODS = ('bad', 'fair', 'good')


def decode(z):
  """The mood, and a word of the second dimension; far off, no sense."""
  texts = []
  for mood, word in np.asarray(z):
    place = int(np.clip(np.round(mood / 2), -1, 1)) + 1
    sense = f'the w{round(word)} was' if abs(mood) < 5 else 'no sense in'
    texts.append(f'{sense} {MOODS[place]}')
  return texts


def labelled(moods, seed=0):
  rng = np.random.default_rng(seed)
  words = rng.integers(4, size=len(moods))
  mean = np.array(
    [
      [2.0 * MOODS.index(mood) - 2, word]
      for mood, word in zip(moods, words, strict=True)
    ]
  )
  return probing.Labelled(decode(mean), mean, {'mood': list(moods)})


TRAIN = labelled(MOODS * 20)
TEST = labelled(['bad', 'good', 'good', 'fair', 'bad', 'good'], seed=1)


def measured(test=TEST, texts=5, scales=(0.0, 1.0, 4.0)):
  return attributes.measure(
    TRAIN, test, decode=decode, scales=scales, texts=texts
  )


def moves():
  return {(move.target, move.scale): move for move in measured().moves}


def test_texts_of_the_other_values_are_moved():
  found = moves()
  assert len(found) == 9
  for target, count in (('bad', 3), ('fair', 4), ('good', 3)):
    assert found[target, 1.0].texts == count


@pytest.mark.parametrize('target', MOODS)
def test_the_vector_reaches_its_target_and_keeps_the_rest(target):
  move = moves()[target, 1.0]
  assert (move.before, move.after) == (0, 1)
  assert move.kept == 3 / 4  # of four words the mood is changed
  text, plain, moved = move.example
  assert text == plain
  assert moved.split() == [*plain.split()[:-1], target]


def test_no_vector_changes_nothing():
  move = moves()['good', 0.0]
  assert (move.before, move.after, move.kept) == (0, 0, 1)


def test_a_vector_that_is_too_long_keeps_nothing():
  move = moves()['good', 4.0]
  assert move.after == 1
  assert move.kept == 0


def test_the_classifier_is_judged_on_real_texts():
  assert measured().accuracy == {'mood': 1.0}
  wrong = TEST._replace(attributes={'mood': ['bad'] * 6})
  assert measured(wrong).accuracy == {'mood': pytest.approx(2 / 6)}


def test_a_value_that_was_not_learned_is_not_moved():
  strange = TEST._replace(attributes={'mood': ['odd', *'xyz', 'bad', 'bad']})
  found = measured(strange, scales=(1.0,))
  assert [(move.target, move.texts) for move in found.moves] == [
    ('fair', 1),
    ('good', 1),
  ]


def test_one_class_has_nowhere_to_go():
  train = TRAIN._replace(attributes={'mood': ['good'] * 60})
  with pytest.raises(errors.UserError, match='mood of all 60'):
    attributes.measure(train, TEST, decode=decode, scales=(1.0,), texts=5)


def test_the_table_shows_before_and_after():
  file = io.StringIO()
  found = measured()
  console.Console(file=file, width=120).print(attributes.to_table(found, 'x'))
  assert '0.750' in file.getvalue() and '100.0 %' in file.getvalue()
  again = json.loads(json.dumps(dataclasses.asdict(found)))
  assert again['moves'][0]['name'] == 'mood'
