"""Remedies against collapse, where theory expects it: memory alone, beta 1.

python -m experiments.sweep --config=configs/sweep_remedies.py \
  --config.data.path=DATA/yelp_short --workdir=runs/remedies \
  --samples=50 --texts=2048 --parallel=2
"""

from configs import base
from configs import sweep_injection

_FREE = {'objective.free_bits.kind': 'dim_batch'}
# What each changes; docs/remedies.md and docs/objective.md say how they work.
_REMEDIES = (
  {},
  {'objective.beta.kind': 'linear'},
  {'objective.beta.kind': 'cyclical'},
  _FREE,
  {'objective.rate.kind': 'dual'},
  {'objective.rate.kind': 'pi'},
  {'model.posterior.batch_norm': 0.5},  # 32 * 0.5^2 / 2 = 4 nats at least
  {'model.posterior.min_rate': 4.0},
  {'objective.pretraining_steps': 500} | _FREE,
  {'objective.bag_of_words': 1.0},
  {'objective.word_dropout': 0.4},
  # It ends at an evaluation, so there must be some.
  {
    'training.encoder_updates': 5,
    'training.evaluate_every': 100,
    'evaluation.texts': 512,
  },
)


def get_config(arg: str = '') -> base.Config:
  c = sweep_injection.get_config('where')
  c.model.injection.points = ('memory',)
  c.objective.beta.kind = 'constant'
  return base.variants(c, arg, {'quick': sweep_injection.quick})


def sweep(add, arg: str = '') -> None:
  remedies = _REMEDIES[:2] if arg == 'quick' else _REMEDIES
  for remedy in remedies:
    for seed in range(2):
      add(remedy | {'seed': seed})
