"""Injection x layers x KL annealing: how to tell a decoder about z.

python -m experiments.sweep --config=configs/sweep_injection.py:study \
  --config.data.path=DATA/yelp_short --workdir=runs/injection \
  --samples=20 --texts=1024 --parallel=2

`:study` asks each question once, with small models; `:where` the first of them,
where z should enter, with three seeds and longer; without an argument every
combination is trained, for which a cluster is needed.
"""

import functools
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
  """Shorter yet, for more of them: a third of their time is compilation."""
  small(c)
  c.tokenizer.vocab_size = 5_000
  c.pipeline.lengths = (11, 17)
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
    _study(functools.partial(_add, add))
  else:
    subsets = ((), *_SINGLE, *_PAIRS, _POINTS, ('fuse',))
    _add(add, subsets, _ANNEALING, (2, 4, 6), range(3))


def _study(add) -> None:
  two, one = range(2), range(1)
  memory = ('memory',)
  # All set the same keys, which are a column each in the table.
  none = _NO_REMEDY
  # Where z enters, at the same rate.
  add(((), *_SINGLE, _POINTS), (_TARGET,), (2,), two, none)
  # Which annealing avoids collapse; the fourth is the memory above.
  add((memory,), _ANNEALING[:3], (2,), two, none)
  # Two cures more for what has collapsed, beta constant.
  for cure in (
    {'objective.free_bits.kind': 'dim_batch'},
    {'model.posterior.batch_norm': 0.5},
  ):
    add((memory,), (_CONSTANT,), (2,), two, none | cure)
  # What depth changes, beside a plain GPT of that depth.
  add(((), ('input',), memory), (_TARGET,), (4,), two, none)
  # Whether collapse is memory's alone, and worse in depth.
  add((memory,), (_CONSTANT,), (4,), one, none)
  add((('input',), ('softmax',)), (_CONSTANT,), (2,), one, none)


def _add(add, subsets, annealings, layers, seeds, remedies=None) -> None:
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
      | (remedies or {})
      | {'seed': seed}
    )
