"""Is z used, where does it enter, and what of the text does it say?"""

from collections.abc import Callable, Mapping
import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Float
import numpy as np
from rich import table as rich_table

from lvdecode.evaluation import collapse
from lvdecode.evaluation import split as split_lib
from lvdecode.latent import probes
from lvdecode.tasks import noise

_FOLLOWED = 256  # texts
_SHOWN = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # positions, in the table


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
  """What another way of telling z does to -log p(y | z).

  Attributes:
    nll: mean over texts, nats per sequence.
    gap: nll less that of the text's own z told everywhere.
    error: standard error of `gap` over texts.
  """

  nll: float
  gap: float
  error: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Position:
  """The worth of a text's own z at one position, nats a token.

  Attributes:
    position: 1 for the first token that is predicted.
    texts: how many have a token there; EOS counts.
    nll: mean of -log p(y_t | y_<t, z), z ~ q(z | y).
    prior_gain: mean of the same with z ~ p(z), less nll.
    shuffled_gain: mean of the same with another text's z, less nll; None for a
      split of one text.
  """

  position: int
  texts: int
  nll: float
  prior_gain: float
  shuffled_gain: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Use:
  """NLL, nats per sequence, as z or the way it is told changes.

  Attributes:
    texts: N.
    own_nll: -log p(y | z), z ~ q(z | y).
    shuffled: z of another text of the split, every z used once; None for a
      split of one text, which cannot be shuffled. Where priors are learned it
      is moved from the other text's prior to the own (`OneSample.of`).
    zeroed: z at the prior's mean, 0 where it is N(0, I).
    prior: z ~ p(z), the text's own prior.
    knocked_out: by injection point, z told at all points but this one.
    alone: by injection point, z told at this one only.
    memory_mass: [L][H], share of the attention that goes to z's memory, mean
      over real query positions, then over texts; None without memory.
    even_mass: the share if attention were even over all that a query sees.
    positions: the worth of z by position.
    verdict: 'collapsed' where the own z saves less than 0.1 nats over another
      text's (the prior's, if there is no other text), 'used' from 1 nat on,
      'partly used' between; 'no latent' for a plain language model.
    evidence: what the verdict rests on, in words.
  """

  texts: int
  own_nll: float
  shuffled: Change | None
  zeroed: Change | None
  prior: Change | None
  knocked_out: Mapping[str, Change]
  alone: Mapping[str, Change]
  memory_mass: tuple[tuple[float, ...], ...] | None
  even_mass: float | None
  positions: tuple[Position, ...]
  verdict: collapse.Verdict
  evidence: tuple[str, ...]


def measure(
  split: split_lib.Split,
  advance: Callable[[float], None] = lambda texts: None,
) -> Use:
  """About as many decoder passes as 5 + 2 for each injection point."""
  own_nll = split_lib.mean(split.sample.nll)
  if not split.latent_size:
    advance(split.count)
    return Use(
      texts=split.count,
      own_nll=own_nll,
      shuffled=None,
      zeroed=None,
      prior=None,
      knocked_out={},
      alone={},
      memory_mass=None,
      even_mass=None,
      positions=(),
      verdict='no latent',
      evidence=('without z nothing can be told',),
    )
  told = split.task.points
  parts = 2 + ('memory' in told)

  def some(texts):
    advance(texts / parts)

  tokens = _by_token(split, some)
  sums = {name: values.sum(axis=1) for name, values in tokens.items()}
  changes = {
    name: _change(nll, sums['own'], split)
    for name, nll in sums.items()
    if name != 'own'
  }
  by_points = _by_points(split, some) | {told: sums['own']}
  partial = {
    points: _change(nll, sums['own'], split)
    for points, nll in by_points.items()
  }
  knocked_out = {point: partial[_without(told, point)] for point in told}
  mass = even = None
  if 'memory' in told:
    mass, even = _memory(split, some)
  shuffled = changes.get('shuffled')
  return Use(
    texts=split.count,
    own_nll=own_nll,
    shuffled=shuffled,
    zeroed=changes['zeroed'],
    prior=changes['prior'],
    knocked_out=knocked_out,
    alone={point: partial[(point,)] for point in told},
    memory_mass=mass,
    even_mass=even,
    positions=_positions(tokens, split.corpus.lengths),
    verdict=collapse.verdict((shuffled or changes['prior']).gap),
    evidence=_evidence(split, shuffled, changes['prior'], knocked_out),
  )


def to_table(use: Use, title: str) -> rich_table.Table:
  """What z is worth, by how it is told and at which position."""
  table = rich_table.Table(
    title=title, caption=f'z is {use.verdict}: {"; ".join(use.evidence)}'
  )
  table.add_column('-log p(y | z), nats per sequence')
  table.add_column('value', justify='right')
  table.add_column('change', justify='right')
  table.add_row("the text's own z", f'{use.own_nll:.2f}', '')
  for name, change in _changes(use).items():
    if change is None:
      table.add_row(name, 'one text cannot be shuffled', '')
      continue
    gap = split_lib.with_error(change.gap, change.error, '+.2f')
    table.add_row(name, f'{change.nll:.2f}', gap)
  table.add_section()
  for layer, heads in enumerate(use.memory_mass or ()):
    shown = ' '.join(f'{100 * mass:.1f}' for mass in heads)
    name = f'attention on memory, layer {layer}, % a head'
    table.add_row(name, shown, f'even {100 * (use.even_mass or 0.0):.1f}')
  table.add_section()
  for place in use.positions:
    if place.position in _SHOWN:
      table.add_row(
        f'token {place.position} of {place.texts:,} texts, nats a token; z from '
        'the prior',
        f'{place.nll:.2f}',
        f'{place.prior_gain:+.2f}',
      )
  return table


def _changes(use: Use) -> dict[str, Change | None]:
  """The rows that say something."""
  if use.verdict == 'no latent':
    return {}
  rows = {
    "another text's z": use.shuffled,
    'z from the prior': use.prior,
    "z = the prior's mean": use.zeroed,
  }
  if len(use.alone) == 1:
    return rows | {'not told at all': next(iter(use.knocked_out.values()))}
  return (
    rows
    | {f'not told at {point}': x for point, x in use.knocked_out.items()}
    | {f'told at {point} only': x for point, x in use.alone.items()}
  )


def followed(split: split_lib.Split) -> dict[str, float]:
  """The cheap ones of `Use`, to be followed while a model is trained.

  `shuffled_gap` (where there is another text) and `zeroed_gap` of all texts.
  What needs programs of its own is of the first 256 and one static length: by
  injection point `knocked_out_POINT`, the gap without it, and by layer
  `memory_mass_LAYER`, the mean share of its heads.
  """
  texts, neighbour = split.sample, split.neighbour
  latents = {'zeroed_gap': texts.prior_mean}
  if neighbour is not None:
    latents['shuffled_gap'] = texts.of(neighbour)
  found = {
    name: split_lib.mean(_nll(split, z, None) - texts.nll)
    for name, z in latents.items()
  }
  few = split.few(_FOLLOWED)
  for point in split.task.points:
    rest = _nll(few, few.sample.z, _without(split.task.points, point))
    found[f'knocked_out_{point}'] = split_lib.mean(rest - few.sample.nll)
  if 'memory' in split.task.points:
    for layer, heads in enumerate(_memory(few, lambda texts: None)[0]):
      found[f'memory_mass_{layer}'] = sum(heads) / len(heads)
  return found


def untold_nll(split: split_lib.Split) -> float:
  """-log p(y) by the decoder told nothing, nats per sequence.

  Of a pretrained decoder before the first step: what it begins from.
  """
  return split_lib.mean(_nll(split, split.sample.z, ()))


def _nll(split, z: Float[np.ndarray, 'N Z'], points) -> Float[np.ndarray, ' N']:
  """-log p(y | z) of every text, told its row of z at these points."""

  def one_batch(batch, rows):
    values = _token_nll(split.task, split.params, batch, z[rows], points)
    return values.sum(axis=1)

  return split.per_text(one_batch)


def _without(points: tuple[str, ...], silent: str) -> tuple[str, ...]:
  return tuple(point for point in points if point != silent)


def _change(
  nll: Float[np.ndarray, ' N'],
  own: Float[np.ndarray, ' N'],
  split: split_lib.Split,
) -> Change:
  return Change(
    nll=split_lib.mean(nll),
    gap=split_lib.mean(nll - own),
    error=split_lib.standard_error(nll - own, split.groups),
  )


def _by_token(split, advance) -> dict[str, Float[np.ndarray, 'N t']]:
  """-log p(y_t | y_<t, z) of every text, by whose z it is told."""
  texts, width = split.sample, split.corpus.tokens.shape[1] - 1
  names = ['own', 'prior', 'zeroed']
  others = None
  if split.neighbour is not None:
    names.append('shuffled')
    others = texts.of(split.neighbour)

  def one_batch(batch, rows):
    latents = {
      'own': texts.z[rows],
      'prior': _prior_sample(
        split.task, split.params, batch, split.keys(rows, split_lib.PRIOR)
      ),
      'zeroed': texts.prior_mean[rows],
    }
    if others is not None:
      latents['shuffled'] = others[rows]
    nll = [
      _token_nll(split.task, split.params, batch, latents[name], None)
      for name in names
    ]
    room = ((0, 0), (0, 0), (0, width - nll[0].shape[1]))
    return jnp.pad(jnp.stack(nll, axis=1), room)

  whole = split.per_text(one_batch, advance).astype(np.float64)
  return {name: whole[:, place] for place, name in enumerate(names)}


def _by_points(split, advance) -> dict[tuple[str, ...], np.ndarray]:
  """-log p(y | own z) of every text, told at some of the points only."""
  told = split.task.points
  # A set once: of two points, one alone is the other knocked out.
  some = {_without(told, point) for point in told} | {(p,) for p in told}
  sets = sorted(some - {told})

  def one_batch(batch, rows):
    z = split.sample.z[rows]
    return jnp.stack(
      [
        _token_nll(split.task, split.params, batch, z, points).sum(axis=1)
        for points in sets
      ],
      axis=1,
    )

  return dict(zip(sets, split.per_text(one_batch, advance).T, strict=True))


def _memory(split, advance) -> tuple[tuple[tuple[float, ...], ...], float]:
  """Attention on memory [L][H], and the share it would have if even."""

  others = np.empty(split.count, np.int64)

  def one_batch(batch, rows):
    seen = np.asarray(split.task.others_seen(batch))
    others[rows[rows >= 0]] = seen[rows >= 0]
    return _memory_mass(split.task, split.params, batch, split.sample.z[rows])

  mass = split.per_text(one_batch, advance).mean(axis=0, dtype=np.float64)
  slots = split.task.model.settings.injection.memory_slots
  queries = split.corpus.lengths.astype(np.int64) - 1
  keys = slots + others[:, None] + np.arange(1, queries.max() + 1)[None]
  even = np.cumsum(slots / keys, axis=1)[np.arange(split.count), queries - 1]
  even = even / queries
  return tuple(tuple(map(float, layer)) for layer in mass), float(even.mean())


def _positions(tokens, lengths) -> tuple[Position, ...]:
  positions = []
  for place in range(int(lengths.max()) - 1):
    there = lengths > place + 1
    means = {
      name: float(nll[there, place].mean()) for name, nll in tokens.items()
    }
    own = means['own']
    positions.append(
      Position(
        position=place + 1,
        texts=int(there.sum()),
        nll=own,
        prior_gain=means['prior'] - own,
        shuffled_gain=means['shuffled'] - own if 'shuffled' in means else None,
      )
    )
  return tuple(positions)


def _evidence(split, shuffled, prior, knocked_out) -> tuple[str, ...]:
  judged, whose = (
    (prior, "the prior's") if shuffled is None else (shuffled, "another text's")
  )
  mean = split.sample.from_prior(split.sample.mean)
  found = [
    f'{whose} z costs {split_lib.with_error(judged.gap, judged.error)} nats '
    f'(collapsed below {collapse.SILENT}, used from {collapse.USED} on)',
    f'KL {split_lib.mean(split.sample.kl.sum(axis=1)):.2f} nats',
    f'{probes.active_units(mean)} of {mean.shape[1]} units active',
  ]
  silent = [
    p for p, change in knocked_out.items() if change.gap < collapse.SILENT
  ]
  if silent and len(knocked_out) > 1:
    found.append(f'knocked out, {", ".join(silent)} would not be missed')
  if shuffled is None:
    found.append('one text cannot be shuffled')
  return tuple(found)


@functools.partial(jax.jit, static_argnames='task')
def _prior_sample(task, params, batch, keys):
  prior = task.prior(params, batch)
  return prior.sample(noise.normal(keys, prior.mean.shape[1:]))


@functools.partial(jax.jit, static_argnames=('task', 'points'))
def _token_nll(task, params, batch, z, points):
  return task.token_nll(params, batch, z, points)


@functools.partial(jax.jit, static_argnames='task')
def _memory_mass(task, params, batch, z):
  return task.memory_mass(params, batch, z)
