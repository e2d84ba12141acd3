"""A small language model: word trigrams, interpolated Kneser-Ney."""

from collections import Counter
from collections.abc import Sequence
import math

# Taken off every count. Estimates from counts of counts do not exist for
# samples that repeat themselves, so it is a constant.
DISCOUNT = 0.75
# With a blank inside, so that no word of a text can be one of them.
BEGIN, END, _UNKNOWN = 'the begin', 'the end', 'the unknown'
_ORDER = 3
_LEAST = 2  # times that a word occurs, or it is unknown


def vocabulary(texts: Sequence[str]) -> frozenset[str]:
  """The words that occur at least twice: the others are what unknown means."""
  counts = Counter(word for text in texts for word in text.split())
  return frozenset(word for word, count in counts.items() if count >= _LEAST)


def unknown_share(texts: Sequence[str], known: frozenset[str]) -> float:
  """Words that are not known, of all words; 0 where there is none."""
  words = [word for text in texts for word in text.split()]
  return sum(word not in known for word in words) / max(1, len(words))


class Trigrams:
  """p(word | the two before it), with an end to every text.

  Interpolated Kneser-Ney with one discount D (Chen & Goodman 1999, section
  2.7), at every order n

    p_n(w | h) = max(c(h w) - D, 0) / c(h) + D t(h) / c(h) p_{n-1}(w | h'),

  where h' is h without its first word, t(h) the number of different words
  after h, and c counts occurrences at the highest order, and below it the
  different words in front. Below the unigrams all words are equal. A history
  that was never seen leaves the shorter one's estimate as it is.

  Attributes:
    size: V, the known words, the unknown one and the end of a text.
  """

  def __init__(self, texts: Sequence[str], known: frozenset[str]):
    self._known = known
    self.size = len(known) + 2
    counts = Counter(
      tuple(words[last - _ORDER : last])
      for words in map(self._padded, texts)
      for last in range(_ORDER, len(words) + 1)
    )
    self._orders: list[tuple[Counter, Counter, Counter]] = []  # n = 1, 2, 3
    for _ in range(_ORDER):
      totals, kinds = Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
      for ngram, count in counts.items():
        totals[ngram[:-1]] += count
        kinds[ngram[:-1]] += 1
      self._orders.insert(0, (counts, totals, kinds))
      counts = Counter(ngram[1:] for ngram in counts)

  def probability(self, word: str, history: tuple[str, str]) -> float:
    """p(word | history); words that are not known share one probability."""
    return self._probability((*map(self._shown, history), self._shown(word)))

  def perplexity(self, texts: Sequence[str]) -> float:
    """exp of the mean -log p of a word; the end of a text is a word."""
    nats, words = 0.0, 0
    for padded in map(self._padded, texts):
      for last in range(_ORDER, len(padded) + 1):
        ngram = tuple(padded[last - _ORDER : last])
        nats -= math.log(self._probability(ngram))
        words += 1
    return math.exp(nats / words)

  def _probability(self, ngram: tuple[str, ...]) -> float:
    estimate = 1 / self.size
    for order, (counts, totals, kinds) in enumerate(self._orders, start=1):
      suffix = ngram[_ORDER - order :]
      total = totals[suffix[:-1]]
      if total:
        kept = max(counts[suffix] - DISCOUNT, 0) / total
        freed = DISCOUNT * kinds[suffix[:-1]] / total
        estimate = kept + freed * estimate
    return estimate

  def _padded(self, text: str) -> list[str]:
    words = [self._shown(word) for word in text.split()]
    return [BEGIN] * (_ORDER - 1) + words + [END]

  def _shown(self, word: str) -> str:
    special = word in (BEGIN, END)
    return word if special or word in self._known else _UNKNOWN
