"""How likely the texts are: the importance-weighted bound, and its course."""

from collections.abc import Callable, Iterator
import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int
import numpy as np
from rich import table as rich_table

from lvdecode import errors
from lvdecode.evaluation import split as split_lib
from lvdecode.tasks import inference
from lvdecode.text import pipeline

_AXIS = 'texts'
# Of a decoder call, by the kind of the device. Beyond it a CPU gets slower,
# as its caches are too small, and an accelerator no faster.
_CALL_BYTES = {'cpu': 32 * 2**20}
_CALL_BYTES_ELSEWHERE = 2 * 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
  """The bound with the first K samples of every text.

  Attributes:
    samples: K.
    nll: mean over texts, nats per sequence.
    error: its standard error over texts, nats per sequence.
    fall: by how much nll is below that of the point before, nats per sequence;
      NaN at the first.
    fall_error: standard error of `fall`; the texts and samples are the same,
      so it is far below `error`.
  """

  samples: int
  nll: float
  error: float
  fall: float
  fall_error: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Likelihood:
  """-log 1/K sum_k p(y, z_k) / q(z_k | y), z_k ~ q (Burda et al. 2016).

  Of a conditional model all of it is given x. An upper bound of -log p(y) in
  expectation that falls with K. A plain language model has its exact NLL here,
  and K = 1.

  Attributes:
    texts: N.
    samples: K.
    nll: mean of the bound over texts, nats per sequence.
    error: its standard error over texts, nats per sequence: how much another
      set of N texts would change it; those of one story come together.
    monte_carlo_error: how much other samples for the same texts would change
      it, nats per sequence, by the delta method; too small where a few samples
      carry all weight.
    effective_samples: (sum w)^2 / sum w^2, of K; mean over texts.
    least_effective_samples: the same of the text that has the least.
    curve: the bound along K, over nested prefixes of the same samples.
  """

  texts: int
  samples: int
  nll: float
  error: float
  monte_carlo_error: float
  effective_samples: float
  least_effective_samples: float
  curve: tuple[Point, ...]


def measure(
  split: split_lib.Split,
  *,
  samples: int,
  samples_a_call: int | None = None,
  advance: Callable[[float], None] = lambda texts: None,
) -> Likelihood:
  """The bound with K = `samples` of every text, over all local devices.

  Sample k of text n depends on n, k and the split's seed only: not on devices,
  batches or `samples_a_call`. The encoder runs once a text, and memory does
  not grow with K.

  Args:
    split: the texts and the model.
    samples: K, at least 1.
    samples_a_call: of each text in one decoder call; None for as many as are
      worth it on this device.
    advance: is called with the number of texts that were just finished, which
      may be a fraction.
  """
  if not split.latent_size:
    advance(split.count)
    exact = split.sample.nll.astype(np.float64)
    return _summary(
      split, [1], exact[:, None], np.ones(split.count), exact=True
    )
  devices = np.array(jax.local_devices())
  mesh = jax.sharding.Mesh(devices, (_AXIS,))
  everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  params = jax.device_put(split.params, everywhere)
  prefixes = _prefixes(samples)
  bound = np.empty((split.count, len(prefixes)))
  effective = np.empty(split.count)
  for batch, rows in split.batches():
    batch, rows = _filled(batch, rows, len(devices))
    real = rows >= 0
    weights = _weights(
      split, params, batch, rows, mesh, samples, samples_a_call
    )
    texts = int(real.sum())

    def some(share, texts=texts):
      advance(texts * share)

    log_means, ratio = _running(weights, prefixes, some)
    bound[rows[real]] = -log_means[real]
    effective[rows[real]] = ratio[real]
  return _summary(split, prefixes, bound, effective, exact=False)


def to_table(likelihood: Likelihood, title: str) -> rich_table.Table:
  """The course of the bound over K, so that one sees whether K was enough."""
  table = rich_table.Table(
    title=title,
    caption=(
      f'{likelihood.texts:,} texts; nats per sequence; ± is the standard error '
      f'over texts{_others(likelihood)}. Effective samples: '
      f'{likelihood.effective_samples:.1f} on average, '
      f'{likelihood.least_effective_samples:.1f} at least, of '
      f'{likelihood.samples}.'
    ),
  )
  table.add_column('K', justify='right')
  table.add_column('importance-weighted NLL', justify='right')
  table.add_column('below the line before', justify='right')
  for point in likelihood.curve:
    fall = ''
    if not math.isnan(point.fall):
      fall = split_lib.with_error(point.fall, point.fall_error, '.3f')
    nll = split_lib.with_error(point.nll, point.error, '.3f')
    table.add_row(f'{point.samples:,}', nll, fall)
  return table


def _others(likelihood: Likelihood) -> str:
  """What other samples would change, where there are some to tell by."""
  if math.isnan(likelihood.monte_carlo_error):
    return ''
  return (
    ', and other samples would change the last line by '
    f'{likelihood.monte_carlo_error:.3f}'
  )


def _prefixes(samples: int) -> list[int]:
  """1, 2, 5, 10, 20, 50, … and K itself."""
  steps = (
    factor * 10**power
    for power in range(len(str(samples)))
    for factor in (1, 2, 5)
  )
  return [step for step in steps if step < samples] + [samples]


def _filled(
  batch: pipeline.Batch, rows: Int[np.ndarray, ' B'], multiple: int
) -> tuple[pipeline.Batch, Int[np.ndarray, ' C']]:
  """With more fillers, so that the texts divide over the devices."""
  more = -len(rows) % multiple
  if not more:
    return batch, rows
  filled = jax.tree.map(
    lambda x: np.concatenate([x, np.repeat(x[:1], more, axis=0)]), batch
  )
  filled.weights[len(rows) :] = 0
  return filled, np.pad(rows, (0, more), constant_values=-1)


def _weights(
  split, params, batch, rows, mesh, samples, samples_a_call
) -> Iterator[Float[np.ndarray, 'k B']]:
  """The log weights of all K samples, a decoder call at a time."""
  if samples_a_call is None:
    samples_a_call = _samples_a_call(split.task, batch, mesh.size)
  calls = -(-samples // samples_a_call)
  size = -(-samples // calls)  # equal calls: one shape to compile
  keys = split.keys(rows, split_lib.LIKELIHOOD)
  reading = _read(split.task, params, batch)
  ahead = None
  for first in range(0, samples, size):
    call = _weigh(
      split.task, params, batch, reading, keys, first, samples=size, mesh=mesh
    )
    if ahead is not None:  # while the devices work on this call
      yield np.asarray(ahead, np.float64)
    ahead = call
  yield np.asarray(ahead, np.float64)[: samples - first]


def _samples_a_call(task, batch, devices: int) -> int:
  texts = len(batch.tokens) // devices
  platform = jax.local_devices()[0].platform
  room = _CALL_BYTES.get(platform, _CALL_BYTES_ELSEWHERE)
  return max(1, room // task.sample_bytes(batch, texts))


def _running(
  weights: Iterator[Float[np.ndarray, 'k B']],
  prefixes: list[int],
  advance: Callable[[float], None],
) -> tuple[Float[np.ndarray, 'B P'], Float[np.ndarray, ' B']]:
  """log 1/K sum_k w_k for each prefix K, and the effective samples of all."""
  done, columns = 0, []
  total = squares = np.asarray(-np.inf)
  for part in weights:
    if not np.isfinite(part).all():
      raise errors.UserError(
        'the importance weights of a text are not finite: choose an earlier '
        'checkpoint'
      )
    rows = np.logaddexp(total, np.logaddexp.accumulate(part, axis=0))
    total = rows[-1]
    squares = np.logaddexp(squares, np.logaddexp.reduce(2 * part, axis=0))
    columns += [
      rows[count - done - 1] - math.log(count)
      for count in prefixes
      if done < count <= done + len(part)
    ]
    done += len(part)
    advance(len(part) / prefixes[-1])
  return np.stack(columns, axis=1), np.exp(2 * total - squares)


def _summary(split, prefixes, bound, effective, *, exact) -> Likelihood:
  texts = len(bound)
  curve = []
  for place, samples in enumerate(prefixes):
    fall = np.full(texts, math.nan)
    if place:
      fall = bound[:, place - 1] - bound[:, place]
    curve.append(
      Point(
        samples=samples,
        nll=float(bound[:, place].mean()),
        error=split_lib.standard_error(bound[:, place], split.groups),
        fall=float(fall.mean()),
        fall_error=split_lib.standard_error(fall, split.groups),
      )
    )
  # The relative variance of a mean of K weights, by the delta method that of
  # its logarithm. Rounding alone can make it negative.
  variance = np.maximum(1 / effective - 1 / prefixes[-1], 0.0)
  if prefixes[-1] == 1 and not exact:
    variance = np.full(texts, math.nan)  # one sample says nothing of others
  return Likelihood(
    texts=texts,
    samples=prefixes[-1],
    nll=curve[-1].nll,
    error=curve[-1].error,
    monte_carlo_error=math.sqrt(variance.sum()) / texts,
    effective_samples=float(effective.mean()),
    least_effective_samples=float(effective.min()),
    curve=tuple(curve),
  )


@functools.partial(jax.jit, static_argnames='task')
def _read(task, params, batch) -> inference.Reading:
  return task.read(params, batch)


@functools.partial(jax.jit, static_argnames=('task', 'samples', 'mesh'))
def _weigh(task, params, batch, reading, keys, first, *, samples, mesh):
  """Log weights of `samples` samples from number `first` on, [k, B]."""

  def share(params, batch, reading, keys, first):
    numbers = first + jnp.arange(samples)
    return task.weigh(params, batch, reading, keys, numbers)

  whole = jax.sharding.PartitionSpec()
  texts = jax.sharding.PartitionSpec(_AXIS)
  return jax.shard_map(
    share,
    mesh=mesh,
    in_specs=(whole, texts, texts, texts, whole),
    out_specs=jax.sharding.PartitionSpec(None, _AXIS),
    check_vma=False,  # no device asks another for anything
  )(params, batch, reading, keys, first)
