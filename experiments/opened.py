"""A trained model as the commands open it, and their flags for that."""

import dataclasses
import pathlib

from absl import flags

from lvdecode import errors
from lvdecode import restore
from lvdecode import trained
from lvdecode.text import sources
from lvdecode.training import workdir as workdir_lib

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
DATA_PATH = flags.DEFINE_string(
  'data_path', None, "Where the run's data lie now, if not at its data.path."
)


def load(workdir: pathlib.Path) -> trained.Model:
  """The model at the checkpoint that was asked for, beside its data."""
  model = restore.load(workdir, STEP.value)
  if DATA_PATH.value is None:
    return model
  data = model.config.data
  if data.source != 'files':
    raise errors.UserError(
      f"--data_path={DATA_PATH.value}: the data of {workdir} are '{data.source}', "
      'which lie in no folder of yours: leave it out'
    )
  data = dataclasses.replace(data, path=DATA_PATH.value)
  model.config = dataclasses.replace(model.config, data=data)
  return model


def texts(model: trained.Model, split: str) -> sources.Texts:
  """A split of the run's data, which must be those that it was trained on."""
  data, cache = model.config.data, model.workdir / 'data'
  trained_on = workdir_lib.read_settings(model.workdir).get('data_fingerprint')
  if sources.fingerprint(data, cache) != trained_on:
    raise errors.UserError(
      'the data have changed since the run was trained on them, and a split '
      'that is held out may hold training texts now: restore them'
    )
  return sources.read(data, split, cache)
