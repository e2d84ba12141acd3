"""The grammar: distinct, balanced, in agreement, and the same for ever."""

from collections import Counter
import hashlib
import itertools
import json
import re

import pytest

from lvdecode.text import embedded
from lvdecode.text import topics


@pytest.fixture(name='splits', scope='module')
def _splits():
  return embedded.generate()


@pytest.fixture(name='rows', scope='module')
def _rows(splits):
  return [row for rows in splits.values() for row in rows]


def test_sentences_are_many_and_distinct(splits, rows):
  assert {name: len(part) for name, part in splits.items()} == {
    'train': 51_840,
    'validation': 2_880,
    'test': 2_880,
  }
  # Distinct over all splits: none is in two of them.
  assert len({sentence for sentence, _ in rows}) == len(rows) == 57_600


def test_factors_are_independent_in_every_split(splits):
  cells = 1
  for values in embedded.FACTORS.values():
    cells *= len(values)
  for part in splits.values():
    counts = Counter(tuple(factors.values()) for _, factors in part)
    # Every combination equally often: no factor tells of any other.
    assert len(counts) == cells
    assert len(set(counts.values())) == 1
  for _, factors in splits['test']:
    assert tuple(factors) == tuple(embedded.FACTORS)


def test_sentences_are_tokens_of_a_small_vocabulary(rows):
  vocabulary = Counter(w for sentence, _ in rows for w in sentence.split(' '))
  assert 300 <= len(vocabulary) <= 1500
  assert all(re.fullmatch(r"[a-z]+('s)?|[.,]", word) for word in vocabulary)
  assert 9 <= vocabulary.total() / len(rows) <= 12


def test_length_means_a_number_of_tokens(rows):
  for sentence, factors in rows:
    least, most = embedded.LENGTHS[factors['length']]
    assert least <= len(sentence.split()) <= most


def test_tense_is_told_by_the_verb(rows):
  for sentence, factors in rows:
    assert ('will' in sentence.split()) == (factors['tense'] == 'future')


def test_polarity_is_told_by_a_negation(rows):
  for sentence, factors in rows:
    negated = {'not', 'never'} & set(sentence.split())
    assert bool(negated) == (factors['polarity'] == 'negated')


def test_subject_and_verb_agree(rows):
  singulars = [
    f' {thing} ' for topic in topics.TOPICS.values() for thing in topic.things
  ]
  plurals = [f' {embedded.plural_of(thing.strip())} ' for thing in singulars]
  checked = Counter()
  for sentence, factors in rows:
    if factors['kind'] != 'review':
      continue
    words = sentence.split()
    plural = factors['number'] == 'plural'
    assert any(thing in sentence for thing in plurals) == plural, sentence
    assert any(thing in sentence for thing in singulars) != plural, sentence
    # Not "these": "this cat is calm these days" is singular.
    assert not {'those', 'them'} & set(words) or plural, sentence
    main = words[: words.index(',', 4)] if ',' in words[4:] else words
    wrong = {'is', 'was', 'does', 'has'} if plural else {'are', 'were', 'do'}
    assert not wrong & set(main), sentence
    checked[factors['number']] += 1
  assert checked['singular'] == checked['plural'] > 10_000


def test_praise_and_blame_are_told_by_the_words(rows):
  for sentence, factors in rows:
    if factors['kind'] != 'review' or factors['length'] == 'long':
      continue
    if ',' in sentence.split():
      continue
    good, bad = topics.TOPICS[factors['topic']].adjectives
    words = set(sentence.split())
    if len(words & {*good, *bad}) != 1 or not {'is', 'was', 'be'} & words:
      continue
    praised = bool(words & set(good)) != bool({'not', 'never'} & words)
    assert praised == (factors['sentiment'] == 'positive'), sentence


def test_topic_words_do_not_stray(rows):
  things = {
    thing: name
    for name, topic in topics.TOPICS.items()
    for thing in topic.things
  }
  assert len(things) == sum(len(t.things) for t in topics.TOPICS.values())
  for sentence, factors in rows:
    text = f' {sentence} '
    for thing in itertools.islice(things, 0, None, 7):
      if f' {thing} ' in text and factors['kind'] == 'review':
        assert things[thing] == factors['topic'], sentence


@pytest.mark.parametrize(
  ('verb', 'past', 'third'),
  [
    ('be', 'was', 'is'),
    ('cry', 'cried', 'cries'),
    ('stay', 'stayed', 'stays'),
    ('arrive', 'arrived', 'arrives'),
    ('miss', 'missed', 'misses'),
    ('go', 'went', 'goes'),
    ('clap', 'clapped', 'claps'),
    ('reach', 'reached', 'reaches'),
  ],
)
def test_verbs_inflect(verb, past, third):
  assert embedded._past(verb) == past
  assert embedded._third_person(verb) == third


def test_an_article_fits_the_next_word(rows):
  for sentence, _ in rows:
    for article, word in itertools.pairwise(sentence.split()):
      if article in ('a', 'an'):
        vowel = word[0] in 'aeiou' or word == 'hour'
        assert (article == 'an') == vowel, sentence


def test_the_sentences_are_those_of_the_version(splits):
  content = json.dumps(splits, sort_keys=True).encode()
  digest = hashlib.sha256(content).hexdigest()[:16]
  # Another digest: raise embedded.VERSION, so that prepared sets are made
  # anew, and write both here.
  assert (embedded.VERSION, digest) == ('grammar-1', 'e31815ad85f9ef97')
