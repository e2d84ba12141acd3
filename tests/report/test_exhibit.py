"""What is shown beside the figures is taken from the texts as they are."""

from unittest import mock

import pytest

from lvdecode import trained
from lvdecode.report import exhibit
from lvdecode.text import sources
from lvdecode.text import tokenizers

DATA = sources.Texts(
  texts=['a b', 'x y', 'b', 'a a a', 'c'],
  labels=['1', '2', '3', '4', '5'],
  factors={'tense': list('vwxyz')},
)


def tokenizer():
  settings = tokenizers.TokenizerSettings(
    kind='word', vocab_size=8, path='', added=()
  )
  return tokenizers.train(settings, ['a b c', 'a b c'])


def marked(spans):
  return ' '.join(
    span.text if span.kept else f'[{span.text}]' for span in spans
  )


def writer(*, conditional):
  """A model that writes what it is given, and the seed."""
  model = mock.create_autospec(trained.Model, instance=True)
  model.latent_size = 0
  model.task = mock.Mock()
  model.task.model.settings.conditional = conditional
  model.tokenizer = tokenizer()
  model.sample.side_effect = lambda n, seed: [f'sample {seed}'] * n
  model.complete.side_effect = lambda given, n, seed: [
    [f'{parts[-1]} {seed}'] * n for parts in given
  ]
  return model


def test_completions_keep_to_what_was_given():
  data = sources.Texts(
    ['a', 'b', 'c'], None, {}, [('<label:good>', 'x'), ('y', 'w'), ('z',)]
  )
  found = exhibit.make(writer(conditional=True), data, seed=7)
  assert not found.samples
  given = {'a': 'good x', 'b': 'y w', 'c': 'z'}
  assert {row.text: row.given for row in found.completions} == given
  for row in found.completions:
    assert row.written == [f'{given[row.text].split()[-1]} 7'] * 3
  found = exhibit.make(writer(conditional=False), data, seed=7)
  assert set(found.samples) == {'sample 7'} and not found.completions


@pytest.mark.parametrize(
  ('original', 'copy', 'shown'),
  [
    ('a b c', 'a b c', ('a b c', 'a b c')),
    ('a b c d', 'a x y d', ('a [b c] d', 'a [x y] d')),
    ('a b', 'a b c', ('a b', 'a b [c]')),
    ('a b', '', ('[a b]', '')),
    ('a b', 'b a', ('a [b]', '[b] a')),
  ],
)
def test_what_differs_is_marked_on_both_sides(original, copy, shown):
  found = exhibit.compare(original, copy)
  assert tuple(map(marked, found)) == shown


def test_a_repeated_word_counts_as_often_as_it_stands():
  found = exhibit.compare(' '.join(['the'] * 300), 'the the')
  kept = [span for span in found.original if span.kept]
  assert sum(len(span.text.split()) for span in kept) == 2


def test_texts_of_unknown_words_are_left_out_with_their_labels():
  found = exhibit.known(DATA, tokenizer(), limit=9, seed=0)
  rows = set(
    zip(found.texts, found.labels, found.factors['tense'], strict=True)
  )
  assert rows == {
    ('a b', '1', 'v'),
    ('b', '3', 'x'),
    ('a a a', '4', 'y'),
    ('c', '5', 'z'),
  }


def test_few_texts_are_drawn_from_all_of_them():
  many = sources.Texts(['a'] * 50 + ['b'] * 50, None, {})
  found = exhibit.known(many, tokenizer(), limit=20, seed=0)
  assert len(found.texts) == 20 and set(found.texts) == {'a', 'b'}


def test_groups_are_label_factors_and_length():
  groups = exhibit.groups(DATA)
  assert list(groups) == ['label', 'tense', 'length']
  up_to, over = 'up to 2 words', 'over 2 words'
  assert groups['length'] == [up_to, up_to, up_to, over, up_to]
  assert list(exhibit.groups(DATA._replace(labels=None))) == ['tense', 'length']
