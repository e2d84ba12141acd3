"""How good the texts are that a model writes: reconstructions and samples."""

from collections.abc import Sequence
import dataclasses

import numpy as np
from rapidfuzz import distance
from rich import table as rich_table
import sacrebleu

from lvdecode import errors
from lvdecode.evaluation import ngram

SELF_BLEU_TEXTS = 200  # its cost is their square


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reconstruction:
  """Texts decoded from their own latents; words are split at white space.

  Attributes:
    texts: N, each counted once.
    bleu: BLEU-1 to BLEU-4 of the corpus, in 0..100, not smoothed.
    rouge_l: F1 of the longest common subsequence, mean over texts, in 0..1.
    exact: share of the texts that came back word for word.
    word_accuracy: share of the places of all texts, their ends counted, at
      which the reconstruction has the same word (or ends too).
  """

  texts: int
  bleu: tuple[float, ...]
  rouge_l: float
  exact: float
  word_accuracy: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diversity:
  """How much a set of texts repeats itself; all of it depends on its size.

  Attributes:
    texts: S.
    self_bleu: BLEU-4 of min(S, 200) of them, each against all the others of
      these, in 0..100; 100 where all are one (Zhu et al. 2018).
    distinct_1: different words, of all words (Li et al. 2016).
    distinct_2: different pairs of neighbouring words, of all pairs.
    duplicates: share of the texts that occurred before in the set.
    memorised: share of the texts that are, word for word, a training text; one
      that the model saw cut counts whole, so that it cannot write it.
  """

  texts: int
  self_bleu: float
  distinct_1: float
  distinct_2: float
  duplicates: float
  memorised: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quality:
  """Texts of the model beside real ones; perplexities are of trigram models.

  Both trigram models see equally many texts and have one vocabulary, that of
  all training texts; perplexities are per word, the end of a text counted.

  Attributes:
    reconstruction: greedy, from the posterior mean; None without a latent.
    samples: of texts drawn from the prior.
    real: of texts of the split, as many as there are samples if it has them.
    forward_perplexity: of the samples, for a model of training texts.
    reverse_perplexity: of the split, for a model of the samples.
    real_perplexity: of the split, for the model of training texts: what both
      would be if samples were as good as real texts.
    trained_on: texts that each trigram model was trained on.
    samples_unknown: share of the samples' words outside that vocabulary.
    real_unknown: share of the split's words outside it.
  """

  reconstruction: Reconstruction | None
  samples: Diversity
  real: Diversity
  forward_perplexity: float
  reverse_perplexity: float
  real_perplexity: float
  trained_on: int
  samples_unknown: float
  real_unknown: float


def measure(
  texts: Sequence[str],
  *,
  training: Sequence[str],
  samples: Sequence[str],
  reconstructions: Sequence[str] | None,
  seed: int,
) -> Quality:
  """Compares what a model wrote with real texts.

  Args:
    texts: of the split, as they were before tokenisation.
    training: the texts that the model was trained on.
    samples: texts drawn from the model.
    reconstructions: of `texts`, in their order; None for a plain language
      model.
    seed: of which texts stand for all where fewer are needed.
  """
  rng = np.random.default_rng(seed)
  count = min(len(samples), len(training))
  known = ngram.vocabulary(training)
  of_real = ngram.Trigrams(_some(training, count, rng), known)
  of_samples = ngram.Trigrams(_some(samples, count, rng), known)
  whole = frozenset(map(_spaced, training))
  return Quality(
    reconstruction=(
      None if reconstructions is None else compare(texts, reconstructions)
    ),
    samples=diversity(samples, whole, rng),
    real=diversity(_some(texts, len(samples), rng), whole, rng),
    forward_perplexity=of_real.perplexity(samples),
    reverse_perplexity=of_samples.perplexity(texts),
    real_perplexity=of_real.perplexity(texts),
    trained_on=count,
    samples_unknown=ngram.unknown_share(samples, known),
    real_unknown=ngram.unknown_share(texts, known),
  )


def compare(
  texts: Sequence[str], reconstructions: Sequence[str]
) -> Reconstruction:
  """How much of each text came back; one that the model saw cut counts whole."""
  if len(texts) != len(reconstructions):
    raise errors.UserError(
      f'{len(texts)} texts, {len(reconstructions)} reconstructions: give one '
      'a text, in their order'
    )
  pairs = [
    (text.split(), other.split())
    for text, other in zip(texts, reconstructions, strict=True)
  ]
  equal = sum(
    a == b
    for text, other in pairs
    for a, b in zip([*text, None], [*other, None], strict=False)
  )
  return Reconstruction(
    texts=len(texts),
    bleu=bleu(reconstructions, [texts]),
    rouge_l=float(np.mean([_rouge_l(*pair) for pair in pairs])),
    exact=float(np.mean([text == other for text, other in pairs])),
    word_accuracy=equal / sum(len(text) + 1 for text, _ in pairs),
  )


def diversity(
  texts: Sequence[str], training: frozenset[str], rng: np.random.Generator
) -> Diversity:
  """Repetitions within the texts, and of the training texts."""
  spaced = [_spaced(text) for text in texts]
  words = [text.split() for text in texts]
  few = _some(spaced, SELF_BLEU_TEXTS, rng)
  turns = [few[turn:] + few[:turn] for turn in range(1, len(few))]
  return Diversity(
    texts=len(texts),
    self_bleu=bleu(few, turns)[-1] if turns else 0.0,
    distinct_1=distinct(words, 1),
    distinct_2=distinct(words, 2),
    duplicates=1 - len(set(spaced)) / len(spaced),
    memorised=sum(text in training for text in spaced) / len(spaced),
  )


def bleu(
  texts: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[float, ...]:
  """BLEU-1 to BLEU-4 of a corpus (Papineni et al. 2002), in 0..100.

  Not smoothed; orders of which the texts are too short to have any n-gram are
  left out, so that BLEU of texts with themselves is 100 at every order.

  Args:
    texts: what is judged.
    references: lists of as many texts; a text's references are at its place.
  """
  metric = sacrebleu.BLEU(tokenize='none', force=True)
  score = metric.corpus_score(list(texts), [list(each) for each in references])
  return tuple(
    metric.compute_bleu(
      score.counts,
      score.totals,
      score.sys_len,
      score.ref_len,
      smooth_method='none',
      effective_order=True,
      max_ngram_order=order,
    ).score
    for order in (1, 2, 3, 4)
  )


def rouge_l(text: str, other: str) -> float:
  """F1 of the longest common subsequence of words (Lin 2004), in 0..1."""
  return _rouge_l(text.split(), other.split())


def distinct(texts: list[list[str]], order: int) -> float:
  """Different n-grams, of all of them; 0 where there is none."""
  ngrams = [
    tuple(words[first : first + order])
    for words in texts
    for first in range(len(words) - order + 1)
  ]
  return len(set(ngrams)) / max(1, len(ngrams))


def to_table(quality: Quality, title: str) -> rich_table.Table:
  """The figures as people read them, real texts in a column beside."""
  table = rich_table.Table(title=title)
  table.add_column('figure')
  table.add_column('model', justify='right')
  table.add_column('real texts', justify='right')
  table.add_column('unit')
  again = quality.reconstruction
  if again is not None:
    of = f'{again.texts:,} reconstructions'
    for order, value in enumerate(again.bleu, start=1):
      table.add_row(f'BLEU-{order}', f'{value:.1f}', '', f'0..100, {of}')
    table.add_row('ROUGE-L', f'{again.rouge_l:.3f}', '', f'F1, {of}')
    table.add_row('exact match', _percent(again.exact), '', f'of {of}')
    accuracy = _percent(again.word_accuracy)
    table.add_row('word accuracy', accuracy, '', 'of places, ends counted')
  own, real = quality.samples, quality.real
  of = f'{own.texts:,} samples, {real.texts:,} real texts'
  few = f'0..100, at most {SELF_BLEU_TEXTS} of them'
  table.add_row(
    'self-BLEU-4', f'{own.self_bleu:.1f}', f'{real.self_bleu:.1f}', few
  )
  for name, field, unit in (
    ('distinct-1', 'distinct_1', 'of their words'),
    ('distinct-2', 'distinct_2', 'of their pairs of words'),
    ('duplicates', 'duplicates', f'of {of}'),
    ('training texts', 'memorised', f'of {of}'),
  ):
    values = [_percent(getattr(side, field)) for side in (own, real)]
    table.add_row(name, *values, unit)
  yardstick = f'{quality.real_perplexity:.1f}'
  unit = f'per word, trigrams of {quality.trained_on:,} texts'
  for name, value in (
    ('forward perplexity', quality.forward_perplexity),
    ('reverse perplexity', quality.reverse_perplexity),
  ):
    table.add_row(name, f'{value:.1f}', yardstick, unit)
  table.add_row(
    'unknown to the trigrams',
    _percent(quality.samples_unknown),
    _percent(quality.real_unknown),
    'of words',
  )
  return table


def _rouge_l(text: list[str], other: list[str]) -> float:
  if not text and not other:
    return 1.0
  common = distance.LCSseq.similarity(text, other)
  return 2 * common / (len(text) + len(other))


def _some(
  texts: Sequence[str], count: int, rng: np.random.Generator
) -> list[str]:
  """So many of the texts, each once, or all of them."""
  if count >= len(texts):
    return list(texts)
  return [texts[row] for row in rng.choice(len(texts), count, replace=False)]


def _spaced(text: str) -> str:
  """The text with one blank between words, as a tokenizer would give it."""
  return ' '.join(text.split())


def _percent(share: float) -> str:
  return f'{100 * share:.1f} %'
