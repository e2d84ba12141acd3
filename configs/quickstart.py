"""A small latent GPT on the embedded reviews and stories, in minutes.

make quickstart
python -m experiments.run --config=configs/quickstart.py --workdir=runs/a
"""

from configs import base


def get_config(arg: str = '') -> base.Config:
  c = base.get_config()
  c.tokenizer.vocab_size = 4_000
  c.pipeline.lengths = (10, 14, 22)  # the grammar's short, medium and long
  c.objective.beta.duration = '800 steps'
  c.objective.free_bits.kind = 'total'
  c.objective.free_bits.nats = 6.0
  c.training.steps = 1_200
  c.training.evaluate_every = 300
  c.training.checkpoint_every = 300
  c.evaluation.texts = 1_024
  return base.variants(c, arg, {})
