"""A trained model as the commands open it, and their flags for that."""

import dataclasses
import pathlib

from absl import flags

from lvdecode import errors
from lvdecode import restore
from lvdecode import trained

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
_DATA_PATH = flags.DEFINE_string(
  'data_path', None, "Where the run's data lie now, if not at its data.path."
)


def load(workdir: pathlib.Path) -> trained.Model:
  """The model at the checkpoint that was asked for, beside its data."""
  model = restore.load(workdir, STEP.value)
  if _DATA_PATH.value is None:
    return model
  data = model.config.data
  if data.source != 'files':
    raise errors.UserError(
      f"--data_path={_DATA_PATH.value}: the data of {workdir} are '{data.source}', "
      'which lie in no folder of yours: leave it out'
    )
  data = dataclasses.replace(data, path=_DATA_PATH.value)
  model.config = dataclasses.replace(model.config, data=data)
  return model
