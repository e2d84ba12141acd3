"""Injection x layers x KL annealing: how to tell a decoder about z.

python -m experiments.sweep --config=configs/sweep_injection.py:study \
  --config.data.path=DATA/yelp_short --workdir=runs/injection \
  --samples=50 --texts=2048 --parallel=2
"""

import itertools

from configs import base
from configs import yelp_short

_POINTS = ('input', 'memory', 'softmax')
_SINGLE = tuple((point,) for point in _POINTS)
_PAIRS = tuple(itertools.combinations(_POINTS, 2))
_TARGET = {'objective.beta.kind': 'constant', 'objective.rate.kind': 'dual'}
_ANNEALING = (
  {'objective.beta.kind': 'constant', 'objective.rate.kind': 'none'},
  {'objective.beta.kind': 'linear', 'objective.rate.kind': 'none'},
  {'objective.beta.kind': 'cyclical', 'objective.rate.kind': 'none'},
  _TARGET,
)


def get_config(arg: str = '') -> base.Config:
  c = base.get_config()
  yelp_short.sentences(c)
  c.objective.beta.duration = '50 %'
  # What is left to see is what the injection and the annealing do.
  c.objective.free_bits.kind = 'none'
  c.objective.rate.target = 4.0
  c.training.steps = 10_000
  c.training.evaluate_every = 1_000
  c.training.checkpoint_every = 1_000
  c.training.keep = 1
  return base.variants(c, arg, {'study': study, 'quick': quick})


def study(c: base.Config) -> None:
  """Small models and short budgets: it is the contrasts that count."""
  c.pipeline.batch_size = 64
  c.model.decoder.layers = 2
  c.model.decoder.width = 128
  c.model.encoder.width = 128
  c.training.steps = 1_500
  c.training.log_every = 100
  c.training.evaluate_every = 500
  c.training.checkpoint_every = 500


def quick(c: base.Config) -> None:
  """Runs of seconds on the embedded data."""
  base.quick(c)
  c.data.source = 'embedded'
  c.data.label_field = ''
  c.objective.beta.duration = '50 %'
  c.training.steps = 20
  c.training.evaluate_every = 10
  c.training.checkpoint_every = 10


def sweep(add, arg: str = '') -> None:
  if arg == 'quick':
    _add(add, ((), ('memory',)), _ANNEALING[1:2], (2,), range(2))
  elif arg == 'study':
    # The main contrast first: where z enters, at the same rate.
    _add(add, ((), *_SINGLE, _POINTS), (_TARGET,), (2,), range(3))
    _add(add, _SINGLE, _ANNEALING[:3], (2,), range(2))
    _add(add, _SINGLE, (_TARGET,), (4, 6), range(2))
    _add(add, (*_PAIRS, ('fuse',)), (_TARGET,), (2,), range(2))
  else:
    subsets = ((), *_SINGLE, *_PAIRS, _POINTS, ('fuse',))
    _add(add, subsets, _ANNEALING, (2, 4, 6), range(3))


def _add(add, subsets, annealings, layers, seeds) -> None:
  for points, annealing, depth, seed in itertools.product(
    subsets, annealings, layers, seeds
  ):
    if points:
      weighting = annealing
    elif annealing is annealings[0]:
      # Without z there is no KL to weigh: one run stands for all.
      weighting = _ANNEALING[0]
    else:
      continue
    add(
      {'model.injection.points': points, 'model.decoder.layers': depth}
      | weighting
      | {'seed': seed}
    )
