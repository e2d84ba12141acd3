"""What is given with a text: its parts, and the tokens that stand for some."""

from collections.abc import Iterator, Sequence
import itertools
import re
from typing import NamedTuple

from jaxtyping import Bool, Int
import numpy as np

from lvdecode import errors
from lvdecode.text import pipeline
from lvdecode.text import tokenizers

# Stands for the sentence that is asked for.
BLANK = '<blank>'
# Given where there is nothing to give: an aspect of a whole sentence.
NONE = '<none>'
STORIES = ('', 'missing', 'ending', 'prompt')
_LABEL = re.compile(r'<label:(.*)>', re.DOTALL)
_SENTENCE_END = re.compile(r'(?<=[.!?])\s+')

# Sentences, say, which a model can tell apart; a part that is spelled like a
# marker of the tokenizer is that one token.
Parts = tuple[str, ...]


def label_token(label: str) -> str:
  """How the one token of a label is spelled."""
  return f'<label:{label}>'


def label_of(part: str) -> str | None:
  """The label that a part stands for, None for a part of another kind."""
  found = _LABEL.fullmatch(part)
  return found and found[1]


def readable(parts: Parts) -> str:
  """A condition as it is shown: a label by its name."""
  return ' '.join(label_of(part) or part for part in parts)


def story(sentences: Sequence[str], kind: str) -> Iterator[tuple[Parts, str]]:
  """(condition, text) of each example that a story makes.

  'missing' makes one for each sentence, with a blank in its place (Wang & Wan
  2019, section 3.1); 'ending' one, of the last; 'prompt' one, of all that
  follow the first.
  """
  sentences = tuple(sentences)
  if kind == 'missing':
    for place, missing in enumerate(sentences):
      yield (*sentences[:place], BLANK, *sentences[place + 1 :]), missing
  elif kind == 'ending':
    yield sentences[:-1], sentences[-1]
  else:
    yield sentences[:1], ' '.join(sentences[1:])


def given(condition: str | Sequence[str], kind: str, labels: bool) -> Parts:
  """The parts of a condition that a user typed; those of a row are left.

  Args:
    condition: a text, or its parts. A story in one string is split behind
      '.', '!' and '?', and around a blank.
    kind: one of STORIES, of the data that the model was trained on.
    labels: whether labels are what is given.

  Raises:
    UserError: nothing is given, or a story without its one blank.
  """
  if isinstance(condition, str):
    parts = [condition]
    if kind in ('missing', 'ending') and not labels:
      parts = _sentences(condition)
  else:
    parts = list(condition)
  parts = [part.strip() for part in parts]
  if not parts or not all(parts):
    raise errors.UserError(
      f'the condition {condition!r} is empty, or a part of it is: write what '
      'is given'
    )
  if labels:
    return tuple(
      p if label_of(p) is not None else label_token(p) for p in parts
    )
  if kind == 'missing' and parts.count(BLANK) != 1:
    raise errors.UserError(
      f'the story {condition!r} has {parts.count(BLANK)} sentences {BLANK}: '
      'put one in the place of the missing sentence'
    )
  return tuple(parts)


def _sentences(text: str) -> list[str]:
  """Of a text in which a blank, too, is a sentence."""
  sides = re.split(f'({re.escape(BLANK)})', text)
  found = [part for side in sides for part in _SENTENCE_END.split(side)]
  return [part for part in map(str.strip, found) if part]


class Encoded(NamedTuple):
  """Conditions as a model sees them, and what was done to them."""

  condition: pipeline.Condition  # N rows
  truncated: Bool[np.ndarray, ' N']  # words of their beginnings were cut off
  unknown: Int[np.ndarray, ' N']  # unknown tokens of each

  @property
  def length(self) -> int:
    """Most tokens of a condition."""
    return self.condition.tokens.shape[1]


def encode(
  given: Sequence[Parts], tokenizer: tokenizers.Tokenizer, length: int
) -> Encoded:
  """Tokenises every part once, however often it is given.

  A condition of more than `length` tokens keeps its end, next to which the
  text begins, and of its beginning the tokens that stand for a part (the first
  `length` of them): a blank tells what is asked for.

  Raises:
    RowError: a label that the tokenizer has no token for, or a condition
      without a token.
  """
  parts = list(dict.fromkeys(itertools.chain.from_iterable(given)))
  _check_labels(given, parts, tokenizer)
  ids = _ids(parts, tokenizer)
  places = {part: place for place, part in enumerate(parts)}
  counts = np.fromiter(map(len, given), np.int64, len(given))
  chained = itertools.chain.from_iterable(given)
  used = np.fromiter((places[part] for part in chained), np.int64)
  size_of = np.fromiter(map(len, ids), np.int64, len(ids))
  flat = np.fromiter(itertools.chain.from_iterable(ids), np.int64)
  # From here on an entry is a token: which row's, which part's, which one.
  sizes = size_of[used]
  row = np.repeat(np.repeat(np.arange(len(given)), counts), sizes)
  segment = np.repeat(_within(counts), sizes)
  begins = np.cumsum(size_of) - size_of
  token = flat[np.repeat(begins[used], sizes) + _within(sizes)]
  totals = np.bincount(row, minlength=len(given))
  for empty in np.flatnonzero(totals == 0).tolist():
    raise errors.RowError(
      empty,
      f'the condition {" ".join(given[empty])!r} has no token: write what is '
      'given with the text',
    )
  words = ~np.isin(token, list(tokenizer.markers.values()))
  before = np.cumsum(words) - words  # words in front of each token
  first = (np.cumsum(totals) - totals)[row]
  dropped = words & (before - before[first] < (totals - length)[row])
  kept = np.flatnonzero(~dropped)
  place = _within(np.bincount(row[kept], minlength=len(given)))
  kept, place = kept[place < length], place[place < length]
  row = row[kept]
  tokens = np.full(
    (len(given), length),
    tokenizer.pad,
    np.min_scalar_type(tokenizer.vocab_size - 1),
  )
  tokens[row, place] = token[kept]
  segments = np.zeros(tokens.shape, np.min_scalar_type(counts.max()))
  segments[row, place] = segment[kept]
  visible = np.arange(length)[None, :] < totals[:, None]
  unknown = (tokens == tokenizer.unk) & visible
  return Encoded(
    pipeline.Condition(tokens, visible, segments),
    totals > length,
    unknown.sum(axis=1),
  )


def all_unknown(parts: Parts, tokenizer: tokenizers.Tokenizer) -> bool:
  """Whether no token of what is given is in the vocabulary; a blank is none."""
  told = [part for part in parts if part != BLANK]
  return all(
    token == tokenizer.unk for ids in _ids(told, tokenizer) for token in ids
  )


def _check_labels(
  given: Sequence[Parts],
  parts: Sequence[str],
  tokenizer: tokenizers.Tokenizer,
) -> None:
  """Refuses a label without a token, where labels are what is given."""
  markers = tokenizer.markers
  known = tuple(label for m in markers if (label := label_of(m)) is not None)
  for part in parts:
    label = label_of(part) if known else None
    if label is not None and part not in markers:
      row = next(row for row, some in enumerate(given) if part in some)
      raise errors.RowError(
        row,
        f'no training text has the label {label!r}: '
        f'{errors.did_you_mean(label, known)}',
      )


def _ids(
  parts: Sequence[str], tokenizer: tokenizers.Tokenizer
) -> list[list[int]]:
  markers = tokenizer.markers
  return [
    [markers[part]] if part in markers else ids
    for part, ids in zip(parts, tokenizer.encode(parts), strict=True)
  ]


def _within(counts: Int[np.ndarray, ' n']) -> Int[np.ndarray, ' total']:
  """0 .. count - 1 for each count, one after the other."""
  ends = np.cumsum(counts)
  return np.arange(counts.sum()) - np.repeat(ends - counts, counts)
