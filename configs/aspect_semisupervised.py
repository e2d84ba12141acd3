"""Sentiment of an aspect, from few labels and texts without any (ASVAET).

The data are a folder with train.tsv and test.tsv, a line: label (or nothing),
tab, aspect, tab, sentence; docs/semi_supervised.md tells how to add sentences
without labels. Published on SemEval-2014 task 4, with pretrained embeddings and
large unlabelled sets: 81.10 % (restaurant), 75.34 % (laptop), Cheng et al. 2019.

  python -m experiments.run --config=configs/aspect_semisupervised.py \
    --config.data.path=DATA/semeval14/restaurant --workdir=runs/aspect
  python -m experiments.evaluate --workdir=runs/aspect

The table of label shares, with and without what texts alone tell, 3 seeds; the
folder `mixed` has sentences without labels as well (docs/semi_supervised.md):

  python -m experiments.sweep --config=configs/aspect_semisupervised.py \
    --config.data.path=mixed --workdir=runs/aspects
"""

from configs import base


def get_config(arg: str = '') -> base.Config:
  c = base.get_config()
  c.data.source = 'files'
  c.data.condition_field = 'condition'
  c.semi_supervised.labels = ('negative', 'neutral', 'positive')
  # Half of an epoch's texts have a label, however few there are.
  c.semi_supervised.labelled_share = 0.5
  c.pipeline.batch_size = 64
  c.pipeline.lengths = (18, 30, 46, 84)
  c.pipeline.condition_length = 8
  c.model.latent_size = 16
  c.model.injection.points = ('input',)
  c.model.decoder.layers = 2
  c.model.decoder.positions = 84
  # The classifier reads by the embeddings that the decoder learns of all texts.
  c.model.encoder.kind = 'shared_embeddings'
  c.model.decoder.dropout = 0.2
  c.model.encoder.dropout = 0.2
  c.objective.beta.duration = '50 %'
  c.objective.word_dropout = 0.2  # labels and latents are worth more then
  c.optimizer.learning_rate = 5e-4
  c.optimizer.clip_norm = 5_000.0  # the classifier's nats count a hundredfold
  c.training.steps = 1_500
  c.training.evaluate_every = 100
  c.training.checkpoint_every = 100
  c.training.keep = 1
  c.training.best_metric = 'error'
  return base.variants(c, arg, {'labels_only': labels_only, 'quick': quick})


def labels_only(c: base.Config) -> None:
  """The same classifier, trained on the labelled texts and nothing else."""
  c.semi_supervised.generative = 0.0


def quick(c: base.Config) -> None:
  """Runs of seconds."""
  base.quick(c)
  c.objective.word_dropout = 0.0
  c.pipeline.batch_size = 8


def sweep(add, arg: str = '') -> None:
  shares, seeds = ((0.5,), 1) if 'quick' in arg else ((1.0, 0.2, 0.05), 3)
  for share in shares:
    for generative in (1.0, 0.0):
      for seed in range(seeds):
        add(
          {
            'data.label_share': share,
            'semi_supervised.generative': generative,
            'seed': seed,
          }
        )
