"""A user's text files, parsed row by row with the place of every mistake."""

from collections.abc import Iterator, Mapping
import hashlib
import itertools
import json
import pathlib
from typing import NamedTuple

from lvdecode import errors
from lvdecode.text import conditions
from lvdecode.text import rows as rows_lib

Row = rows_lib.Row
SPLITS = ('train', 'validation', 'test')
_FORMATS = ('.txt', '.tsv', '.jsonl')
_HELD_OUT = 0.05
_OTHER_NAMES = ('dev', 'eval', 'val', 'valid')  # of a validation split


class Files(NamedTuple):
  """The bytes of each split's file, read once: hashed first, then parsed."""

  paths: dict[str, pathlib.Path]
  contents: dict[str, bytes]


def load(path: str) -> Files:
  """Reads a folder of train/validation/test files, or one file as train."""
  found = paths(path)
  try:
    return Files(found, {name: found[name].read_bytes() for name in found})
  except OSError as error:
    raise errors.UserError(
      f"data.path '{path}': {error.filename} cannot be read "
      f'({error.strerror}): change its permissions'
    ) from error


def labelled(
  found: Mapping[str, pathlib.Path], fields: rows_lib.Fields
) -> bool:
  """Whether the texts of these files have labels."""
  return found['train'].suffix == '.tsv' or bool(fields.label)


def paths(path: str) -> dict[str, pathlib.Path]:
  """The files that `load` reads, by split; all are of one format."""
  root = errors.path(path)
  if root.is_file():
    found = {'train': root}
  elif root.is_dir():
    found = dict(_find(root))
  else:
    raise errors.UserError(
      f"data.path '{path}' does not exist: give a file or a folder"
    )
  if 'train' not in found:
    raise errors.UserError(
      f"data.path '{path}' holds no train file: give one of "
      + ', '.join('train' + suffix for suffix in _FORMATS)
    )
  suffixes = {file.suffix for file in found.values()}
  if not suffixes <= set(_FORMATS) or len(suffixes) > 1:
    raise errors.UserError(
      f"data.path '{path}' has files of format "
      f'{", ".join(sorted(suffixes)) or "none"}: give all splits one format '
      f'of {", ".join(_FORMATS)}'
    )
  return found


def _find(root: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
  for name, suffix in itertools.product(_OTHER_NAMES, _FORMATS):
    if (root / (name + suffix)).is_file():
      raise errors.UserError(
        f'{root / (name + suffix)} would not be read: call it '
        f'validation{suffix}, or give a folder without it'
      )
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


def read_texts(path: pathlib.Path, field: str) -> list[str]:
  """Texts: a field of a .jsonl's objects, a .tsv's last column, or lines."""
  data = _bytes(path)
  if path.suffix == '.jsonl':
    fields = rows_lib.Fields(text=field, label='', condition='', story='')
    found = [row.text for row in _rows(path, data, fields)]
  elif path.suffix == '.tsv':
    found = [_last_column(line, place) for place, line in _lines(path, data)]
  else:
    found = [line for _, line in _lines(path, data)]
  if not found:
    raise errors.UserError(f'{path} holds no text: write one a line')
  return found


def _last_column(line: str, place: str) -> str:
  *others, text = line.split('\t')
  if not others or not text.strip():
    raise errors.UserError(
      f'{place}: {len(others) + 1} columns: the last column of a .tsv, behind a '
      'tab, is the text'
    )
  return text.strip()


def _bytes(path: pathlib.Path) -> bytes:
  try:
    return errors.path(path).read_bytes()
  except OSError as error:
    raise errors.UserError(
      f'{path} cannot be read ({error.strerror}): give a text file'
    ) from None


def read_given(
  path: pathlib.Path, fields: rows_lib.Fields
) -> list[tuple[str, str | list[str]]]:
  """Conditions: the lines of a text file, or a field of a .jsonl's objects.

  The field is that of the training data: what is given, or the sentences. Each
  has its place, 'file:line', beside it.
  """
  if path.suffix == '.tsv':
    raise errors.UserError(
      f'{path}: the lines of a .tsv hold more than what is given: make it a '
      '.txt of conditions, one a line'
    )
  found = list(_lines(path, _bytes(path)))
  if not found:
    raise errors.UserError(f'{path} holds no condition: write one a line')
  if path.suffix != '.jsonl':
    return list(found)
  return [(place, rows_lib.given(line, place, fields)) for place, line in found]


def digest(files: Files, fields: rows_lib.Fields) -> str:
  """Changes with any byte of the files and with the fields that are read."""
  read: list[str] = [fields.text, fields.label]
  if fields.conditional:
    read += [fields.condition, fields.story]
  content = hashlib.sha256(json.dumps(read).encode())
  for split, data in files.contents.items():
    header = f'\n{split} {files.paths[split].suffix} {len(data)}\n'
    content.update(header.encode())
    content.update(data)
  return content.hexdigest()


def parse(files: Files, fields: rows_lib.Fields) -> dict[str, list[Row]]:
  """All three splits; one without a file is held out from train."""
  rows: dict[str, list[Row]] = {}
  for split, path in files.paths.items():
    _check_format(path, fields)
    rows[split] = list(_rows(path, files.contents[split], fields))
    if not rows[split]:
      raise errors.UserError(f'{path} holds no text: put one on each line')
  missing = [split for split in SPLITS if split not in rows]
  rows |= hold_out(rows['train'], missing)
  if fields.conditional:
    _check_labels(rows, missing)
  return rows


def place(
  files: Files, fields: rows_lib.Fields, text: str, condition: conditions.Parts
) -> str | None:
  """'file:line' of the first such row; None where no file has it (any more)."""
  for split, path in files.paths.items():
    for row in _rows(path, files.contents[split], fields):
      if (row.text, row.condition) == (text, condition):
        return row.place
  return None


def _rows(
  path: pathlib.Path, data: bytes, fields: rows_lib.Fields
) -> Iterator[Row]:
  for where, line in _lines(path, data):
    yield from _parsed(line, where, path.suffix, fields)


def _check_format(path: pathlib.Path, fields: rows_lib.Fields) -> None:
  """Refuses what a file of this format cannot give with its texts."""
  if fields.story and path.suffix != '.jsonl':
    raise errors.UserError(
      f"data.story '{fields.story}' reads lists of sentences in a .jsonl, and "
      f'there is {path}: convert it'
    )
  named = {'condition_field': fields.condition, 'label_field': fields.label}
  for key, field in named.items():
    if field and path.suffix == '.txt':
      raise errors.UserError(
        f"data.{key} '{field}': {path} has only texts, give a .tsv or a .jsonl, "
        "or set it to ''"
      )
  if path.suffix == '.tsv':
    errors.one_of(
      'data.condition_field', fields.condition, ('', 'label', 'condition')
    )
  elif fields.condition == 'label' and not fields.label:
    raise errors.UserError(
      "data.condition_field 'label' needs data.label_field: name the field"
    )


def _parsed(
  line: str, place: str, suffix: str, fields: rows_lib.Fields
) -> Iterator[Row]:
  if suffix == '.txt':
    return rows_lib.text(line, place)
  if suffix == '.tsv':
    return rows_lib.columns(line, place, fields)
  return rows_lib.record(line, place, fields)


def _check_labels(rows: dict[str, list[Row]], held_out: list[str]) -> None:
  """Every label must have been there to be learned."""
  known = {row.label for row in rows['train']} | {''}
  for split in ('validation', 'test'):
    for row in rows[split]:
      if row.label in known:
        continue
      what = f'{row.place}: no training text has the label {row.label!r}: '
      if split in held_out:
        raise errors.UserError(
          f'{what}all that have it were held out for {split}; give more of '
          f'them, or a file for {split}'
        )
      raise errors.UserError(
        what + errors.did_you_mean(row.label, tuple(sorted(known - {''})))
      )


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


def hold_out(train: list[Row], missing: list[str]) -> dict[str, list[Row]]:
  """Takes 5 % of train for each missing split; returns them and the rest.

  Held out are the distinct texts whose hashes are smallest (at least one), so
  the choice depends on nothing but the texts themselves, and a repeated text
  is never on both sides; neither is a story of which several rows were made.
  """
  if not missing:
    return {'train': train}
  distinct = sorted({row.together for row in train}, key=_hash)
  share = max(1, round(_HELD_OUT * len(distinct)))
  place = {
    text: split
    for index, split in enumerate(missing)
    for text in distinct[index * share : (index + 1) * share]
  }
  parts: dict[str, list[Row]] = {split: [] for split in ('train', *missing)}
  for row in train:
    parts[place.get(row.together, 'train')].append(row)
  if not all(parts.values()):
    raise errors.UserError(
      f'{len(distinct)} distinct texts are too few to hold out '
      f'{" and ".join(missing)}: give more, or a file for each split'
    )
  return parts


def _hash(text: str) -> bytes:
  return hashlib.blake2b(text.encode(), digest_size=8).digest()
