"""A set of the TFDS catalogue: AG News, its descriptions, its four topics.

TFDS downloads and prepares it once, under $TFDS_DATA_DIR or the workdir.

  python -m experiments.run --config=configs/ag_news.py --workdir=runs/news
"""

from configs import base


def get_config(arg: str = '') -> base.Config:
  c = base.get_config()
  c.data.source = 'tfds:ag_news_subset'
  c.data.text_field = 'description'
  c.data.label_field = 'label'
  c.tokenizer.kind = 'bpe'
  c.pipeline.lengths = (32, 48, 64, 96)
  c.model.decoder.positions = 96
  return base.variants(c, arg, {})
