"""Probes tell what the latents know, beside what guessing would."""

import dataclasses
import functools
import io
import json

import numpy as np
import pytest
from rich import console

from lvdecode import errors
from lvdecode.evaluation import probing
from lvdecode.text import sources

COUNT = 300


@functools.cache
def labelled(seed):
  """`seen` is in the latent and the words, `ring` is no straight line in z."""
  rng = np.random.default_rng(seed)
  seen = rng.integers(3, size=COUNT)
  ring = rng.random(COUNT) < 0.3
  hidden = rng.random(COUNT) < 0.2
  angle = rng.uniform(0, 2 * np.pi, COUNT)
  radius = np.where(ring, 3.0, 0.3)
  mean = np.stack(
    [2.0 * seen, radius * np.cos(angle), radius * np.sin(angle)], axis=1
  )
  noise = 0.1 * rng.normal(size=(COUNT, 3))
  return probing.Labelled(
    texts=[f'it is number{kind} ok' for kind in seen],
    mean=mean + noise,
    attributes={
      name: values.astype(str).tolist()
      for name, values in (('seen', seen), ('ring', ring), ('hidden', hidden))
    },
  )


@functools.cache
def measured():
  found = probing.measure(labelled(0), labelled(1))
  return {probe.name: probe for probe in found.probes}


def test_a_linear_probe_finds_what_is_on_a_line():
  seen = measured()['seen']
  assert (seen.values, seen.linear, seen.words) == (3, 1, 1)
  assert seen.nearest > 0.95
  assert seen.majority < 0.45


def test_neighbours_find_what_is_no_line():
  ring = measured()['ring']
  assert ring.nearest > 0.95
  assert ring.linear == pytest.approx(ring.majority, abs=0.05)
  assert ring.words == pytest.approx(ring.majority, abs=0.05)


def test_what_is_not_there_is_guessed():
  hidden = measured()['hidden']
  share = labelled(1).attributes['hidden'].count('False') / COUNT
  assert hidden.majority == share
  for accuracy in (hidden.linear, hidden.nearest, hidden.words):
    assert accuracy <= share + 0.02


def test_the_majority_is_that_of_the_training_texts():
  train = labelled(0)._replace(attributes={'x': ['a'] * 200 + ['b'] * 100})
  test = labelled(1)._replace(attributes={'x': ['a'] * 60 + ['b'] * 240})
  assert probing.measure(train, test).probes[0].majority == 0.2


def encode(texts):
  return np.array([[float(text)] for text in texts])


def test_labels_and_factors_go_with_their_texts():
  texts = [str(number) for number in range(20)]
  data = sources.Texts(texts, ['l' + text for text in texts], {'f': texts})
  found = probing.label(data, encode, 8, seed=0)
  assert len(found.texts) == 8 and sorted(found.texts) != found.texts
  assert found.mean[:, 0].tolist() == [float(text) for text in found.texts]
  assert found.attributes == {
    'f': found.texts,
    'label': ['l' + text for text in found.texts],
  }
  assert sorted(probing.label(data, encode, 99, seed=0).texts) == sorted(texts)
  assert probing.label(data, encode, 8, seed=1).texts != found.texts


def test_data_without_labels_are_refused_in_one_line():
  data = sources.Texts(['1', '2'], None, {})
  with pytest.raises(errors.UserError, match=r'data\.label_field') as raised:
    probing.label(data, encode, 2, seed=0)
  assert '\n' not in str(raised.value)


def test_a_plain_language_model_is_refused():
  data = sources.Texts(['1', '2'], ['a', 'b'], {})
  with pytest.raises(errors.UserError, match='plain language model'):
    probing.label(data, lambda texts: np.zeros((len(texts), 0)), 2, seed=0)


def test_one_value_cannot_be_told_apart():
  train = labelled(0)._replace(attributes={'mood': ['good'] * COUNT})
  with pytest.raises(errors.UserError, match="mood of all 300 .* is 'good'"):
    probing.measure(train, labelled(1))


def test_words_are_split_at_white_space_alone():
  classifier = probing.word_classifier(
    ["it n't", 'it not', 'it !', 'it ?'] * 5, ['x', 'y', 'x', 'y'] * 5
  )
  assert classifier.predict(["n't", 'not', '!', '?']).tolist() == list('xyxy')


def test_the_table_has_the_majority_beside_every_probe():
  file = io.StringIO()
  found = probing.measure(labelled(0), labelled(1))
  console.Console(file=file, width=120).print(probing.to_table(found, 'x'))
  assert f'{100 * measured()["hidden"].majority:.1f} %' in file.getvalue()
  assert 'accuracy on 300 texts, learned from 300 others' in file.getvalue()
  assert json.loads(json.dumps(dataclasses.asdict(found)))['train_texts'] == 300
