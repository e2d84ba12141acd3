"""Writes a trained model as a folder that other programs open.

python -m experiments.export --workdir=runs/a --to=exported/a

The folder holds the latent model (`lvdecode.load` opens it) and, in `decoder/`,
its GPT-2 as Hugging Face's transformers lays one out.
"""

import dataclasses
import json
import pathlib
import shutil
import tempfile
from typing import Any

from absl import flags
import jax
import numpy as np
import safetensors

from experiments import command
from experiments import opened
from lvdecode import errors
from lvdecode import restore
from lvdecode import trained
from lvdecode.evaluation import provenance
from lvdecode.pretrained import gpt2
from lvdecode.pretrained import options
from lvdecode.report import card
from lvdecode.text import labels
from lvdecode.training import tensors
from lvdecode.training import workdir as workdir_lib

DECODER = 'decoder'

_TO = flags.DEFINE_string(
  'to', None, 'A folder that is made; it may exist if it is empty.'
)


def main() -> None:
  if not _TO.value:
    raise errors.UserError('--to is missing: give the folder to be written')
  if opened.DATA_PATH.value is not None:
    raise errors.UserError(
      f'--data_path={opened.DATA_PATH.value}: no data are exported, leave it out'
    )
  folder = errors.path(_TO.value).resolve()
  _vacant(folder)
  export(restore.load(command.workdir(), opened.STEP.value), folder)
  print(f'model    {folder}\ndecoder  {folder / DECODER}')


def export(model: trained.Model, folder: pathlib.Path) -> None:
  """Writes all of the folder, or nothing that has its name.

  Raises:
    UserError: there is something already, or it cannot be written.
  """
  _vacant(folder)
  if model.config.semi_supervised.labels:
    raise errors.UserError(
      f'{model.workdir} is a classifier, which nothing else opens: copy its '
      'folder'
    )
  try:
    folder.parent.mkdir(parents=True, exist_ok=True)
    # A sibling, as only what is on the same disk can be renamed.
    with tempfile.TemporaryDirectory(
      dir=folder.parent, prefix=f'.{folder.name}.'
    ) as temporary:
      whole = pathlib.Path(temporary) / folder.name
      whole.mkdir()
      _write_model(model, whole)
      _write_decoder(model, whole / DECODER)
      whole.rename(folder)
  except (OSError, safetensors.SafetensorError) as error:
    reason = getattr(error, 'strerror', None) or error
    raise errors.UserError(f'{folder} cannot be written: {reason}') from error


def _vacant(folder: pathlib.Path) -> None:
  if folder.is_dir() and not any(folder.iterdir()):
    return
  if folder.exists():
    raise errors.UserError(
      f'--to={folder} exists and is not empty: choose another folder'
    )


def _write_model(model: trained.Model, folder: pathlib.Path) -> None:
  """What `restore.load` opens, and the card."""
  settings = workdir_lib.read_settings(model.workdir)
  digest, libraries = provenance.settings_hash(settings), provenance.libraries()
  shutil.copyfile(
    model.workdir / workdir_lib.SETTINGS, folder / workdir_lib.SETTINGS
  )
  model.tokenizer.save(folder / restore.TOKENIZER)
  if model.labels:
    text = labels.text(model.labels)
    workdir_lib.write_text(folder / labels.FILE, text)
  if model.encoder_tokenizer is not None:
    model.encoder_tokenizer.save(folder / restore.ENCODER_TOKENIZER)
  tensors.write(
    folder / restore.EXPORTED,
    model.params,
    {'step': model.step, 'settings_hash': digest, 'libraries': libraries},
  )
  mode = (folder / workdir_lib.SETTINGS).stat().st_mode  # as gpt2.write
  (folder / restore.EXPORTED).chmod(mode)
  average = ', average of the parameters' if model.config.training.ema else ''
  origin = {
    'checkpoint': f'step {model.step:,}{average}',
    'settings (SHA-256)': digest,
    'data': settings.get('data_fingerprint'),
  } | {f'version of {name}': version for name, version in libraries.items()}
  text = card.render(folder.name, model, origin)
  workdir_lib.write_text(folder / 'README.md', text)


def _write_decoder(model: trained.Model, folder: pathlib.Path) -> None:
  """The decoder that is told nothing, and its tokenizer."""
  sizes, params = decoder(model)
  gpt2.write(folder, sizes, params)
  tokenizer, specials = model.tokenizer, model.tokenizer.specials
  tokenizer.save(folder)
  _add_keys(
    folder / 'config.json',
    {
      'bos_token_id': tokenizer.bos,
      'eos_token_id': tokenizer.eos,
      'pad_token_id': tokenizer.pad,
    },
  )
  names = {f'{role}_token': token for role, token in specials.items()}
  _add_keys(folder / 'special_tokens_map.json', names)
  _add_keys(
    folder / 'tokenizer_config.json',
    names
    | {
      'tokenizer_class': 'PreTrainedTokenizerFast',
      'model_max_length': sizes['positions'],
      'clean_up_tokenization_spaces': False,
    },
  )


def decoder(model: trained.Model) -> tuple[dict[str, Any], Any]:
  """Sizes and parameters of the GPT-2, for `pretrained.gpt2.write`.

  Rows of the embedding that are no token are left out.
  """
  settings = dataclasses.asdict(model.config.model.decoder)
  sizes = {key: settings[key] for key in options.SIZES}
  sizes['inner'] = sizes['inner'] or 4 * sizes['width']
  sizes['vocab_size'] = words = model.tokenizer.vocab_size
  params = jax.tree.map(np.asarray, model.params['decoder'])
  return sizes, params | {
    'wte': {'embedding': params['wte']['embedding'][:words]}
  }


def _add_keys(path: pathlib.Path, keys: dict[str, Any]) -> None:
  """Into an object in a file, which need not be there."""
  found = json.loads(path.read_text()) if path.exists() else {}
  path.write_text(json.dumps(found | keys, indent=2) + '\n', 'utf-8')


if __name__ == '__main__':
  command.run(main)
