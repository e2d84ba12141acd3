"""Yelp sentences of a label that is given: good or bad, and z says the rest.

The label is a condition of one token. Which label a text has is found by
Bayes' rule through the model. The data are those of configs/yelp_short.py.

  python -m experiments.run --config=configs/yelp_label.py \
    --config.data.path=DATA/yelp_short --workdir=runs/label
  python -m experiments.evaluate --workdir=runs/label --sections=classification
  python -m experiments.sample --workdir=runs/label --mode=complete --text=positive
"""

from configs import base
from configs import yelp_short


def get_config(arg: str = '') -> base.Config:
  c = base.get_config()
  yelp_short.sentences(c)
  c.data.condition_field = 'label'
  c.pipeline.condition_length = 1
  c.model.condition.routes = ('prefix',)
  c.objective.beta.duration = '50 %'
  c.objective.free_bits.kind = 'total'
  c.objective.free_bits.nats = 4.0
  c.training.steps = 4_000
  c.training.log_every = 50
  return base.variants(c, arg, {})
