"""Parameters in one file that other programs read, too: safetensors.

The format knows no checksums, so a damaged array would be read in silence;
they are written into the file's metadata, and compared here.
"""

from collections.abc import Mapping
import json
import pathlib
from typing import Any

import numpy as np
import safetensors
from safetensors import numpy as safetensors_numpy

from lvdecode import errors
from lvdecode.training import flat as flat_lib

_NOTES = 'lvdecode'  # key of the metadata, whose values are strings
_CHECKSUMS = 'checksums'


def write(path: pathlib.Path, params: Any, notes: Mapping[str, Any]) -> None:
  """Writes every leaf under its '/'-joined path, and notes of plain JSON.

  Raises:
    UserError: it cannot be written.
  """
  flat = {
    name: np.asarray(array, order='C')  # it writes what lies in memory
    for name, array in flat_lib.on_host(params).items()
  }
  notes = {**notes, _CHECKSUMS: flat_lib.checksums(flat)}
  try:
    safetensors_numpy.save_file(flat, path, {_NOTES: json.dumps(notes)})
  except (OSError, safetensors.SafetensorError) as error:
    reason = ' '.join(str(error).split())
    raise errors.UserError(f'{path} cannot be written: {reason}') from error


def read(path: pathlib.Path, like: Any) -> tuple[Any, dict[str, Any]]:
  """The parameters as NumPy arrays, and the notes beside them.

  Args:
    path: what `write` wrote.
    like: tree of arrays or shapes the parameters must agree with.

  Raises:
    UserError: no such file, one that is damaged or of another origin, or one
      whose arrays differ from those of `like` in name, shape or type.
  """
  try:
    with safetensors.safe_open(path, framework='numpy') as file:
      metadata = file.metadata() or {}
      flat = {name: file.get_tensor(name) for name in file.keys()}
    notes = dict(json.loads(metadata.get(_NOTES, '{}')))
  except Exception as error:  # the library's own, which derives from this
    reason = ' '.join(str(error).split())
    raise errors.UserError(
      f'{path} cannot be read ({reason}): export the model again'
    ) from error
  tree = flat_lib.unflatten(flat, like, f'{path}:')
  checksums = notes.pop(_CHECKSUMS, None)
  if not isinstance(checksums, dict):
    raise errors.UserError(
      f'{path} is not what experiments.export writes: it has no checksums'
    )
  for name, checksum in flat_lib.checksums(flat).items():
    if checksums.get(name) != checksum:
      raise errors.UserError(
        f'{path} is damaged (checksum of {name} differs): export it again'
      )
  return tree, notes
