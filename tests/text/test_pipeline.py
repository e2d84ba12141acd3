"""Batches: each text once an epoch, a pure function of (seed, i)."""

import itertools
import logging
import pathlib
import subprocess
import sys
import time

from absl import flags
import house
import jax
import numpy as np
import pytest

from lvdecode import errors
from lvdecode.text import batching
from lvdecode.text import corpora
from lvdecode.text import pipeline
from lvdecode.text import tokenizers

_LENGTHS = (6, 10, 16)
_WORDS = [f'w{n}' for n in range(40)]


@pytest.fixture(name='texts', scope='module')
def _texts() -> list[str]:
  rng = np.random.default_rng(0)
  return [
    ' '.join(rng.choice(_WORDS, size)) for size in rng.integers(1, 15, 301)
  ]


@pytest.fixture(name='tokenizer', scope='module')
def _tokenizer(texts) -> tokenizers.Tokenizer:
  settings = tokenizers.TokenizerSettings(
    kind='word', vocab_size=99, path='', added=()
  )
  return tokenizers.train(settings, texts)


def _settings(**changes) -> pipeline.PipelineSettings:
  values = {
    'batch_size': 8,
    'lengths': _LENGTHS,
    'overlong': 'truncate',
    'encoder_length': 8,
    'condition_length': 8,
    'workers': 0,
  }
  return pipeline.PipelineSettings(**(values | changes))


@pytest.fixture(name='corpus', scope='module')
def _corpus(texts, tokenizer) -> corpora.Corpus:
  return corpora.tokenize(texts, tokenizer, _settings())


def _take(iterator, count: int) -> list[pipeline.Batch]:
  batches = list(itertools.islice(iterator, count))
  iterator.close()
  return batches


def _equal(left, right) -> bool:
  return len(left) == len(right) and all(
    np.array_equal(a, b)
    for one, other in zip(left, right, strict=True)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
  )


def _rows(corpus, batch) -> list[bytes]:
  wide = np.zeros((len(batch.tokens), corpus.tokens.shape[1]), np.int32)
  wide[:, : batch.tokens.shape[1]] = batch.tokens
  return [row.tobytes() for row in wide]


def _numbered(corpus: corpora.Corpus) -> corpora.Corpus:
  """Every row tells its own number, so batches can be traced back."""
  number = np.arange(len(corpus.rows), dtype=np.uint16)[:, None]
  return corpus._replace(tokens=np.repeat(number, _LENGTHS[-1], axis=1))


def test_a_row_is_bos_text_eos_padding(texts, tokenizer, corpus):
  for text, row, length in zip(
    texts, corpus.tokens, corpus.lengths, strict=True
  ):
    assert row[0] == tokenizer.bos
    assert tokenizer.decode(row[1 : length - 1]) == text
    assert row[length - 1] == tokenizer.eos
    assert (row[length:] == tokenizer.pad).all()
  assert corpus.tokens.dtype == np.uint8


def test_words_and_characters_are_those_of_the_raw_text(texts, corpus):
  assert corpus.words.tolist() == [len(t.split()) + 1 for t in texts]
  assert corpus.characters.tolist() == [len(t) + 1 for t in texts]


@pytest.mark.parametrize('overlong', ['truncate', 'drop'])
def test_overlong_texts_are_counted(tokenizer, overlong):
  texts = ['w1 w2 w3 w4', 'w1 w2 w3 w4 w5 w6', 'w7']
  settings = _settings(lengths=(4, 6), overlong=overlong)
  corpus = corpora.tokenize(texts, tokenizer, settings)
  if overlong == 'drop':
    assert (corpus.truncated, corpus.dropped) == (0, 1)
    assert corpus.rows.tolist() == [0, 2]
    assert corpus.words.tolist() == [5, 2]
    kept = [tokenizer.decode(row) for row in corpus.tokens]
    assert kept == ['w1 w2 w3 w4', 'w7']
  else:
    assert (corpus.truncated, corpus.dropped) == (1, 0)
    assert corpus.rows.tolist() == [0, 1, 2]
    # The text as it is modelled: what was cut off is not counted.
    assert corpus.words.tolist() == [5, 5, 2]
    assert corpus.characters.tolist() == [12, 12, 3]
    assert corpus.tokens[1].tolist() == corpus.tokens[0].tolist()


def test_a_cut_text_counts_the_characters_it_had(tokenizer):
  settings = _settings(lengths=(4, 5), overlong='truncate')
  corpus = corpora.tokenize(['w1 unheard-of w2 w3'], tokenizer, settings)
  assert corpus.characters.tolist() == [len('w1 unheard-of w2') + 1]


def test_unknown_tokens_are_counted(tokenizer):
  corpus = corpora.tokenize(['w1 what w2', 'ever'], tokenizer, _settings())
  assert corpus.unknown == 2
  assert corpus.unknown_share == pytest.approx(2 / 4)


@pytest.mark.parametrize('batch_size', [1, 7, 8, 43, 301])
@pytest.mark.parametrize('epoch', [0, 3])
def test_an_epoch_holds_each_text_once(corpus, batch_size, epoch):
  corpus = _numbered(corpus)
  settings = _settings(batch_size=batch_size)
  count = batching.batches_per_epoch(corpus, settings)
  iterator = batching.train_batches(corpus, settings, seed=1)
  iterator.set_state({'next_index': epoch * count})
  rows = np.concatenate([b.tokens[:, 0] for b in _take(iterator, count)])
  assert len(set(rows.tolist())) == len(rows)
  assert len(corpus.rows) - len(rows) == len(corpus.rows) % batch_size


def test_other_texts_are_left_out_in_another_epoch(corpus):
  corpus = _numbered(corpus)
  settings = _settings(batch_size=8)
  count = batching.batches_per_epoch(corpus, settings)
  batches = _take(batching.train_batches(corpus, settings, seed=1), 2 * count)
  left_out = [
    set(range(len(corpus.rows)))
    - {int(row) for batch in epoch for row in batch.tokens[:, 0]}
    for epoch in (batches[:count], batches[count:])
  ]
  assert left_out[0] != left_out[1]


def test_no_length_sits_out_more_often_than_others(tokenizer):
  """Of 41 texts in batches of 8 one sits out; the long one as any other."""
  texts = ['w1'] * 40 + ['w1 w2 w3 w4 w5 w6 w7 w8']
  settings = _settings(batch_size=8, lengths=(3, 10))
  corpus = _numbered(corpora.tokenize(texts, tokenizer, settings))
  iterator = batching.train_batches(corpus, settings, seed=1)
  batches = _take(iterator, 100 * batching.batches_per_epoch(corpus, settings))
  seen = np.bincount(np.concatenate([b.tokens[:, 0] for b in batches]))
  assert seen.sum() == 100 * 40
  assert 90 <= seen[40] < 100 and seen.min() >= 90


@pytest.mark.parametrize('start', [0, 5, 36, 37, 38, 1000])
def test_a_batch_is_a_pure_function_of_seed_and_index(corpus, start):
  settings = _settings()
  whole = _take(batching.train_batches(corpus, settings, seed=3), 40)
  iterator = batching.train_batches(corpus, settings, seed=3)
  iterator.set_state({'next_index': start})
  part = _take(iterator, 3)
  if start + 3 <= len(whole):
    assert _equal(part, whole[start : start + 3])
  again = batching.train_batches(corpus, settings, seed=3)
  again.set_state({'next_index': 2000})
  next(again)
  again.set_state({'next_index': start})
  assert _equal(part, _take(again, 3))
  other = batching.train_batches(corpus, settings, seed=4)
  other.set_state({'next_index': start})
  assert not _equal(part, _take(other, 3))


def test_seeds_share_the_order_of_lengths_and_nothing_else(corpus):
  numbered = _numbered(corpus)
  settings = _settings(batch_size=4)
  count = batching.batches_per_epoch(corpus, settings)
  one, two = (
    _take(batching.train_batches(numbered, settings, seed), 2 * count)
    for seed in (1, 2)
  )
  lengths = [[b.tokens.shape[1] for b in batches] for batches in (one, two)]
  assert lengths[0] == lengths[1]
  assert lengths[0][:count] != lengths[0][count:]  # each epoch anew
  same = [
    set(a.tokens[:, 0]) == set(b.tokens[:, 0])
    for a, b in zip(one, two, strict=True)
  ]
  assert not any(same)


def test_a_resumed_iterator_continues(corpus):
  settings = _settings()
  whole = _take(batching.train_batches(corpus, settings, seed=0), 50)
  first = batching.train_batches(corpus, settings, seed=0)
  head = list(itertools.islice(first, 20))
  state = first.get_state()
  first.close()
  second = batching.train_batches(corpus, settings, seed=0)
  second.set_state(state)
  assert _equal(head + _take(second, 30), whole)


@pytest.mark.parametrize('count', [2, 4])
def test_shards_are_disjoint_and_complete(corpus, count):
  settings = _settings()
  whole = _take(batching.train_batches(corpus, settings, seed=0), 45)
  shards = [
    _take(
      batching.train_batches(
        corpus, settings, seed=0, process_index=p, process_count=count
      ),
      45,
    )
    for p in range(count)
  ]
  joined = [
    jax.tree.map(lambda *x: np.concatenate(x), *parts)
    for parts in zip(*shards, strict=True)
  ]
  assert _equal(joined, whole)


def test_a_batch_has_one_static_length_that_fits(corpus):
  settings = _settings()
  count = batching.batches_per_epoch(corpus, settings)
  batches = _take(batching.train_batches(corpus, settings, seed=0), count)
  seen = [batch.tokens.shape[1] for batch in batches]
  assert set(seen) == set(_LENGTHS)
  assert seen != sorted(seen)  # the lengths are mixed, not one after another
  known = {row.astype(np.int32).tobytes() for row in corpus.tokens}
  for batch in batches:
    assert set(_rows(corpus, batch)) <= known
    assert batch.tokens.dtype == np.int32
    assert batch.weights.dtype == np.float32


def test_at_most_one_batch_of_a_length_holds_shorter_texts(corpus):
  settings = _settings()
  count = batching.batches_per_epoch(corpus, settings)
  batches = _take(batching.train_batches(corpus, settings, seed=0), count)
  for shorter, length in itertools.pairwise(_LENGTHS):
    mixed = [
      batch
      for batch in batches
      if batch.tokens.shape[1] == length
      and (batch.weights.sum(axis=1) + 1 <= shorter).any()
    ]
    assert len(mixed) <= 1


def test_weights_are_one_at_modelled_targets_alone(tokenizer, corpus):
  batch = _take(batching.train_batches(corpus, _settings(), seed=0), 1)[0]
  real = ~np.isin(batch.tokens, [tokenizer.bos, tokenizer.pad])
  np.testing.assert_array_equal(batch.weights, real.astype(np.float32))


@pytest.mark.parametrize('batch_size', [1, 8, 64, 500])
def test_evaluation_covers_each_text_once(corpus, batch_size):
  seen = []
  for batch, rows in batching.eval_batches(corpus, batch_size, _LENGTHS):
    assert batch.tokens.shape[0] == batch_size == len(rows)
    length = batch.tokens.shape[1]
    real = rows >= 0
    assert (batch.weights[~real] == 0).all()
    np.testing.assert_array_equal(
      batch.weights[real].sum(axis=1), corpus.lengths[rows[real]] - 1
    )
    np.testing.assert_array_equal(
      batch.tokens[real], corpus.tokens[rows[real], :length]
    )
    seen += rows[real].tolist()
  assert sorted(seen) == list(range(len(corpus.rows)))


def test_padding_fraction_is_that_of_the_first_epoch(tokenizer, corpus):
  settings = _settings()
  count = batching.batches_per_epoch(corpus, settings)
  batches = _take(batching.train_batches(corpus, settings, seed=5), count)
  padding = sum((b.tokens == tokenizer.pad).sum() for b in batches)
  places = sum(b.tokens.size for b in batches)
  assert batching.padding_fraction(corpus, settings, seed=5) == pytest.approx(
    padding / places
  )


def test_typed_texts_make_one_batch_of_the_smallest_length(tokenizer):
  batch = corpora.batch_of(['w1', 'w1 w2 w3 w4 w5'], tokenizer, _settings())
  assert batch.tokens.shape == (2, 10)
  assert batch.weights.sum(axis=1).tolist() == [2, 6]
  one = corpora.batch_of(['w1'], tokenizer, _settings())
  assert one.tokens.shape == (1, 6)


def test_a_typed_text_that_is_too_long_is_cut_with_a_warning(tokenizer, caplog):
  with caplog.at_level(logging.WARNING):
    batch = corpora.batch_of([' '.join(_WORDS)], tokenizer, _settings())
  assert batch.tokens.shape == (1, 16)
  assert '1 of 1 texts truncated to 14 tokens' in caplog.text


def test_rows_that_fill_a_batch_are_copies_and_not_counted(tokenizer, caplog):
  texts = [' '.join(_WORDS), 'w1', 'w2']
  with caplog.at_level(logging.WARNING):
    batch = corpora.batch_of(texts, tokenizer, _settings(), rows=4)
  assert '1 of 3 texts truncated' in caplog.text
  assert len(batch.tokens) == 4
  np.testing.assert_array_equal(batch.tokens[3], batch.tokens[0])
  np.testing.assert_array_equal(batch.weights[3], batch.weights[0])


@pytest.fixture(name='apart', scope='module')
def _apart(texts, tokenizer):
  """Read by characters, written by words."""
  settings = tokenizers.TokenizerSettings(
    kind='char', vocab_size=99, path='', added=()
  )
  own = tokenizers.train(settings, texts)
  return corpora.tokenize(texts, tokenizer, _settings(), own), own


def _read_what_is_written(batch, tokenizer, own):
  for row, ids in enumerate(batch.tokens):
    read = batch.encoder.tokens[row]
    size = int(batch.encoder.visible[row].sum())
    assert read[0] == own.bos and read[size - 1] == own.eos
    assert (read[size:] == own.pad).all() and len(read) == 8
    assert own.decode(read) == tokenizer.decode(ids)[:6]


def test_an_encoder_may_read_the_texts_by_tokens_of_its_own(apart, tokenizer):
  corpus, own = apart
  for batch in _take(batching.train_batches(corpus, _settings(), seed=1), 9):
    _read_what_is_written(batch, tokenizer, own)
  for batch, _ in batching.eval_batches(corpus, 8, _LENGTHS):
    _read_what_is_written(batch, tokenizer, own)


@pytest.mark.parametrize('text', ['', 'nothing known here', '<eos>'])
def test_a_text_without_a_known_token_is_named(tokenizer, text, caplog):
  assert corpora.unknown(['w1', text, 'w1 nothing'], tokenizer) == [text]
  with caplog.at_level(logging.WARNING):
    batch = corpora.batch_of([text, 'w1'], tokenizer, _settings())
  assert f'no token of {text!r} is in the vocabulary' in caplog.text
  assert batch.weights.sum(axis=1).min() >= 1


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'batch_size': 0}, 'pipeline.batch_size is 0'),
    ({'condition_length': 0}, 'pipeline.condition_length is 0'),
    ({'encoder_length': 2}, 'pipeline.encoder_length is 2'),
    ({'lengths': ()}, 'pipeline.lengths has 0'),
    ({'lengths': (4, 5, 6, 7, 8)}, 'pipeline.lengths has 5'),
    ({'lengths': (8, 4)}, 'ascending'),
    ({'lengths': (2, 4)}, 'at least 3'),
    ({'overlong': 'wrap'}, "pipeline.overlong is 'wrap'"),
    ({'workers': -1}, 'pipeline.workers is -1'),
  ],
)
def test_settings_name_the_mistake(changes, message):
  with pytest.raises(errors.UserError, match=message):
    _settings(**changes)


def test_what_cannot_be_batched_is_an_error(corpus, tokenizer):
  with pytest.raises(errors.UserError, match='exceeds the 301'):
    batching.train_batches(corpus, _settings(batch_size=302), seed=0)
  with pytest.raises(errors.UserError, match='does not divide over 3'):
    batching.train_batches(corpus, _settings(), seed=0, process_count=3)
  with pytest.raises(errors.UserError, match='empty'):
    corpora.tokenize([], tokenizer, _settings())
  with pytest.raises(errors.UserError, match='all 1 texts are longer'):
    corpora.tokenize([' '.join(_WORDS)], tokenizer, _settings(overlong='drop'))


@pytest.mark.slow
def test_worker_processes_give_the_same_batches(corpus):
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
  threads = _take(batching.train_batches(corpus, _settings(), seed=0), 40)
  first = batching.train_batches(corpus, _settings(workers=2), seed=0)
  head = list(itertools.islice(first, 11))
  state = first.get_state()
  first.close()
  second = batching.train_batches(corpus, _settings(workers=2), seed=0)
  second.set_state(state)
  assert _equal(head + _take(second, 29), threads)


_WITH_WORKERS = """
import itertools, multiprocessing, os, signal
from absl import flags
from lvdecode.text import batching, corpora, pipeline, tokenizers

if __name__ == '__main__':
  flags.FLAGS.mark_as_parsed()
  kind = dict(kind='word', vocab_size=9, path='', added=())
  texts = [f'w{n % 4}' for n in range(64)]
  tokenizer = tokenizers.train(tokenizers.TokenizerSettings(**kind), texts)
  settings = pipeline.PipelineSettings(
    batch_size=8,
    lengths=(4,),
    overlong='refuse',
    encoder_length=8,
    condition_length=8,
    workers=2,
  )
  corpus = corpora.tokenize(texts, tokenizer, settings)
  batches = batching.train_batches(corpus, settings, seed=0)
  for _ in range(settings.workers):  # one of each: all have begun
    next(batches)
  workers = [process.pid for process in multiprocessing.active_children()]
  for number in (signal.SIGINT, signal.SIGTERM):
    for worker in workers:
      os.kill(worker, number)
  # More than lie ready.
  print(sum(1 for _ in itertools.islice(batches, 200)), *workers, flush=True)
  os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_workers_outlive_a_signal_and_not_their_run(tmp_path):
  path = tmp_path / 'train.py'
  path.write_text(_WITH_WORKERS)
  done = subprocess.run(
    [sys.executable, path], cwd=house.ROOT, stdout=subprocess.PIPE, check=False
  )
  count, *workers = map(int, done.stdout.split())
  assert (count, len(workers)) == (200, 2)
  until = time.monotonic() + 20
  while any(pathlib.Path(f'/proc/{worker}').exists() for worker in workers):
    assert time.monotonic() < until, 'a worker is left'
    time.sleep(0.1)
