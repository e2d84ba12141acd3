"""What config.json says of a network, and what is refused of it."""

from collections.abc import Mapping
import json
from typing import Any

from lvdecode import errors
from lvdecode.pretrained import folder as folders

# What config.json decides of a network's settings, here and there.
SIZES = (
  'layers',
  'heads',
  'width',
  'inner',
  'positions',
  'activation',
  'epsilon',
)
# transformers' names of activations, and ours.
ACTIVATIONS = {
  'gelu_new': 'gelu_tanh',
  'gelu_fast': 'gelu_tanh',
  'gelu_pytorch_tanh': 'gelu_tanh',
  'gelu': 'gelu',
  'gelu_python': 'gelu',
  'relu': 'relu',
  'silu': 'silu',
  'swish': 'silu',
}


def family(folder: folders.Folder, known: tuple[str, ...]) -> str:
  """The config's model_type, which must be a known one."""
  found = folder.config.get('model_type')
  if found not in known:
    raise errors.UserError(
      f'{folder.path}: model_type in config.json is {json.dumps(found)}, known '
      f'here: {", ".join(known)}'
    )
  return found


def supported(folder: folders.Folder, needed: Mapping[str, Any]) -> None:
  """Refuses options of config.json that ask for another network."""
  for key, value in needed.items():
    if folder.config.get(key, value) != value:
      raise errors.UserError(
        f'{folder.path}: {key} in config.json is '
        f'{json.dumps(folder.config[key])[:80]}, supported is '
        f'{json.dumps(value)}'
      )


def heads(folder: folders.Folder, heads: int, width: int) -> None:
  """Refuses a width that the heads cannot share."""
  if width % heads:
    raise errors.UserError(
      f'{folder.path}: the width {width} in config.json is no multiple of '
      f'its {heads} heads'
    )


def size(folder: folders.Folder, key: str, least: int = 1) -> int:
  """A whole number of at least so much in config.json, which must be there."""
  value = folder.config.get(key)
  if isinstance(value, bool) or not isinstance(value, int) or value < least:
    raise errors.UserError(
      f'{folder.path}: {key} in config.json is {json.dumps(value)}, it must '
      f'be a number from {least} on'
    )
  return value


def epsilon(folder: folders.Folder, key: str, usual: float) -> float:
  """What the layer norms add; `usual` where config.json does not say."""
  value = folder.config.get(key, usual)
  if isinstance(value, bool) or not isinstance(value, float | int) or value < 0:
    raise errors.UserError(
      f'{folder.path}: {key} in config.json is {json.dumps(value)}, it must '
      'be a small positive number'
    )
  return float(value)


def activation(folder: folders.Folder, key: str, usual: str) -> str:
  """Our name of the activation; `usual` where config.json does not say."""
  value = str(folder.config.get(key, usual))
  if value not in ACTIVATIONS:
    raise errors.UserError(
      f'{folder.path}: {key} in config.json is {json.dumps(value)}: '
      + errors.did_you_mean(value, tuple(ACTIVATIONS))
    )
  return ACTIVATIONS[value]
