"""A plain GPT on any text by byte-level BPE: a decoder to adapt later.

The data are a folder with train.txt and, if there are, validation.txt and
test.txt, a text a line.

  python -m experiments.run --config=configs/pretrain_lm.py \
    --config.data.path=DATA --workdir=runs/pretrain
  python -m experiments.export --workdir=runs/pretrain --to=models/small
"""

from configs import base


def get_config(arg: str = '') -> base.Config:
  c = base.get_config()
  c.data.source = 'files'
  c.tokenizer.kind = 'bpe'
  c.tokenizer.vocab_size = 8_192
  c.pipeline.batch_size = 64
  c.pipeline.lengths = (16, 32, 64)
  c.model.injection.points = ()
  c.model.decoder.width = 256
  c.model.encoder.width = 256
  c.training.steps = 10_000
  c.training.log_every = 50
  c.training.evaluate_every = 1_000
  c.training.checkpoint_every = 1_000
  return base.variants(c, arg, {})
