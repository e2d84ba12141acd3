"""The small language model: by hand, and its probabilities sum to one."""

import math

import pytest

from lvdecode.evaluation import ngram

KNOWN = frozenset('ab')


def test_the_vocabulary_is_what_occurs_twice():
  known = ngram.vocabulary(['a b a', 'b c', ''])
  assert known == {'a', 'b'}
  assert ngram.unknown_share(['a c', 'd b'], known) == 0.5
  assert ngram.unknown_share([''], known) == 0.0


def test_by_hand():
  """Trained on 'a b' and 'a': D = 3/4, V = {a, b, unknown, end}.

  Unigrams count the words in front: a 1 (begin), b 1 (a), end 2 (b, a); 4 in
  all, of 3 kinds. Bigrams likewise: begin a 1; a b 1; b end 1; a end 1.
  Trigrams occur: begin begin a 2; begin a b 1; a b end 1; begin a end 1.
  """
  model = ngram.Trigrams(['a b', 'a'], KNOWN)
  assert model.size == 4
  # p1(a) = .25/4 + .75 3/4 / 4
  one = {word: 0.25 / 4 + 0.75 * 3 / 4 / 4 for word in 'ab'}
  one['end'] = 1.25 / 4 + 0.75 * 3 / 4 / 4
  two = {word: 0.25 / 2 + 0.75 * 2 / 2 * one[word] for word in ('b', 'end')}
  three = {word: 0.25 / 2 + 0.75 * 2 / 2 * two[word] for word in two}
  a = 1.25 / 2 + 0.75 / 2 * (0.25 + 0.75 * one['a'])
  assert model.probability('b', (ngram.BEGIN, 'a')) == pytest.approx(three['b'])
  assert model.probability('a', (ngram.BEGIN, ngram.BEGIN)) == pytest.approx(a)
  # The history (b, a) was never seen, (a) was.
  assert model.probability('b', ('b', 'a')) == pytest.approx(two['b'])
  # Nor was anything after the unknown word.
  assert model.probability('b', ('a', 'never')) == pytest.approx(one['b'])
  expected = math.exp(-(math.log(a) + math.log(three['end'])) / 2)
  assert model.perplexity(['a']) == pytest.approx(expected)


@pytest.mark.parametrize('texts', [['a b a a', 'b', ''], ['a b'] * 5, ['c']])
@pytest.mark.parametrize(
  'history', [(ngram.BEGIN, ngram.BEGIN), ('a', 'b'), ('b', 'b'), ('c', 'a')]
)
def test_probabilities_sum_to_one(texts, history):
  model = ngram.Trigrams(texts, KNOWN)
  words = ('a', 'b', 'unheard of', ngram.END)
  total = sum(model.probability(word, history) for word in words)
  assert total == pytest.approx(1)


def test_a_model_that_knows_nothing_is_uniform():
  model = ngram.Trigrams([], KNOWN)
  assert model.perplexity(['a b', 'c', '']) == pytest.approx(4)


def test_texts_are_less_surprising_than_their_words_in_another_order():
  texts = ['the soup was fresh', 'the soup was cold', 'the hotel was cold']
  model = ngram.Trigrams(texts, ngram.vocabulary(texts))
  shuffled = ['was the cold hotel', 'soup fresh the was']
  assert model.perplexity(texts) < 4 < model.perplexity(shuffled)
