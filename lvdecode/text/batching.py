"""The order of batches: a pure function of (seed, i), for training and figures."""

from collections.abc import Iterator
import multiprocessing
import os
import signal
import sys
import threading
from typing import NamedTuple

import grain
from jaxtyping import Int
import numpy as np

from lvdecode import errors
from lvdecode.text import corpora
from lvdecode.text import pipeline


class _Plan(NamedTuple):
  """The batches of one epoch, in order."""

  rows: Int[np.ndarray, 'batches B']
  lengths: Int[np.ndarray, ' batches']


def _plan(
  corpus: corpora.Corpus,
  settings: pipeline.PipelineSettings,
  seed: int,
  epoch: int,
) -> _Plan:
  """Shuffles, sorts into lengths, and shuffles the resulting batches.

  N mod batch_size texts sit an epoch out, drawn from all of them in each epoch.
  What does not fill a batch of its length moves up to the next longer one.
  Which length comes when, and how many texts of each sit out, does not depend
  on the seed, so that runs of several seeds can be trained in one program.
  """
  count, rest = divmod(len(corpus.rows), settings.batch_size)
  # Sorting raw bits, whose stream NumPy promises never to change, where
  # `Generator.permutation` may: a run can resume under a later NumPy.
  bits = np.random.PCG64(np.random.SeedSequence((seed, epoch)))
  order = np.argsort(bits.random_raw(len(corpus.rows)), kind='stable')
  bucket = corpora.buckets(corpus.lengths[order], settings.lengths)
  of_all = np.random.PCG64(np.random.SeedSequence(epoch))
  shuffled = np.argsort(of_all.random_raw(count), kind='stable')
  drawn = np.argsort(of_all.random_raw(len(order)), kind='stable')[:rest]
  out = np.bincount(np.sort(bucket)[drawn], minlength=len(settings.lengths))
  batches, lengths = [], []
  waiting = order[:0]
  for index, length in enumerate(settings.lengths):
    waiting = np.concatenate([waiting, order[bucket == index][out[index] :]])
    full = len(waiting) // settings.batch_size
    here = waiting[: full * settings.batch_size]
    batches.append(here.reshape(full, settings.batch_size))
    lengths.append(np.full(full, length))
    waiting = waiting[len(here) :]
  return _Plan(
    np.concatenate(batches)[shuffled], np.concatenate(lengths)[shuffled]
  )


class _Batches:
  """Random access to the endless sequence of this process's batches."""

  def __init__(
    self,
    corpus: corpora.Corpus,
    settings: pipeline.PipelineSettings,
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

  def __getitem__(self, index: int) -> pipeline.Batch:
    epoch, position = divmod(
      index, batches_per_epoch(self._corpus, self._settings)
    )
    plan = self._plan(epoch)
    rows = plan.rows[position, self._shard]
    return corpora.batch(self._corpus, rows, int(plan.lengths[position]))

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


def batches_per_epoch(
  corpus: corpora.Corpus, settings: pipeline.PipelineSettings
) -> int:
  """Full batches in the corpus; UserError where there is not one."""
  size = settings.batch_size
  if size > len(corpus.rows):
    raise errors.UserError(
      f'pipeline.batch_size {size} exceeds the {len(corpus.rows)} training '
      'texts: lower it, or give more data'
    )
  return len(corpus.rows) // size


def train_batches(
  corpus: corpora.Corpus,
  settings: pipeline.PipelineSettings,
  seed: int,
  process_index: int = 0,
  process_count: int = 1,
) -> grain.DatasetIterator[pipeline.Batch]:
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
      grain.MultiprocessingOptions(num_workers=settings.workers),
      worker_init_fn=_follow,
    )
  return iter(dataset)


def _follow(index: int, count: int) -> None:
  """A worker that has begun ends with its run, not by a signal before it.

  Ctrl-C and Slurm signal all processes of a run, which takes some more batches
  until its last checkpoint; a run that is killed tells its workers nothing.
  """
  del index, count
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
  run = multiprocessing.parent_process()
  assert run is not None

  def outlived():
    run.join()
    os._exit(1)

  threading.Thread(target=outlived, daemon=True).start()


def eval_batches(
  corpus: corpora.Corpus, batch_size: int, lengths: tuple[int, ...]
) -> Iterator[tuple[pipeline.Batch, Int[np.ndarray, ' B']]]:
  """Each text exactly once, with the row of `corpus` it stands in.

  The last batch of each length is completed with copies of its first text
  whose weights are all 0 and whose row number is -1.
  """
  bucket = corpora.buckets(corpus.lengths, lengths)
  for index, length in enumerate(lengths):
    members = np.flatnonzero(bucket == index)
    for start in range(0, len(members), batch_size):
      rows = members[start : start + batch_size]
      filler = np.repeat(rows[:1], batch_size - len(rows))
      batch = corpora.batch(corpus, np.concatenate([rows, filler]), length)
      batch.weights[len(rows) :] = 0
      yield batch, np.concatenate([rows, np.full(len(filler), -1)])


def padding_fraction(
  corpus: corpora.Corpus, settings: pipeline.PipelineSettings, seed: int
) -> float:
  """Share of padding among the tokens of the first training epoch."""
  plan = _plan(corpus, settings, seed, 0)
  places = settings.batch_size * int(plan.lengths.sum())
  return 1 - int(corpus.lengths[plan.rows].sum()) / places
