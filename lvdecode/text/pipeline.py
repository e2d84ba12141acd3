"""Texts to batches: one matrix of tokens, then a pure function of (seed, i)."""

from collections.abc import Iterator, Sequence
import dataclasses
import itertools
import logging
import sys
from typing import NamedTuple

import grain
import jax
from jaxtyping import Bool, Float, Int, Integer
import numpy as np

from lvdecode import errors
from lvdecode.text import tokenizers

_OVERLONG = ('truncate', 'drop')
_MOST_LENGTHS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineSettings:
  batch_size: int  # sequences per step, over all processes together
  lengths: tuple[int, ...]  # static lengths, ascending; BOS and EOS counted
  overlong: str  # 'truncate' or 'drop', for texts beyond lengths[-1]
  encoder_length: int  # static, for an encoder with a tokenizer of its own
  condition_length: int  # static, for what is given with a text
  workers: int  # processes that assemble batches; 0: threads of this one

  def __post_init__(self):
    if self.batch_size < 1:
      raise errors.UserError(
        f'pipeline.batch_size is {self.batch_size}: give 1 or more'
      )
    if not 1 <= len(self.lengths) <= _MOST_LENGTHS:
      raise errors.UserError(
        f'pipeline.lengths has {len(self.lengths)} entries: give 1 to '
        f'{_MOST_LENGTHS}, each is one more compiled program'
      )
    if list(self.lengths) != sorted(set(self.lengths)) or self.lengths[0] < 3:
      raise errors.UserError(
        f'pipeline.lengths is {self.lengths}: give ascending lengths of at '
        'least 3 (BOS, one token, EOS)'
      )
    if self.overlong not in _OVERLONG:
      raise errors.UserError(
        f"pipeline.overlong is '{self.overlong}': give one of "
        + ', '.join(_OVERLONG)
      )
    if self.encoder_length < 3:
      raise errors.UserError(
        f'pipeline.encoder_length is {self.encoder_length}: give at least 3 '
        '(a first token, one of the text, a last)'
      )
    if self.condition_length < 1:
      raise errors.UserError(
        f'pipeline.condition_length is {self.condition_length}: give at least 1'
      )
    if self.workers < 0:
      raise errors.UserError(
        f'pipeline.workers is {self.workers}: give 0 (threads) or more'
      )


class EncoderInput(NamedTuple):
  """The same texts for an encoder with a tokenizer of its own."""

  tokens: Integer[jax.Array | np.ndarray, 'B S']  # its BOS (CLS) .. EOS (SEP)
  visible: Bool[jax.Array | np.ndarray, 'B S']  # not the padding


class Condition(NamedTuple):
  """What is given with each text, x, by the decoder's tokenizer."""

  tokens: Int[jax.Array | np.ndarray, 'B S']  # x_1 .. x_n PAD .., n >= 1
  visible: Bool[jax.Array | np.ndarray, 'B S']  # not the padding
  # Which part of the condition a token is of; 0 where there is one, and at
  # padding.
  segments: Int[jax.Array | np.ndarray, 'B S']


class Batch(NamedTuple):
  """What a model sees; T is one of `pipeline.lengths`."""

  tokens: Int[jax.Array | np.ndarray, 'B T']  # BOS y_1 .. y_n EOS PAD ..
  # 1 where tokens[b, t] is modelled (y_1 .. y_n and EOS), 0 at BOS, at padding
  # and all over the rows that only complete a ragged last batch.
  weights: Float[jax.Array | np.ndarray, 'B T']
  # None where the encoder reads `tokens`.
  encoder: EncoderInput | None = None
  condition: Condition | None = None  # where the data have one
  label: Int[jax.Array | np.ndarray, ' B'] | None = None  # -1: unknown


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
  encoder: EncoderInput | None = None  # N rows of them

  @property
  def unknown_share(self) -> float:
    """Unknown tokens per token of text (BOS and EOS not counted)."""
    return self.unknown / max(1, int(self.lengths.sum()) - 2 * len(self.rows))


def tokenize(
  texts: Sequence[str],
  tokenizer: tokenizers.Tokenizer,
  settings: PipelineSettings,
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
) -> EncoderInput:
  """N texts, cut where they are longer than `width`."""
  encoded = [ids[: width - 2] for ids in tokenizer.encode(texts)]
  sizes = np.fromiter(map(len, encoded), np.int64, len(encoded))
  return EncoderInput(
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
  settings: PipelineSettings,
  encoder_tokenizer: tokenizers.Tokenizer | None = None,
) -> Batch:
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
  length = lengths[int(_buckets(corpus.lengths, lengths).max())]
  return _batch(corpus, np.arange(len(texts)), length)


def unknown(texts: Sequence[str], tokenizer: tokenizers.Tokenizer) -> list[str]:
  """The texts of which no token is in the vocabulary."""
  return [
    text
    for text, ids in zip(texts, tokenizer.encode(texts), strict=True)
    if all(token == tokenizer.unk for token in ids)
  ]


def _buckets(
  sizes: Int[np.ndarray, ' N'], lengths: tuple[int, ...]
) -> Int[np.ndarray, ' N']:
  """The smallest static length, as an index, that holds each text."""
  return np.searchsorted(lengths, sizes)


def _batch(corpus: Corpus, rows: Int[np.ndarray, ' B'], length: int) -> Batch:
  column = np.arange(length)[None, :]
  modelled = (column >= 1) & (column < corpus.lengths[rows][:, None])
  encoder = corpus.encoder
  if encoder is not None:
    encoder = EncoderInput(
      encoder.tokens[rows].astype(np.int32), encoder.visible[rows]
    )
  return Batch(
    corpus.tokens[rows, :length].astype(np.int32),
    modelled.astype(np.float32),
    encoder,
  )


class _Plan(NamedTuple):
  """The batches of one epoch, in order."""

  rows: Int[np.ndarray, 'batches B']
  lengths: Int[np.ndarray, ' batches']


def _plan(
  corpus: Corpus, settings: PipelineSettings, seed: int, epoch: int
) -> _Plan:
  """Shuffles, sorts into lengths, and shuffles the resulting batches.

  What does not fill a batch of its length moves up to the next longer one, so
  no length is starved and only N mod batch_size texts sit an epoch out,
  others in each epoch. Which length comes when does not depend on the seed,
  so that runs of several seeds can be trained in one program.
  """
  # Sorting raw bits, whose stream NumPy promises never to change, where
  # `Generator.permutation` may: a run can resume under a later NumPy.
  bits = np.random.PCG64(np.random.SeedSequence((seed, epoch)))
  order = np.argsort(bits.random_raw(len(corpus.rows)), kind='stable')
  bucket = _buckets(corpus.lengths[order], settings.lengths)
  batches, lengths = [], []
  waiting = order[:0]
  for index, length in enumerate(settings.lengths):
    waiting = np.concatenate([waiting, order[bucket == index]])
    count = len(waiting) // settings.batch_size
    full = count * settings.batch_size
    batches.append(waiting[:full].reshape(count, settings.batch_size))
    lengths.append(np.full(count, length))
    waiting = waiting[full:]
  total = len(corpus.rows) // settings.batch_size
  bits = np.random.PCG64(np.random.SeedSequence(epoch))
  shuffled = np.argsort(bits.random_raw(total), kind='stable')
  return _Plan(
    np.concatenate(batches)[shuffled], np.concatenate(lengths)[shuffled]
  )


class _Batches:
  """Random access to the endless sequence of this process's batches."""

  def __init__(
    self,
    corpus: Corpus,
    settings: PipelineSettings,
    seed: int,
    shard: slice,
  ):
    self._corpus = corpus
    self._settings = settings
    self._seed = seed
    self._shard = shard
    self._plans: dict[int, _Plan] = {}

  def __len__(self) -> int:
    return sys.maxsize  # endless: grain would fold a longer index back

  def __getitem__(self, index: int) -> Batch:
    epoch, position = divmod(
      index, batches_per_epoch(self._corpus, self._settings)
    )
    plan = self._plan(epoch)
    rows = plan.rows[position, self._shard]
    return _batch(self._corpus, rows, int(plan.lengths[position]))

  def _plan(self, epoch: int) -> _Plan:
    plans = self._plans
    if epoch not in plans:
      plan = _plan(self._corpus, self._settings, self._seed, epoch)
      # Threads that read ahead still ask for the epoch before. A new dict in
      # one assignment: two threads may both plan, none sees half a change.
      plans = {e: p for e, p in plans.items() if e == epoch - 1}
      plans[epoch] = plan
      self._plans = plans
    return plans[epoch]


def batches_per_epoch(corpus: Corpus, settings: PipelineSettings) -> int:
  """Full batches in the corpus; UserError where there is not one."""
  size = settings.batch_size
  if size > len(corpus.rows):
    raise errors.UserError(
      f'pipeline.batch_size {size} exceeds the {len(corpus.rows)} training '
      'texts: lower it, or give more data'
    )
  return len(corpus.rows) // size


def train_batches(
  corpus: Corpus,
  settings: PipelineSettings,
  seed: int,
  process_index: int = 0,
  process_count: int = 1,
) -> grain.DatasetIterator[Batch]:
  """Endless training batches: the i-th is a pure function of (seed, i).

  Process p of P is given rows [p B / P, (p + 1) B / P) of each global batch.
  `get_state()` and `set_state()` hold the position for the checkpoint; it is
  `{'next_index': i}` when `workers` is 0, and tied to the number of workers
  otherwise. Call `close()` at the end.
  """
  size = settings.batch_size
  if size % process_count:
    raise errors.UserError(
      f'pipeline.batch_size {size} does not divide over {process_count} '
      'processes: give a multiple'
    )
  batches_per_epoch(corpus, settings)  # refuses too few texts
  share = size // process_count
  shard = slice(process_index * share, (process_index + 1) * share)
  batches = grain.MapDataset.source(_Batches(corpus, settings, seed, shard))
  # One thread keeps ahead of an accelerator; more only contend for Python's
  # lock over slices this small.
  dataset = batches.to_iter_dataset(
    grain.ReadOptions(num_threads=1, prefetch_buffer_size=8)
  )
  if settings.workers:
    dataset = dataset.mp_prefetch(
      grain.MultiprocessingOptions(num_workers=settings.workers)
    )
  return iter(dataset)


def eval_batches(
  corpus: Corpus, batch_size: int, lengths: tuple[int, ...]
) -> Iterator[tuple[Batch, Int[np.ndarray, ' B']]]:
  """Each text exactly once, with the row of `corpus` it stands in.

  The last batch of each length is completed with copies of its first text
  whose weights are all 0 and whose row number is -1.
  """
  bucket = _buckets(corpus.lengths, lengths)
  for index, length in enumerate(lengths):
    members = np.flatnonzero(bucket == index)
    for start in range(0, len(members), batch_size):
      rows = members[start : start + batch_size]
      filler = np.repeat(rows[:1], batch_size - len(rows))
      batch = _batch(corpus, np.concatenate([rows, filler]), length)
      batch.weights[len(rows) :] = 0
      yield batch, np.concatenate([rows, np.full(len(filler), -1)])


def padding_fraction(
  corpus: Corpus, settings: PipelineSettings, seed: int
) -> float:
  """Share of padding among the tokens of the first training epoch."""
  plan = _plan(corpus, settings, seed, 0)
  places = settings.batch_size * int(plan.lengths.sum())
  return 1 - int(corpus.lengths[plan.rows].sum()) / places
