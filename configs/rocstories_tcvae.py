"""Any sentence of a five-sentence story, given the other four: T-CVAE's form.

Wang & Wan 2019: a Transformer whose encoder and decoder are the same blocks, a
learned prior, z joined to the state before the vocabulary. The data are a
folder with train.jsonl, validation.jsonl and test.jsonl, a line a story:
{"sentences": ["…", "…", "…", "…", "…"]}.

  python -m experiments.run --config=configs/rocstories_tcvae.py \
    --config.data.path=DATA/rocstories --workdir=runs/tcvae
  python -m experiments.evaluate --workdir=runs/tcvae \
    --sections=likelihood,information,use,completion
  python -m experiments.sample --workdir=runs/tcvae --mode=fill --num=3 \
    --text="Tom was hungry. <blank> It was burnt. He threw it away. He ate out."

Variants: 'ending' (the last sentence alone is asked for), 'plain' (the same
Transformer without z), 'memory', 'input' and 'softmax' (z told there instead),
'encoded' (an encoder of its own, whose states are slots of the decoder's
memory). The sweep compares them:

  python -m experiments.sweep --config=configs/rocstories_tcvae.py \
    --config.data.path=DATA/rocstories --workdir=runs/stories --samples=50 \
    --sections=completion
"""

import functools

from configs import base

_FORMS = ('fuse', 'memory', 'input', 'softmax')


def get_config(arg: str = '') -> base.Config:
  c = base.get_config()
  c.data.source = 'files'
  c.data.text_field = 'sentences'
  c.data.story = 'missing'
  c.tokenizer.kind = 'bpe'
  c.tokenizer.vocab_size = 5_000
  # A sentence is 21 tokens or shorter in 99 of 100 cases, four are 68.
  c.pipeline.lengths = (11, 13, 16, 28)
  c.pipeline.condition_length = 84
  c.model.decoder.width = 256
  c.model.decoder.positions = 128  # of condition and text
  c.model.encoder.kind = 'decoder'
  c.model.prior.kind = 'learned'
  c.model.condition.routes = ('prefix',)
  c.model.condition.segments = 5
  c.model.injection.points = ('fuse',)
  c.objective.beta.duration = '50 %'
  c.objective.free_bits.kind = 'total'
  c.objective.free_bits.nats = 4.0
  c.training.steps = 4_000
  c.training.log_every = 50
  variants = {
    'ending': ending,
    'plain': plain,
    'encoded': encoded,
    'quick': quick,
  }
  told = {form: functools.partial(tell, point=form) for form in _FORMS[1:]}
  return base.variants(c, arg, variants | told)


def ending(c: base.Config) -> None:
  """An example a story, not five."""
  c.data.story = 'ending'


def plain(c: base.Config) -> None:
  """The same Transformer and budget, without z."""
  c.model.injection.points = ()
  c.model.prior.kind = 'standard'


def tell(c: base.Config, point: str) -> None:
  """z enters elsewhere."""
  c.model.injection.points = (point,)


def encoded(c: base.Config) -> None:
  """Pseudo self-attention to the states of an encoder (Ziegler et al. 2019)."""
  c.model.encoder.kind = 'shared_embeddings'
  c.model.encoder.width = c.model.decoder.width
  c.model.condition.routes = ('memory',)


def quick(c: base.Config) -> None:
  base.quick(c)
  c.pipeline.lengths = (16, 28)


def sweep(add, arg: str = '') -> None:
  seeds = range(1 if 'quick' in arg else 3)
  for seed in seeds:
    add(
      {
        'model.injection.points': (),
        'model.prior.kind': 'standard',
        'seed': seed,
      }
    )
    for form in _FORMS:
      add(
        {
          'model.injection.points': (form,),
          'model.prior.kind': 'learned',
          'seed': seed,
        }
      )
