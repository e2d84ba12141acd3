"""Flags of the commands that open a trained model."""

from absl import flags

STEP = flags.DEFINE_integer(
  'step', None, 'Checkpoint; by default the best, or else the latest.'
)
SEED = flags.DEFINE_integer(
  'seed',
  0,
  'Of everything that is drawn.',
  lower_bound=0,
  upper_bound=2**32 - 2,
)
