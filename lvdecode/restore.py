"""A trained model opened from its workdir, or from where it was exported to."""

import os
import pathlib
from typing import Any

import jax

from lvdecode import errors
from lvdecode import settings as settings_lib
from lvdecode import trained
from lvdecode.latent import adapters
from lvdecode.tasks import latent
from lvdecode.text import labels as labels_lib
from lvdecode.text import tokenizers
from lvdecode.training import checkpoint
from lvdecode.training import tensors
from lvdecode.training import workdir as workdir_lib

TOKENIZER, ENCODER_TOKENIZER = 'tokenizer', 'encoder_tokenizer'
Tokenizers = tuple[tokenizers.Tokenizer, tokenizers.Tokenizer | None]
EXPORTED = 'model.safetensors'  # the parameters in an exported folder


def read_settings(workdir: str | os.PathLike[str]) -> settings_lib.Settings:
  """The settings a workdir was begun with."""
  tree = workdir_lib.read_settings(pathlib.Path(workdir))
  tree.pop('data_fingerprint', None)
  try:
    return settings_lib.from_dict(tree)
  except errors.UserError as error:
    raise errors.UserError(
      f'{pathlib.Path(workdir) / workdir_lib.SETTINGS} is not of this version of '
      f'lvdecode: {error}'
    ) from error


def load(
  workdir: str | os.PathLike[str], step: int | None = None
) -> trained.Model:
  """Opens the model of a workdir: the folder is all it needs.

  Args:
    workdir: the folder of a run, or one that `experiments.export` wrote.
    step: which checkpoint; None for the best by the run's metric where one
      was kept, otherwise the latest. An exported folder has one.

  Raises:
    UserError: no run or no such checkpoint there, or one of another model; an
      exported file that is damaged or does not fit the settings beside it.
  """
  folder = errors.path(workdir)
  settings = read_settings(folder)
  here = settings_lib.anywhere(settings)
  both, known = open_tokenizers(folder, settings), labels_lib.read(folder)
  # Who uses a trained model need not know of adapters.
  plain = settings_lib.build_task(settings_lib.merged(here), *both)
  if (folder / EXPORTED).is_file():
    params, there = _exported(folder, plain)
    if step not in (None, there):
      raise errors.UserError(
        f'{folder} is an exported model of step {there}: there is no step {step}'
      )
    return trained.Model(folder, settings, plain, params, *both, there, known)
  if step is None:
    step = checkpoint.best_step(folder) or checkpoint.latest_step(folder)
  item = 'ema' if settings.training.ema else 'params'
  task = settings_lib.build_task(here, *both)
  params = checkpoint.restore_params(folder, step, _shapes(task), item)
  params = adapters.merge(params, settings.model.adapters)
  return trained.Model(folder, settings, plain, params, *both, step, known)


def open_tokenizers(
  folder: pathlib.Path, settings: settings_lib.Settings
) -> Tokenizers:
  """The decoder's, and the encoder's where it has one of its own."""
  own = None
  if settings.model.reads_apart:
    own = tokenizers.load(folder / ENCODER_TOKENIZER)
  return tokenizers.load(folder / TOKENIZER), own


def _shapes(task: latent.LatentTask) -> Any:
  return jax.eval_shape(task.init, jax.random.key(0))


def _exported(folder: pathlib.Path, task: latent.LatentTask) -> tuple[Any, int]:
  """The parameters, and the step of the checkpoint they were."""
  params, notes = tensors.read(folder / EXPORTED, _shapes(task))
  step = notes.get('step')
  if not isinstance(step, int):
    raise errors.UserError(
      f'{folder / EXPORTED} does not say of which step it is: export it again'
    )
  return params, step
