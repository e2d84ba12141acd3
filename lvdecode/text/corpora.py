"""Texts tokenised once: one matrix of tokens a split, held in memory."""

from collections.abc import Sequence
import dataclasses
import itertools
import logging
from typing import NamedTuple

from jaxtyping import Int, Integer
import numpy as np

from lvdecode import errors
from lvdecode.text import conditions
from lvdecode.text import labels as labels_lib
from lvdecode.text import pipeline
from lvdecode.text import tokenizers


class Corpus(NamedTuple):
  """A tokenised split, held in memory; row n of every array is one text."""

  tokens: Integer[np.ndarray, 'N T']  # padded to the longest static length
  lengths: Int[np.ndarray, ' N']  # BOS and EOS counted
  # Of the text as it is modelled: a truncated text counts what was kept.
  words: Int[np.ndarray, ' N']  # split at white space, plus 1 for the end
  characters: Int[np.ndarray, ' N']  # plus 1 for the end
  rows: Int[np.ndarray, ' N']  # position among the texts that were given
  unknown: int  # unknown tokens in all rows
  truncated: int  # texts cut to the longest length
  dropped: int  # texts left out as too long
  encoder: pipeline.EncoderInput | None = None  # N rows of them
  condition: pipeline.Condition | None = None  # N rows, of the longest length
  conditions_truncated: int = 0  # that lost words to be short enough
  conditions_unknown: int = 0  # unknown tokens in all conditions
  first_overlong: int | None = None  # row, as it was given; also if dropped
  label: Int[np.ndarray, ' N'] | None = None  # places in label_names, or -1
  label_names: tuple[str, ...] = ()

  @property
  def unknown_share(self) -> float:
    """Unknown tokens per token of text (BOS and EOS not counted)."""
    return self.unknown / max(1, int(self.lengths.sum()) - 2 * len(self.rows))


def tokenize(
  texts: Sequence[str],
  tokenizer: tokenizers.Tokenizer,
  settings: pipeline.PipelineSettings,
  encoder_tokenizer: tokenizers.Tokenizer | None = None,
  *,
  given: Sequence[conditions.Parts] | None = None,
  labels: Sequence[str] | None = None,
  label_names: tuple[str, ...] = (),
) -> Corpus:
  """Tokenises every text once.

  Args:
    texts: of a split.
    tokenizer: of the decoder.
    settings: how long they may be, and what is done with longer ones.
    encoder_tokenizer: where the encoder has its own: the same texts, as they
      are modelled, are tokenised by it too.
    given: the condition of each text, if they have one.
    labels: of the texts, if they have some.
    label_names: all labels of the training texts, in the order of their
      numbers.

  Raises:
    UserError: nothing is left; `RowError` for a text that is refused as too
      long, or whose condition cannot be encoded.
  """
  if not texts:
    raise errors.UserError('no text to tokenize: the data are empty')
  width = settings.lengths[-1]
  encoded = tokenizer.encode(texts)
  sizes = np.fromiter(map(len, encoded), np.int64, len(encoded))
  told = None
  if given is not None:
    told = conditions.encode(given, tokenizer, settings.condition_length)
  first = _first_overlong(texts, sizes, given, told, settings)
  rows = _kept_rows(sizes, told, settings)
  encoded = [encoded[row] for row in rows.tolist()]
  sizes = sizes[rows]
  kept = [texts[row] for row in rows.tolist()]
  cut = np.flatnonzero(sizes > width - 2)
  for row in cut:
    encoded[row] = encoded[row][: width - 2]
    kept[row] = tokenizer.cut(kept[row], width - 2)
  sizes = np.minimum(sizes, width - 2)
  flat = _joined(encoded, sizes)
  unknown = 0 if tokenizer.unk is None else int((flat == tokenizer.unk).sum())
  corpus = Corpus(
    tokens=_matrix(flat, sizes, width, tokenizer),
    lengths=(sizes + 2).astype(np.int32),
    words=np.array([len(text.split()) + 1 for text in kept], np.int32),
    characters=np.array([len(text) + 1 for text in kept], np.int32),
    rows=rows,
    unknown=unknown,
    truncated=len(cut),
    dropped=len(texts) - len(rows),
    first_overlong=first,
    label_names=label_names,
  )
  if encoder_tokenizer is not None:
    length = settings.encoder_length
    encoder = _encoder_input(kept, encoder_tokenizer, length)
    corpus = corpus._replace(encoder=encoder)
  if labels is not None:
    numbers = labels_lib.numbers(labels, label_names)
    corpus = corpus._replace(label=numbers[rows])
  if told is not None:
    corpus = corpus._replace(
      condition=_rows_of(told.condition, rows),
      conditions_truncated=int(told.truncated[rows].sum()),
      conditions_unknown=int(told.unknown[rows].sum()),
    )
  return corpus


def _first_overlong(texts, sizes, given, told, settings) -> int | None:
  """The row; an error that says how long it is where it is refused."""
  room = settings.lengths[-1] - 2
  long = sizes > room
  if told is not None:
    long = long | told.truncated
  rows = np.flatnonzero(long)
  if not len(rows):
    return None
  row = int(rows[0])
  if settings.overlong == 'refuse':
    what, text = 'the text', texts[row]
    rule = f'has {sizes[row]} tokens, and pipeline.lengths room for {room}'
    if told is not None and told.truncated[row]:
      what, text = 'the condition', conditions.readable(given[row])
      rule = f'is longer than pipeline.condition_length = {told.length}'
    raise errors.RowError(
      row,
      f'{what} {errors.beginning(text)} {rule}: raise it, shorten the text, or '
      "set pipeline.overlong to 'truncate' or 'drop'",
    )
  return row


def _kept_rows(
  sizes: Int[np.ndarray, ' N'],
  told: conditions.Encoded | None,
  settings: pipeline.PipelineSettings,
) -> Int[np.ndarray, ' n']:
  """The rows that are not left out; UserError if all are."""
  rows = np.arange(len(sizes))
  if settings.overlong != 'drop':
    return rows
  fits = sizes <= settings.lengths[-1] - 2
  if not fits.any():
    raise errors.UserError(
      f'all {len(sizes)} texts are longer than pipeline.lengths allows '
      f'({settings.lengths[-1] - 2} tokens of text): raise it, or set '
      'pipeline.overlong to truncate'
    )
  if told is not None:
    fits &= ~told.truncated
    if not fits.any():
      raise errors.UserError(
        f'all {len(sizes)} texts or their conditions are too long: raise '
        f'pipeline.condition_length = {settings.condition_length} or '
        'pipeline.lengths, or set pipeline.overlong to truncate'
      )
  return rows[fits]


def _rows_of(
  condition: pipeline.Condition, rows: Int[np.ndarray, ' B']
) -> pipeline.Condition:
  return pipeline.Condition(*(leaf[rows] for leaf in condition))


def _encoder_input(
  texts: Sequence[str], tokenizer: tokenizers.Tokenizer, width: int
) -> pipeline.EncoderInput:
  """N texts, cut where they are longer than `width`."""
  encoded = [ids[: width - 2] for ids in tokenizer.encode(texts)]
  sizes = np.fromiter(map(len, encoded), np.int64, len(encoded))
  return pipeline.EncoderInput(
    _matrix(_joined(encoded, sizes), sizes, width, tokenizer),
    np.arange(width)[None, :] < sizes[:, None] + 2,
  )


def _joined(
  encoded: Sequence[Sequence[int]], sizes: Int[np.ndarray, ' N']
) -> Int[np.ndarray, ' tokens']:
  """The tokens of all texts, one text after the other."""
  chained = itertools.chain.from_iterable(encoded)
  return np.fromiter(chained, np.int64, int(sizes.sum()))


def _matrix(
  flat: Int[np.ndarray, ' tokens'],
  sizes: Int[np.ndarray, ' N'],
  width: int,
  tokenizer: tokenizers.Tokenizer,
) -> Integer[np.ndarray, 'N T']:
  """BOS, the tokens of each text, EOS, padding; in the smallest dtype."""
  tokens = np.full(
    (len(sizes), width),
    tokenizer.pad,
    np.min_scalar_type(tokenizer.vocab_size - 1),
  )
  column = np.arange(width)[None, :]
  tokens[:, 0] = tokenizer.bos
  tokens[(column >= 1) & (column <= sizes[:, None])] = flat
  tokens[np.arange(len(sizes)), sizes + 1] = tokenizer.eos
  return tokens


def batch_of(
  texts: Sequence[str],
  tokenizer: tokenizers.Tokenizer,
  settings: pipeline.PipelineSettings,
  encoder_tokenizer: tokenizers.Tokenizer | None = None,
  given: Sequence[conditions.Parts] | None = None,
  rows: int = 0,
) -> pipeline.Batch:
  """One batch of a few texts, at the smallest length for all.

  It has at least so many rows, the last ones copies of the first. A text, or
  what is given with it, that is too long is truncated, with a warning; there is
  one for a text of unknown tokens only, too.
  """
  if not texts:
    raise errors.UserError('no text was given: type at least one')
  if given is not None and len(given) != len(texts):
    raise errors.UserError(
      f'{len(texts)} texts and {len(given)} conditions: give one with each text'
    )
  for text in dict.fromkeys(unknown(texts, tokenizer)):
    logging.warning('no token of %r is in the vocabulary', text)
  lengths = settings.lengths
  settings = dataclasses.replace(settings, overlong='truncate')
  corpus = tokenize(texts, tokenizer, settings, encoder_tokenizer, given=given)
  if corpus.truncated:
    logging.warning(
      '%d of %d texts truncated to %d tokens (pipeline.lengths)',
      corpus.truncated,
      len(texts),
      lengths[-1] - 2,
    )
  _warn_of_conditions(corpus.conditions_truncated, len(texts), settings)
  length = lengths[int(buckets(corpus.lengths, lengths).max())]
  return batch(corpus, _filled(len(texts), rows), length)


def condition_of(
  given: Sequence[conditions.Parts],
  tokenizer: tokenizers.Tokenizer,
  settings: pipeline.PipelineSettings,
  rows: int = 0,
) -> pipeline.Condition:
  """The same for conditions without a text, which is to be written."""
  if not given:
    raise errors.UserError('no condition was given: type at least one')
  told = conditions.encode(given, tokenizer, settings.condition_length)
  _warn_of_conditions(int(told.truncated.sum()), len(given), settings)
  return _int32(_rows_of(told.condition, _filled(len(given), rows)))


def _filled(count: int, rows: int) -> Int[np.ndarray, ' rows']:
  return np.pad(np.arange(count), (0, max(0, rows - count)))


def _warn_of_conditions(
  truncated: int, count: int, settings: pipeline.PipelineSettings
) -> None:
  if truncated:
    logging.warning(
      '%d of %d conditions truncated to %d tokens, their last ones '
      '(pipeline.condition_length)',
      truncated,
      count,
      settings.condition_length,
    )


def _int32(condition: pipeline.Condition) -> pipeline.Condition:
  return pipeline.Condition(
    tokens=condition.tokens.astype(np.int32),
    visible=condition.visible,
    segments=condition.segments.astype(np.int32),
  )


def take(corpus: Corpus, rows: Int[np.ndarray, ' n']) -> Corpus:
  """Some rows; what is counted in all stays as it is."""

  def of(field):
    if isinstance(field, np.ndarray):
      return field[rows]
    if hasattr(field, '_fields'):
      return type(field)(*map(of, field))
    return field

  return of(corpus)


def unknown(texts: Sequence[str], tokenizer: tokenizers.Tokenizer) -> list[str]:
  """The texts of which no token is in the vocabulary."""
  return [
    text
    for text, ids in zip(texts, tokenizer.encode(texts), strict=True)
    if all(token == tokenizer.unk for token in ids)
  ]


def buckets(
  sizes: Int[np.ndarray, ' N'], lengths: tuple[int, ...]
) -> Int[np.ndarray, ' N']:
  """The smallest static length, as an index, that holds each text."""
  return np.searchsorted(lengths, sizes)


def batch(
  corpus: Corpus, rows: Int[np.ndarray, ' B'], length: int
) -> pipeline.Batch:
  """These rows, which must not be longer than `length`."""
  column = np.arange(length)[None, :]
  modelled = (column >= 1) & (column < corpus.lengths[rows][:, None])
  encoder, condition = corpus.encoder, corpus.condition
  if encoder is not None:
    encoder = pipeline.EncoderInput(
      encoder.tokens[rows].astype(np.int32), encoder.visible[rows]
    )
  if condition is not None:
    condition = _int32(_rows_of(condition, rows))
  return pipeline.Batch(
    corpus.tokens[rows, :length].astype(np.int32),
    modelled.astype(np.float32),
    encoder,
    condition,
    None if corpus.label is None else corpus.label[rows],
  )
