"""Your own text: .txt (one text a line), .tsv or .jsonl, byte-level BPE.

  python -m experiments.run --config=configs/text_files.py \
    --config.data.path=my_texts.txt --workdir=runs/mine
"""

from configs import base


def get_config(arg: str = '') -> base.Config:
  c = base.get_config()
  c.data.source = 'files'
  c.tokenizer.kind = 'bpe'
  c.tokenizer.vocab_size = 8_000
  c.pipeline.lengths = (16, 32, 48, 64)
  return base.variants(c, arg, {})
