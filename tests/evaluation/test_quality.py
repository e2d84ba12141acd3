"""Text quality: known answers, worked out by hand."""

import dataclasses
import io
import json
import math

import numpy as np
import pytest
from rich import console

from lvdecode import errors
from lvdecode.evaluation import ngram
from lvdecode.evaluation import quality

TEXTS = ['the soup was very fresh .', 'we left .', 'so', 'a b c d e f g']


def rng():
  return np.random.default_rng(0)


@pytest.mark.parametrize('texts', [TEXTS, ['two words'], ['one', 'one']])
def test_texts_reconstruct_themselves(texts):
  same = quality.compare(texts, texts)
  assert same.bleu == pytest.approx((100, 100, 100, 100))
  assert (same.rouge_l, same.exact, same.word_accuracy) == (1, 1, 1)


def test_bleu_by_hand():
  """5 of 6 words, 2 of 4 pairs, 1 of 2 triples; 6 words for 8."""
  texts = ['a b c d e', 'x y z']
  written = ['a b c z', 'y x']
  one, two, three, four = quality.bleu(written, [texts])
  penalty = 100 * math.exp(1 - 8 / 6)
  assert one == pytest.approx(penalty * 5 / 6)
  assert two == pytest.approx(penalty * math.sqrt(5 / 6 * 2 / 4))
  assert three == pytest.approx(penalty * (5 / 6 * 2 / 4 * 1 / 2) ** (1 / 3))
  assert four == 0


def test_bleu_keeps_words_and_case_as_they_are():
  assert quality.bleu(["it 's ."], [["it's."]])[0] == 0
  assert quality.bleu(['A'], [['a']])[0] == 0


def test_rouge_by_hand():
  # The longest common subsequence of both is 'the was fresh'.
  value = quality.rouge_l('the soup was fresh', 'the fish it was fresh')
  assert value == pytest.approx(2 * 3 / (4 + 5))
  assert quality.rouge_l('', '') == 1
  assert quality.rouge_l('a', '') == 0
  assert quality.rouge_l('a b', 'b a') == 0.5


@pytest.mark.parametrize(
  'written, accuracy',
  [
    ('a b c', 1.0),
    ('a x c', 3 / 4),
    ('a b', 2 / 4),  # its end is where c should be
    ('a b c d', 3 / 4),  # and here d where the end should be
    ('b c', 0.0),
    ('', 0.0),
  ],
)
def test_word_accuracy_counts_places_and_the_end(written, accuracy):
  assert quality.compare(['a b c'], [written]).word_accuracy == accuracy


def test_white_space_does_not_matter():
  assert quality.compare(['a  b '], ['a b']).exact == 1
  repeated = quality.diversity(['a  b', 'a b'], frozenset(['a b']), rng())
  assert (repeated.duplicates, repeated.memorised) == (0.5, 1)


def test_a_reconstruction_must_be_given_for_each_text():
  with pytest.raises(errors.UserError, match='4 texts, 1 reconstructions'):
    quality.compare(TEXTS, ['a'])


def test_diversity_by_hand():
  texts = ['a b', 'a b', 'a c', 'd']
  found = quality.diversity(texts, frozenset(['d', 'e']), rng())
  assert found.texts == 4
  assert found.distinct_1 == 4 / 7
  assert found.distinct_2 == 2 / 3
  assert found.duplicates == 1 / 4
  assert found.memorised == 1 / 4


def test_self_bleu_is_100_for_one_text_and_0_for_strangers():
  assert quality.diversity(
    ['a b c d e'] * 3, frozenset(), rng()
  ).self_bleu == pytest.approx(100)
  strangers = ['a b c d', 'e f g h', 'i j k l']
  assert quality.diversity(strangers, frozenset(), rng()).self_bleu == 0
  assert quality.diversity(['a b c d'], frozenset(), rng()).self_bleu == 0


def test_no_text_is_its_own_reference():
  texts = ['a b c d e', 'a b c d f', 'a b c d g']
  found = quality.diversity(texts, frozenset(), rng())
  # Words, pairs, triples and fours that one of the two others has.
  shares = (12 / 15) * (9 / 12) * (6 / 9) * (3 / 6)
  assert found.self_bleu == pytest.approx(100 * shares ** (1 / 4))


def measured(**changes):
  training = ['the soup was fresh .', 'the soup was cold .'] * 10
  chosen = dict(
    training=training,
    samples=training[:8],
    reconstructions=TEXTS,
    seed=0,
  )
  return quality.measure(TEXTS, **{**chosen, **changes})


def test_the_perplexities_are_of_the_right_models():
  training, samples = ['a b', 'a b', 'c d', 'c d'], ['a b', 'a a', 'c', 'd d']
  known = ngram.vocabulary(training)
  found = measured(training=training, samples=samples)
  real = ngram.Trigrams(training, known)
  of_samples = ngram.Trigrams(samples, known)
  assert found.trained_on == 4
  assert found.forward_perplexity == pytest.approx(real.perplexity(samples))
  assert found.real_perplexity == pytest.approx(real.perplexity(TEXTS))
  assert found.reverse_perplexity == pytest.approx(of_samples.perplexity(TEXTS))
  assert found.samples_unknown == 0
  assert found.real_unknown == pytest.approx(13 / 17)  # all but 'a b c d'


def test_samples_that_repeat_one_text_are_fluent_and_do_not_cover():
  """Forward perplexity alone is fooled; the reverse one is not."""
  real = [f'the {noun} was {how} .' for noun in 'aabcdefg' for how in 'xyzw']

  def of(samples):
    return quality.measure(
      real, training=real, samples=samples, reconstructions=None, seed=0
    )

  collapsed, whole = of(['the a was x .'] * 32), of(real)
  assert collapsed.forward_perplexity < whole.forward_perplexity
  assert collapsed.reverse_perplexity > 2 * whole.reverse_perplexity
  assert collapsed.samples.duplicates == 31 / 32
  assert collapsed.samples.self_bleu == pytest.approx(100)


def test_the_vocabulary_is_that_of_all_training_texts():
  found = measured(training=TEXTS * 2, samples=['so', 'x'])
  assert found.trained_on == 2
  assert (found.real_unknown, found.samples_unknown) == (0, 0.5)


def test_both_trigram_models_see_equally_many_texts():
  assert measured(samples=['a'] * 3).trained_on == 3
  assert measured(samples=['a'] * 30).trained_on == 20


def test_the_same_seed_gives_the_same_figures():
  training = [f'{number} x {number % 3}' for number in range(30)]
  first, again, other = (
    measured(training=training, seed=seed) for seed in (0, 0, 1)
  )
  assert first == again != other


def test_a_model_that_says_nothing_is_measured_too():
  found = measured(samples=[''] * 3, reconstructions=[''] * len(TEXTS))
  assert found.samples.self_bleu == found.samples.distinct_1 == 0
  assert found.reconstruction.bleu == (0, 0, 0, 0)
  assert found.samples_unknown == 0
  assert math.isfinite(found.forward_perplexity + found.reverse_perplexity)


def test_a_plain_language_model_has_no_reconstructions():
  found = measured(reconstructions=None)
  assert found.reconstruction is None
  assert 'BLEU-1' not in shown(found)


def test_the_table_shows_figures_with_their_denominators():
  text = shown(measured())
  for wanted in ('4 reconstructions', '8 samples', '4 real texts', 'BLEU-4'):
    assert wanted in text
  again = json.loads(json.dumps(dataclasses.asdict(measured())))
  assert again['reconstruction']['bleu'] == pytest.approx([100] * 4)


def shown(found):
  file = io.StringIO()
  table = quality.to_table(found, 'title')
  console.Console(file=file, width=120).print(table)
  return file.getvalue()
