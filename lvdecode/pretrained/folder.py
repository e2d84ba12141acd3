"""A model's folder in Hugging Face's layout: config.json and safetensors."""

from collections.abc import Callable, Iterator, Mapping
import importlib
import json
import pathlib
import re
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import safetensors

from lvdecode import errors

_SINGLE, _INDEX = 'model.safetensors', 'model.safetensors.index.json'
# What holds weights that running code could hide in.
_PICKLES = ('*.bin', '*.pt', '*.pth', '*.ckpt', '*.pkl')
_FLOATS = ('F32', 'F16', 'BF16', 'F64')
_HUB_NAME = r'\w[\w.-]*(/[\w.-]+)?'
# Nothing of the folders inside: other formats' copies of the weights.
_FETCHED = ('*.json', '*.safetensors', '*.txt')
_SHOWN = 6  # tensors named in one message

# bfloat16 is a type that safetensors gives to NumPy, which learns it here.
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class Tensor(NamedTuple):
  """Where a tensor is; it is read when it is asked for.

  Attributes:
    file: that holds it.
    name: its own in that file.
    shape: as it is stored.
    dtype: safetensors' name, such as 'F32'.
  """

  file: pathlib.Path
  name: str
  shape: tuple[int, ...]
  dtype: str


class Folder(NamedTuple):
  """What a folder says of itself; no weight is read yet.

  Attributes:
    path: on this machine.
    config: config.json.
    tensors: of all files, by name.
  """

  path: pathlib.Path
  config: dict[str, Any]
  tensors: dict[str, Tensor]


class Network(NamedTuple):
  """A pretrained network.

  Attributes:
    sizes: fields of its module, by name.
    params: the tree of that module in float32.
    folder: where it was read.
  """

  sizes: dict[str, Any]
  params: dict[str, Any]
  folder: pathlib.Path


def open_folder(name: str) -> Folder:
  """Opens a local folder, or fetches a hub's model of that name.

  Raises:
    UserError: there is none, or it has no config.json or no whole safetensors.
  """
  path = find(name)
  config = _read_json(path / 'config.json')
  tensors: dict[str, Tensor] = {}
  for file in _files(path):
    for tensor in _header(file):
      if tensor.name in tensors:
        first = tensors[tensor.name].file.name
        raise errors.UserError(
          f'{path}: {tensor.name} is in {first} and in {file.name}: give a '
          'folder with the files of one model'
        )
      tensors[tensor.name] = tensor
  return Folder(path, config, tensors)


def rename(folder: Folder, new_name: Callable[[str], str]) -> Folder:
  """The same under other names; two tensors of one new name are refused."""
  tensors: dict[str, Tensor] = {}
  for tensor in folder.tensors.values():
    name = new_name(tensor.name)
    if name in tensors:
      raise errors.UserError(
        f'{folder.path}: {tensors[name].name} and {tensor.name} are both '
        f'{name}: give a folder with the files of one model'
      )
    tensors[name] = tensor
  return folder._replace(tensors=tensors)


def read(
  folder: Folder, wanted: Mapping[str, tuple[int, ...]], ignored: str
) -> dict[str, np.ndarray]:
  """Each wanted tensor in float32, by name.

  Args:
    folder: every tensor of which is wanted, or ignored.
    wanted: names and shapes.
    ignored: pattern of whole names that need not be there and are not read.

  Raises:
    UserError: a tensor is missing, left over, of another shape or no floats.
  """
  found = {
    name: tensor.shape
    for name, tensor in folder.tensors.items()
    if name in wanted or not re.fullmatch(ignored, name)
  }
  check_shapes(str(folder.path), wanted, found)
  for name in wanted:
    dtype = folder.tensors[name].dtype
    if dtype not in _FLOATS:
      raise errors.UserError(
        f'{folder.path}: {name} has numbers of type {dtype}, not one of '
        f'{", ".join(_FLOATS)}: give weights that are not quantised'
      )
  arrays = {}
  for file in sorted({folder.tensors[name].file for name in wanted}):
    with safetensors.safe_open(file, 'np') as opened:
      for name in wanted:
        tensor = folder.tensors[name]
        if tensor.file == file:
          array = opened.get_tensor(tensor.name)
          arrays[name] = array.astype(np.float32, copy=False)
          if not np.isfinite(arrays[name]).all():
            raise errors.UserError(
              f'{file}: {tensor.name} has numbers that are not finite: fetch it '
              'again, or choose weights of an earlier step'
            )
  return arrays


def check_shapes(
  where: str,
  expected: Mapping[str, tuple[int, ...]],
  found: Mapping[str, tuple[int, ...]],
) -> None:
  """Refuses tensors that are not exactly those expected; names both columns."""
  wrong = [
    f'{name}: expected {_show(expected.get(name))}, '
    f'found {_show(found.get(name))}'
    for name in [*expected, *(name for name in found if name not in expected)]
    if expected.get(name) != found.get(name)
  ]
  if wrong:
    more = len(wrong) - _SHOWN
    rest = f'; and {more} more' if more > 0 else ''
    raise errors.UserError(
      f'{where}: the tensors are not those that its config tells of: '
      + '; '.join(wrong[:_SHOWN])
      + rest
      + ': give the config.json and the weights of one model'
    )


def check_tokenizer(vocab_size: int, tokenizer_size: int, path: str) -> None:
  """Refuses a tokenizer that does not belong to the embedding's rows."""
  if tokenizer_size != vocab_size:
    raise errors.UserError(
      f'{path}: the tokenizer has {tokenizer_size} tokens, the embedding '
      f'{vocab_size} rows: give the tokenizer that the model was trained with'
    )


def check_layers(folder: Folder, layers: int) -> None:
  """Refuses more layers than there are tensors, before they are listed."""
  if layers > len(folder.tensors):
    raise errors.UserError(
      f'{folder.path}: config.json tells of {layers} layers, and there are '
      f'{len(folder.tensors)} tensors: give the config.json and the weights of '
      'one model'
    )


def find(name: str) -> pathlib.Path:
  """A local folder, or that of a hub's model, which is fetched.

  Raises:
    UserError: there is none.
  """
  path = errors.path(name)
  if path.is_dir():
    return path
  if path.exists() or not re.fullmatch(_HUB_NAME, name):
    raise errors.UserError(
      f"'{name}' is no folder: give one with config.json and {_SINGLE}"
    )
  try:
    hub = importlib.import_module('huggingface_hub')
  except ImportError as error:
    raise errors.UserError(
      f"there is no folder '{name}'; to fetch a model of that name from the "
      "hub: pip install 'lvdecode[hub]'"
    ) from error
  try:
    fetched = hub.snapshot_download(
      name, allow_patterns=list(_FETCHED), ignore_patterns=['*/*']
    )
  except Exception as error:  # the library raises exceptions of many families
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    raise errors.UserError(
      f"there is no folder '{name}', and from the hub it cannot be fetched "
      f'({reason[:200]}): give the path of a folder'
    ) from error
  return pathlib.Path(fetched)


def _read_json(file: pathlib.Path) -> dict[str, Any]:
  try:
    value = json.loads(file.read_text('utf-8'))
  except FileNotFoundError as error:
    raise errors.UserError(
      f'{file} is missing: give a folder that transformers wrote'
    ) from error
  except (OSError, ValueError, RecursionError) as error:
    raise errors.UserError(
      f'{file} cannot be read ({error}): give a folder that transformers wrote'
    ) from error
  if not isinstance(value, dict):
    raise errors.UserError(f'{file} holds no object: it must be one, {{…}}')
  return value


def _files(path: pathlib.Path) -> list[pathlib.Path]:
  """The one file, or the shards that the index names."""
  if (path / _SINGLE).is_file():
    return [path / _SINGLE]
  if (path / _INDEX).is_file():
    names = _read_json(path / _INDEX).get('weight_map')
    if not isinstance(names, dict) or not names:
      raise errors.UserError(
        f'{path / _INDEX} has no weight_map: fetch it again'
      )
    files = [path / name for name in sorted(set(map(str, names.values())))]
    for file in files:
      if file.parent != path or not file.is_file():
        raise errors.UserError(
          f'{path}: {_INDEX} names {file.name}, which is not there: fetch it'
        )
    return files
  for pattern in _PICKLES:
    for file in sorted(path.glob(pattern)):
      raise errors.UserError(
        f'{file} may hold code that runs when it is opened, and is not read: '
        'convert it with python -c "from transformers import AutoModel as m, '
        f"AutoTokenizer as t; [x.from_pretrained('{path}').save_pretrained("
        f"'{path}-safe') for x in (m, t)]\""
      )
  raise errors.UserError(f'{path} has no {_SINGLE} and no {_INDEX}: add one')


def _header(file: pathlib.Path) -> Iterator[Tensor]:
  try:
    with safetensors.safe_open(file, 'np') as opened:
      for name in opened.keys():
        part = opened.get_slice(name)
        yield Tensor(file, name, tuple(part.get_shape()), part.get_dtype())
  except (OSError, safetensors.SafetensorError) as error:
    raise errors.UserError(
      f'{file} cannot be read ({error}): it is not whole or no safetensors '
      'file; fetch it again'
    ) from error


def _show(shape: tuple[int, ...] | None) -> str:
  return 'nothing' if shape is None else str(list(shape))
