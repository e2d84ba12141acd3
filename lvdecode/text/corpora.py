"""Texts tokenised once: one matrix of tokens a split, held in memory."""

from collections.abc import Sequence
import dataclasses
import itertools
import logging
from typing import NamedTuple

from jaxtyping import Int, Integer
import numpy as np

from lvdecode import errors
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

  @property
  def unknown_share(self) -> float:
    """Unknown tokens per token of text (BOS and EOS not counted)."""
    return self.unknown / max(1, int(self.lengths.sum()) - 2 * len(self.rows))


def tokenize(
  texts: Sequence[str],
  tokenizer: tokenizers.Tokenizer,
  settings: pipeline.PipelineSettings,
  encoder_tokenizer: tokenizers.Tokenizer | None = None,
) -> Corpus:
  """Tokenises every text once; raises UserError if nothing is left.

  With an encoder's own tokenizer the same texts, as they are modelled, are
  tokenised by it too.
  """
  if not texts:
    raise errors.UserError('no text to tokenize: the data are empty')
  width = settings.lengths[-1]
  encoded = tokenizer.encode(texts)
  sizes = np.fromiter(map(len, encoded), np.int64, len(encoded))
  too_long = sizes > width - 2
  rows = np.arange(len(texts))
  if settings.overlong == 'drop':
    rows = rows[~too_long]
    if not len(rows):
      raise errors.UserError(
        f'all {len(texts)} texts are longer than pipeline.lengths allows '
        f'({width - 2} tokens of text): raise it, or set pipeline.overlong '
        'to truncate'
      )
    encoded = [encoded[row] for row in rows]
    sizes = sizes[rows]
  kept = [texts[row] for row in rows.tolist()]
  cut = np.flatnonzero(sizes > width - 2)
  for row in cut:
    encoded[row] = encoded[row][: width - 2]
    kept[row] = tokenizer.decode(encoded[row])
  sizes = np.minimum(sizes, width - 2)
  flat = _joined(encoded, sizes)
  unknown = 0 if tokenizer.unk is None else int((flat == tokenizer.unk).sum())
  return Corpus(
    tokens=_matrix(flat, sizes, width, tokenizer),
    lengths=(sizes + 2).astype(np.int32),
    words=np.array([len(text.split()) + 1 for text in kept], np.int32),
    characters=np.array([len(text) + 1 for text in kept], np.int32),
    rows=rows,
    unknown=unknown,
    truncated=len(cut),
    dropped=len(texts) - len(rows),
    encoder=None
    if encoder_tokenizer is None
    else _encoder_input(kept, encoder_tokenizer, settings.encoder_length),
  )


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
) -> pipeline.Batch:
  """One batch of a few texts, at the smallest length for all.

  A text that is too long is truncated, with a warning; there is one for a
  text of unknown tokens only, too.
  """
  if not texts:
    raise errors.UserError('no text was given: type at least one')
  for text in dict.fromkeys(unknown(texts, tokenizer)):
    logging.warning('no token of %r is in the vocabulary', text)
  lengths = settings.lengths
  settings = dataclasses.replace(settings, overlong='truncate')
  corpus = tokenize(texts, tokenizer, settings, encoder_tokenizer)
  if corpus.truncated:
    logging.warning(
      '%d of %d texts truncated to %d tokens (pipeline.lengths)',
      corpus.truncated,
      len(texts),
      lengths[-1] - 2,
    )
  length = lengths[int(buckets(corpus.lengths, lengths).max())]
  return batch(corpus, np.arange(len(texts)), length)


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
  column = np.arange(length)[None, :]
  modelled = (column >= 1) & (column < corpus.lengths[rows][:, None])
  encoder = corpus.encoder
  if encoder is not None:
    encoder = pipeline.EncoderInput(
      encoder.tokens[rows].astype(np.int32), encoder.visible[rows]
    )
  return pipeline.Batch(
    corpus.tokens[rows, :length].astype(np.int32),
    modelled.astype(np.float32),
    encoder,
  )
