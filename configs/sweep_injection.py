"""Injection x layers x KL annealing: how to tell a decoder about z.

python -m experiments.sweep --config=configs/sweep_injection.py:study \
  --config.data.path=DATA/yelp_short --workdir=runs/injection
"""

import itertools

from configs import base

_POINTS = ('input', 'memory', 'softmax')
# Every subset of the three points, the paper's own form of softmax, and none.
_SUBSETS = tuple(
  subset
  for size in range(4)
  for subset in itertools.combinations(_POINTS, size)
) + (('fuse',),)
_ANNEALING = (
  {'objective.beta.kind': 'constant'},
  {'objective.beta.kind': 'linear'},
  {'objective.beta.kind': 'cyclical'},
)


def get_config(arg: str = '') -> base.Config:
  c = base.get_config()
  c.data.source = 'files'
  c.data.label_field = 'label'
  c.pipeline.batch_size = 128
  c.pipeline.lengths = (8, 11, 14, 17)
  c.model.decoder.width = 256
  c.model.encoder.width = 256
  c.model.decoder.positions = 32
  # What is left to see is what the injection and the annealing do.
  c.objective.free_bits.kind = 'none'
  c.objective.beta.duration = '5000 steps'
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
  c.objective.beta.duration = '1000 steps'
  c.training.steps = 2_000
  c.training.log_every = 100


def quick(c: base.Config) -> None:
  """Four runs of seconds on the embedded data."""
  base.quick(c)
  c.data.source = 'embedded'
  c.data.label_field = ''
  c.training.steps = 20
  c.training.evaluate_every = 10
  c.training.checkpoint_every = 10
  c.objective.beta.duration = '10 steps'


def sweep(add, arg: str = '') -> None:
  if arg == 'quick':
    for points in ((), ('memory',)):
      for seed in range(2):
        add({'model.injection.points': points, 'seed': seed})
    return
  for points in _SUBSETS:
    for layers in (2, 4, 6):
      for annealing in _ANNEALING:
        for seed in range(3):
          add(
            {
              'model.injection.points': points,
              'model.decoder.layers': layers,
              'seed': seed,
            }
            | annealing
          )
