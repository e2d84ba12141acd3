"""Short Yelp sentences: memory and input injection against a plain GPT.

The data are a folder with train.tsv, validation.tsv and test.tsv, a line a
sentence: label, tab, words.

  python -m experiments.run --config=configs/yelp_short.py \
    --config.data.path=DATA/yelp_short --workdir=runs/yelp
  python -m experiments.run --config=configs/yelp_short.py:lm \
    --config.data.path=DATA/yelp_short --workdir=runs/yelp_lm
"""

from configs import base


def get_config(arg: str = '') -> base.Config:
  c = base.get_config()
  sentences(c)
  # A slow rise: the code forms while the KL is cheap, and later shrinks.
  c.objective.beta.duration = '2500 steps'
  c.objective.free_bits.kind = 'total'
  c.objective.free_bits.nats = 4.0
  c.training.steps = 4_000
  c.training.log_every = 50
  c.training.evaluate_every = 1_000
  c.training.checkpoint_every = 500
  return base.variants(c, arg, {'lm': plain})


def sentences(c: base.Config) -> None:
  """The data, and a model of a size for them."""
  c.data.source = 'files'
  c.data.label_field = 'label'
  c.pipeline.batch_size = 128
  c.pipeline.lengths = (8, 11, 14, 17)
  c.model.decoder.width = 256
  c.model.encoder.width = 256
  c.model.decoder.positions = 32


def plain(c: base.Config) -> None:
  """The same decoder and budget without z."""
  c.model.injection.points = ()
