"""A user's text files, parsed row by row with the place of every mistake."""

from collections.abc import Iterator
import hashlib
import json
import pathlib
from typing import Any, NamedTuple

from lvdecode import errors

SPLITS = ('train', 'validation', 'test')
_FORMATS = ('.txt', '.tsv', '.jsonl')
_HELD_OUT = 0.05


class Row(NamedTuple):
  text: str
  label: str  # '' where the data have no labels


class Files(NamedTuple):
  """The bytes of each split's file, read once: hashed first, then parsed."""

  paths: dict[str, pathlib.Path]
  contents: dict[str, bytes]


def load(path: str) -> Files:
  """Reads a folder of train/validation/test files, or one file as train."""
  root = pathlib.Path(path).expanduser()
  if root.is_file():
    paths = {'train': root}
  elif root.is_dir():
    paths = dict(_find(root))
  else:
    raise errors.UserError(
      f"data.path '{path}' does not exist: give a file or a folder"
    )
  if 'train' not in paths:
    raise errors.UserError(
      f"data.path '{path}' holds no train file: give one of "
      + ', '.join('train' + suffix for suffix in _FORMATS)
    )
  suffixes = {file.suffix for file in paths.values()}
  if not suffixes <= set(_FORMATS) or len(suffixes) > 1:
    raise errors.UserError(
      f"data.path '{path}' has files of format "
      f'{", ".join(sorted(suffixes)) or "none"}: give all splits one format '
      f'of {", ".join(_FORMATS)}'
    )
  try:
    return Files(paths, {name: paths[name].read_bytes() for name in paths})
  except OSError as error:
    raise errors.UserError(
      f"data.path '{path}': {error.filename} cannot be read "
      f'({error.strerror}): change its permissions'
    ) from error


def _find(root: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
  for split in SPLITS:
    found = [
      root / (split + suffix)
      for suffix in _FORMATS
      if (root / (split + suffix)).is_file()
    ]
    if len(found) > 1:
      raise errors.UserError(
        f'{root} holds {" and ".join(file.name for file in found)}: keep one '
        f'file for {split}'
      )
    if found:
      yield split, found[0]


def read_lines(path: pathlib.Path) -> list[str]:
  """The lines of a file that are not blank, one text each."""
  try:
    data = path.expanduser().read_bytes()
  except OSError as error:
    raise errors.UserError(
      f'{path} cannot be read ({error.strerror}): give a text file'
    ) from None
  return [line for _, line in _lines(path, data)]


def digest(files: Files, text_field: str, label_field: str) -> str:
  """Changes with any byte of the files and with the fields that are read."""
  content = hashlib.sha256(json.dumps([text_field, label_field]).encode())
  for split, data in files.contents.items():
    header = f'\n{split} {files.paths[split].suffix} {len(data)}\n'
    content.update(header.encode())
    content.update(data)
  return content.hexdigest()


def parse(
  files: Files, text_field: str, label_field: str
) -> dict[str, list[Row]]:
  """All three splits; one without a file is held out from train."""
  rows = {}
  for split, path in files.paths.items():
    lines = _lines(path, files.contents[split])
    if path.suffix == '.txt':
      rows[split] = [Row(line, '') for _, line in lines]
    elif path.suffix == '.tsv':
      rows[split] = [_columns(line, place) for place, line in lines]
    else:
      rows[split] = [
        _record(line, place, text_field, label_field) for place, line in lines
      ]
    if not rows[split]:
      raise errors.UserError(f'{path} holds no text: put one on each line')
  missing = [split for split in SPLITS if split not in rows]
  return rows | hold_out(rows['train'], missing)


def _lines(path: pathlib.Path, data: bytes) -> Iterator[tuple[str, str]]:
  """Every line that is not blank, stripped, with its 'file:line'."""
  try:
    text = data.decode('utf-8-sig')
  except UnicodeDecodeError as error:
    number = error.object.count(b'\n', 0, error.start) + 1
    raise errors.UserError(
      f'{path}:{number}: not UTF-8 ({error.reason}): convert the file to UTF-8'
    ) from None
  # Not splitlines(), which also breaks at form feeds and Unicode separators
  # and so would count lines as no editor does.
  for number, line in enumerate(text.split('\n'), 1):
    if stripped := line.strip(' \r') if path.suffix == '.tsv' else line.strip():
      yield f'{path}:{number}', stripped


def _columns(line: str, place: str) -> Row:
  columns = [column.strip() for column in line.split('\t')]
  if len(columns) != 2 or not all(columns):
    filled = sum(map(bool, columns))
    raise errors.UserError(
      f'{place}: {len(columns)} columns, {filled} of them filled: a .tsv line '
      'is a label, one tab and a text'
    )
  return Row(label=columns[0], text=columns[1])


def _record(line: str, place: str, text_field: str, label_field: str) -> Row:
  try:
    record = json.loads(line)
  except json.JSONDecodeError as error:
    raise errors.UserError(
      f'{place}: not JSON ({error.msg} at column {error.colno}): a .jsonl '
      'line is one object'
    ) from None
  if not isinstance(record, dict):
    raise errors.UserError(
      f'{place}: a JSON {type(record).__name__}: a .jsonl line is one object'
    )
  text = _field(record, text_field, 'data.text_field', place)
  if isinstance(text, list) and all(isinstance(part, str) for part in text):
    text = ' '.join(text)
  if not isinstance(text, str) or not text.strip():
    raise errors.UserError(
      f"{place}: field '{text_field}' is {text!r}: give a text or a list of "
      'texts'
    )
  try:
    text.encode()
  except UnicodeEncodeError:
    raise errors.UserError(
      f"{place}: field '{text_field}' holds half a surrogate pair, which is no "
      'character: write the whole pair, or the character itself'
    ) from None
  if not label_field:
    return Row(text.strip(), '')
  label = _field(record, label_field, 'data.label_field', place)
  if isinstance(label, list | dict | None):
    raise errors.UserError(
      f"{place}: field '{label_field}' is {label!r}: a label is a text or a "
      'number'
    )
  return Row(text.strip(), str(label))


def _field(record: dict[str, Any], field: str, key: str, place: str) -> Any:
  if field not in record:
    raise errors.UserError(
      f"{place}: no field '{field}' ({key}): this line has "
      + (', '.join(record) or 'none')
    )
  return record[field]


def hold_out(train: list[Row], missing: list[str]) -> dict[str, list[Row]]:
  """Takes 5 % of train for each missing split; returns them and the rest.

  Held out are the distinct texts whose hashes are smallest (at least one), so
  the choice depends on nothing but the texts themselves, and a repeated text
  is never on both sides.
  """
  if not missing:
    return {'train': train}
  distinct = sorted({row.text for row in train}, key=_hash)
  share = max(1, round(_HELD_OUT * len(distinct)))
  place = {
    text: split
    for index, split in enumerate(missing)
    for text in distinct[index * share : (index + 1) * share]
  }
  parts: dict[str, list[Row]] = {split: [] for split in ('train', *missing)}
  for row in train:
    parts[place.get(row.text, 'train')].append(row)
  if not all(parts.values()):
    raise errors.UserError(
      f'{len(distinct)} distinct texts are too few to hold out '
      f'{" and ".join(missing)}: give more, or a file for each split'
    )
  return parts


def _hash(text: str) -> bytes:
  return hashlib.blake2b(text.encode(), digest_size=8).digest()
