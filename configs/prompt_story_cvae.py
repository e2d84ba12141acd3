"""A story from its prompt: TransformerCVAE's form (Fang et al. 2021).

z enters at three points and its prior is learned from the prompt, whose tokens
stand in front of the story. Of five-sentence stories (rocstories) the first
sentence is the prompt:

  python -m experiments.run --config=configs/prompt_story_cvae.py \
    --config.data.path=DATA/rocstories --workdir=runs/stories
  python -m experiments.sample --workdir=runs/stories --mode=complete --num=3 \
    --text="Tom was hungry."

The variant 'turns' takes a step without a KL after each with one, the paper's
alternation of auto-encoder and VAE. The variant 'long' reads a .jsonl with the
fields `prompt` and `story`, as WritingPrompts and WikiPlots are laid out, of up
to 1,024 tokens.
"""

from configs import base


def get_config(arg: str = '') -> base.Config:
  c = base.get_config()
  c.data.source = 'files'
  c.data.text_field = 'sentences'
  c.data.story = 'prompt'
  c.tokenizer.kind = 'bpe'
  c.tokenizer.vocab_size = 5_000
  c.pipeline.lengths = (48, 56, 64, 84)
  c.pipeline.condition_length = 24
  c.model.decoder.width = 256
  c.model.encoder.width = 256
  c.model.decoder.positions = 128  # of prompt and story
  c.model.prior.kind = 'learned'
  c.model.condition.routes = ('prefix',)
  c.model.injection.points = ('input', 'memory', 'softmax')
  c.objective.beta.duration = '50 %'
  c.objective.free_bits.kind = 'total'
  c.objective.free_bits.nats = 4.0
  c.training.steps = 4_000
  c.training.log_every = 50
  return base.variants(c, arg, {'long': long, 'turns': turns})


def turns(c: base.Config) -> None:
  """Auto-encoder and VAE by turns."""
  c.objective.autoencode_every = 2


def long(c: base.Config) -> None:
  """Prompts and stories of two fields, as long as GPT-2 reads."""
  c.data.story = ''
  c.data.condition_field = 'prompt'
  c.data.text_field = 'story'
  c.tokenizer.vocab_size = 20_000
  c.pipeline.batch_size = 16
  c.model.remat = 'dots'  # what a layer keeps grows with the length
  c.pipeline.lengths = (256, 512, 768, 1_024)
  c.pipeline.condition_length = 64
  c.model.decoder.positions = 1_088
