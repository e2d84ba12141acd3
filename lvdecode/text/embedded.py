"""A set of short English reviews and stories, drawn from a known grammar.

It needs no network and no file. Every sentence is stored with the factors it
was drawn from, and every combination of factors occurs equally often in each
split, so the factors are exactly independent of one another: what a model's
latent knows of one it cannot have from another.
"""

from collections.abc import Callable, Iterator, Sequence
import functools
import itertools
import re
from typing import NamedTuple

import numpy as np

from lvdecode.text import lexicon
from lvdecode.text import topics

# Names the sentences: raise it with any change of grammar or words, or a set
# prepared from the old ones is taken for the new.
VERSION = 'grammar-1'

FACTORS = {
  'kind': ('review', 'story'),
  'topic': tuple(topics.TOPICS),
  'sentiment': ('positive', 'negative'),
  'tense': ('past', 'present', 'future'),
  'number': ('singular', 'plural'),  # of the subject of the main clause
  'polarity': ('plain', 'negated'),  # of its verb; sentiment is of the whole
  'length': ('short', 'medium', 'long'),
}
# Tokens, full stop counted.
LENGTHS = {'short': (1, 8), 'medium': (9, 12), 'long': (13, 20)}
# Sentences of each split for each combination of factors: 51,840, 2,880 and
# 2,880 in all.
SPLITS = {'train': 72, 'validation': 4, 'test': 4}
_SEED = 20_260_101

# The text and its factors.
Sentence = tuple[str, dict[str, str]]
# Draws an index below the given number.
Draw = Callable[[int], int]


class Cell(NamedTuple):
  """One combination of factors."""

  kind: str
  topic: str
  sentiment: str
  tense: str
  number: str
  polarity: str
  length: str


def generate() -> dict[str, list[Sentence]]:
  """Distinct (sentence, factors) of each split; the same on every machine."""
  draw = _draws()
  per_cell = sum(SPLITS.values())
  splits: dict[str, list[Sentence]] = {split: [] for split in SPLITS}
  seen = set()
  for values in itertools.product(*FACTORS.values()):
    cell = Cell(*values)
    least, most = LENGTHS[cell.length]
    found: list[str] = []
    writer = _Writer(cell, draw)
    while len(found) < per_cell:
      sentence = writer.sentence()
      if sentence not in seen and least <= len(sentence.split()) <= most:
        seen.add(sentence)
        found.append(sentence)
    sentences = iter(found)
    for split, count in SPLITS.items():
      splits[split] += [
        (sentence, cell._asdict())
        for sentence in itertools.islice(sentences, count)
      ]
  return {split: _shuffled(rows, draw) for split, rows in splits.items()}


def _draws() -> Draw:
  """Raw bits: NumPy promises their stream for ever, not that of `choice`."""

  def stream() -> Iterator[int]:
    bits = np.random.PCG64(_SEED)
    while True:
      yield from bits.random_raw(4096).tolist()

  source = stream()
  return lambda below: next(source) % below


def _shuffled(rows: list, draw: Draw) -> list:
  keys = [draw(2**64) for _ in rows]
  return [rows[index] for index in np.argsort(keys, kind='stable')]


class _Writer:
  """Writes sentences of one combination of factors."""

  def __init__(self, cell: Cell, draw: Draw):
    self._cell = cell
    self._draw = draw
    self._topic = topics.TOPICS[cell.topic]
    self._plural = cell.number == 'plural'
    # Words of praise (0) or of blame (1): of the sentence, and of its main
    # clause, where "not" turns one into the other.
    self._side = int(cell.sentiment == 'negative')
    self._main_side = self._side ^ (cell.polarity == 'negated')

  def sentence(self) -> str:
    parts = self._review() if self._cell.kind == 'review' else self._story()
    words = ' '.join(filter(None, parts)).split()
    for index, word in enumerate(words[:-1]):
      if word == 'a' and words[index + 1][0] in 'aeiou':
        words[index] = 'an'
    return ' '.join([*words, '.'])

  def _pick(self, options: Sequence[str]) -> str:
    return options[self._draw(len(options))]

  def _one_in(self, count: int) -> bool:
    return self._draw(count) == 0

  def _review(self) -> list[str]:
    """[frame ,] subject [place] predicate [time] [, and clause]."""
    topic, length = self._topic, self._cell.length
    more = {'short': 0, 'medium': 1, 'long': 3}[length]
    noun = self._pick(topic.things)
    subject = [
      self._pick(topic.modifiers) if self._draw(3) < more else '',
      plural_of(noun) if self._plural else noun,
    ]
    if self._draw(3) < more:
      subject = ['the', *subject, self._pick(topic.places)]
    else:
      near = ('these', 'those') if self._plural else ('this', 'that')
      subject = [self._pick(('the', *near, *topic.owners)), *subject]
    negator = self._negator()
    if self._one_in(2) or length != 'medium' and not self._one_in(3):
      predicate = self._quality(negator, timed=self._draw(3) < more)
    else:
      habit = self._pick(topic.habits[self._main_side])
      predicate = [self._inflect(habit, self._plural, negator)]
    clause = []
    if length == 'long' or length == 'medium' and self._one_in(3):
      clause = self._second_clause()
    frame = self._pick(lexicon.FRAMES) + ' ,' if self._draw(12) < more else ''
    them = 'them' if self._plural else 'it'
    return [
      part.replace('{them}', them)
      for part in [frame, *subject, *predicate, *clause]
    ]

  def _quality(self, negator: str, timed: bool) -> list[str]:
    """ "was very fresh", "was not cold at all", "will be awful tomorrow"."""
    be = self._inflect('be', self._plural, negator)
    adjectives = self._topic.adjectives[self._main_side]
    adjective = self._pick(adjectives)
    time = self._pick(lexicon.TIMES[self._cell.tense]) if timed else ''
    if negator == 'never':
      return [be, adjective]
    if negator:
      if not time and self._one_in(3):
        return [be, adjective, 'at all']
      # "not very cold" would be faint praise.
      degrees = ('very', 'really', '') if self._side else ('',)
      return [be, self._pick(degrees), adjective, time]
    if self._one_in(4):
      return [be, self._pick(lexicon.STRONG[self._main_side]), time]
    other = self._pick(adjectives)
    if self._cell.length != 'short' and other != adjective and self._one_in(2):
      adjective = f'{adjective} and {other}'
    degree = '' if self._one_in(3) else self._pick(lexicon.DEGREES)
    return [be, degree, adjective, time]

  def _second_clause(self) -> list[str]:
    if self._one_in(2):
      who, what = self._pick(self._topic.asides[self._side]).split('|')
      return [', and', who, self._inflect(what, _is_plural(who), '')]
    who, my = ('i', 'my') if self._one_in(2) else ('we', 'our')
    what = self._pick(lexicon.REACTIONS[self._side]).replace('{my}', my)
    verb = self._inflect(what, True, '')
    if who == 'i':
      verb = re.sub('^were ', 'was ', re.sub('^are ', 'am ', verb))
    return [', so', who, verb]

  def _story(self) -> list[str]:
    """[time ,] subject deed [moment] [, and outcome]."""
    more = {'short': 0, 'medium': 1, 'long': 2}[self._cell.length]
    animal = self._cell.topic == 'animal'
    subject, they, their = self._animals() if animal else self._people()
    negator = self._negator()
    deed = self._filled(self._pick(self._topic.deeds[self._main_side]), their)
    opening = ''
    if negator != 'never' and self._draw(2) < more:
      opening = self._pick(lexicon.OPENINGS[self._cell.tense]) + ' ,'
    moment = self._pick(lexicon.MOMENTS) if self._draw(3) < more else ''
    outcome = []
    if self._cell.length == 'long' or self._draw(3) < more:
      outcomes = lexicon.ANIMAL_OUTCOMES if animal else lexicon.OUTCOMES
      who, what = self._pick(outcomes[self._side]).split('|')
      plural = self._plural if who == '{they}' else _is_plural(who)
      who = who.replace('{they}', they)
      outcome = [', and', who, self._inflect(what, plural, '')]
    deed = self._inflect(deed, self._plural, negator)
    return [opening, subject, deed, moment, *outcome]

  def _people(self) -> tuple[str, str, str]:
    """Subject, pronoun, possessive."""
    if not self._plural:
      if self._one_in(2):
        return self._pick(lexicon.WOMEN), 'she', 'her'
      return self._pick(lexicon.MEN), 'he', 'his'
    if self._one_in(2):
      # The names alone: "anna and tom".
      pair = self._pick(lexicon.WOMEN[:10]), self._pick(lexicon.MEN[:10])
      return ' and '.join(pair), 'they', 'their'
    return self._pick(lexicon.GROUPS), 'they', 'their'

  def _animals(self) -> tuple[str, str, str]:
    modifier = self._pick(self._topic.modifiers) if self._one_in(2) else ''
    noun = self._pick(self._topic.things)
    if not self._plural:
      return f'{self._pick(("the", "a"))} {modifier} {noun}', 'it', 'its'
    determiner = self._pick(('the', 'two', 'three'))
    return f'{determiner} {modifier} {plural_of(noun)}', 'they', 'their'

  def _filled(self, phrase: str, their: str) -> str:
    """Puts a noun for "thing}" and a person for {friend}."""
    return (
      phrase.replace('{friend}', self._pick(lexicon.FRIENDS))
      .replace('{their}', their)
      .replace('thing}', self._pick(self._topic.things))
      .replace('{', '')
    )

  def _negator(self) -> str:
    if self._cell.polarity == 'plain':
      return ''
    return 'never' if self._one_in(4) else 'not'

  def _inflect(self, phrase: str, plural: bool, negator: str) -> str:
    """A verb phrase, base form first, in tense and number."""
    verb, _, rest = phrase.partition(' ')
    words = [_inflected(verb, self._cell.tense, plural, negator), rest]
    return ' '.join(filter(None, words))


@functools.cache
def _inflected(verb: str, tense: str, plural: bool, negator: str) -> str:
  if tense == 'future':
    words = ['will', negator, verb]
  elif verb == 'be':
    forms = {'past': ('was', 'were'), 'present': ('is', 'are')}
    words = [forms[tense][plural], negator]
  elif negator == 'not':
    helper = 'did' if tense == 'past' else ('does', 'do')[plural]
    words = [helper, negator, verb]
  elif tense == 'past':
    words = [negator, _past(verb)]
  else:
    words = [negator, verb if plural else _third_person(verb)]
  return ' '.join(filter(None, words))


def _past(verb: str) -> str:
  if verb in lexicon.PAST:
    return lexicon.PAST[verb]
  if verb.endswith('e'):
    return verb + 'd'
  if verb.endswith('y') and verb[-2] not in 'aeiou':
    return verb[:-1] + 'ied'
  return verb + 'ed'


def _third_person(verb: str) -> str:
  return lexicon.THIRD_PERSON.get(verb, _with_s(verb))


@functools.cache
def plural_of(noun: str) -> str:
  return lexicon.PLURALS.get(noun, _with_s(noun))


def _with_s(word: str) -> str:
  if word.endswith('y') and word[-2] not in 'aeiou':
    return word[:-1] + 'ies'
  if word.endswith(('s', 'x', 'z', 'ch', 'sh')):
    return word + 'es'
  return word + 's'


@functools.cache
def _is_plural(subject: str) -> bool:
  return subject.endswith('s') or subject == 'the children'
