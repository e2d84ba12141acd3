"""Penn Treebank, words in lower case (pip install 'lvdecode[ptb]').

python -m experiments.run --config=configs/ptb.py --workdir=runs/ptb
python -m experiments.run --config=configs/ptb.py:lm --workdir=runs/ptb_lm
"""

from configs import base


def get_config(arg: str = '') -> base.Config:
  c = base.get_config()
  c.data.source = 'ptb'
  c.pipeline.lengths = (16, 24, 36, 85)
  c.model.decoder.positions = 96
  c.model.decoder.layers = 3
  # Small and under dropout: 42,068 sentences are seen a dozen times.
  for part in (c.model.decoder, c.model.encoder):
    part.width = 192
    part.dropout = 0.2
  c.objective.beta.duration = '50 %'
  c.objective.free_bits.kind = 'total'
  c.objective.free_bits.nats = 4.2
  c.optimizer.learning_rate = 2e-3
  c.optimizer.warmup_steps = 400
  c.training.steps = 8_000
  c.training.ema = 0.998
  c.training.log_every = 100
  c.training.evaluate_every = 1_000
  c.training.checkpoint_every = 1_000
  return base.variants(c, arg, {'lm': plain})


def plain(c: base.Config) -> None:
  """The same decoder, regularisation and budget without z."""
  c.model.injection.points = ()
