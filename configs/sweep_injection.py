"""Injection x layers x KL annealing: how to tell a decoder about z.

python -m experiments.sweep --config=configs/sweep_injection.py:study \
  --config.data.path=DATA/yelp_short --workdir=runs/injection \
  --samples=20 --texts=1024 --parallel=2

`:study` asks each question once, with small models; `:where` the first of them,
where z should enter, with three seeds and longer; without an argument every
combination is trained, for which a cluster is needed.
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
_CONSTANT = _ANNEALING[0]
_NO_REMEDY = {
  'objective.free_bits.kind': 'none',
  'model.posterior.batch_norm': 0.0,
}


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
  # -ELBO would choose the checkpoint that uses z least.
  c.training.best_metric = ''
  return base.variants(c, arg, {'study': study, 'where': small, 'quick': quick})


def small(c: base.Config) -> None:
  """Small models and short budgets: it is the contrasts that count."""
  c.pipeline.batch_size = 64
  c.model.decoder.layers = 2
  c.model.decoder.width = 128
  c.model.encoder.width = 128
  c.training.steps = 1_500
  c.training.log_every = 100
  c.training.evaluate_every = 500
  c.training.checkpoint_every = 500


def study(c: base.Config) -> None:
  """Shorter yet, for more of them."""
  small(c)
  c.training.steps = 1_000
  c.training.evaluate_every = 1_000
  c.evaluation.texts = 1_024


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
  chosen = arg.split(',')
  if 'quick' in chosen:
    _add(add, ((), ('memory',)), _ANNEALING[1:2], (2,), range(2))
  elif 'where' in chosen:
    _add(add, ((), *_SINGLE, _POINTS), (_TARGET,), (2,), range(3))
  elif 'study' in chosen:
    # All set the same keys: a column each in the table.
    _study(lambda point: add(_ordered(_NO_REMEDY | point)))
  else:
    subsets = ((), *_SINGLE, *_PAIRS, _POINTS, ('fuse',))
    _add(add, subsets, _ANNEALING, (2, 4, 6), range(3))


def _study(add) -> None:
  two, one = range(2), range(1)
  memory = ('memory',)
  # Where z enters, at the same rate.
  _add(add, ((), *_SINGLE, _POINTS), (_TARGET,), (2,), two)
  # Which annealing avoids collapse; the fourth is the memory above.
  _add(add, (memory,), _ANNEALING[:3], (2,), two)
  # Two cures more for what has collapsed, beta constant.
  for cure in (
    {'objective.free_bits.kind': 'dim_batch'},
    {'model.posterior.batch_norm': 0.5},
  ):
    _add(lambda p, cure=cure: add(p | cure), (memory,), (_CONSTANT,), (2,), two)
  # What depth changes, beside a plain GPT of that depth.
  _add(add, ((), ('input',), memory), (_TARGET,), (6,), two)
  # Whether collapse is memory's alone, and worse in depth.
  _add(add, (memory,), (_CONSTANT,), (6,), one)
  _add(add, (('input',), ('softmax',)), (_CONSTANT,), (2,), one)


def _ordered(point) -> dict:
  """As the names of the folders are read: what is told first, the seed last."""
  last = (*_NO_REMEDY, 'seed')
  first = {key: value for key, value in point.items() if key not in last}
  return first | {key: point[key] for key in last}


def _add(add, subsets, annealings, layers, seeds) -> None:
  for points, annealing, depth, seed in itertools.product(
    subsets, annealings, layers, seeds
  ):
    if points:
      weighting = annealing
    elif annealing is annealings[0]:
      # Without z there is no KL to weigh: one run stands for all.
      weighting = _CONSTANT
    else:
      continue
    add(
      {'model.injection.points': points, 'model.decoder.layers': depth}
      | weighting
      | {'seed': seed}
    )
