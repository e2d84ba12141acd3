"""Sets of the TFDS catalogue, or that lie prepared: columns of strings."""

import json

import numpy as np
import tensorflow_datasets as tfds

from lvdecode import errors
from lvdecode.text import builders
from lvdecode.text import conditions
from lvdecode.text import files
from lvdecode.text import rows as rows_lib


def columns(
  name: str, fields: rows_lib.Fields, split: str, limit: int, data_dir: str
) -> dict[str, list[str]]:
  """'text', and 'label' and 'condition' where there are such, of a split."""
  builder = builders.catalogue_builder(name, data_dir)
  features = builder.info.features
  given = '' if fields.labels_given else fields.condition
  for key, field in (
    ('text_field', fields.text),
    ('label_field', fields.label),
    ('condition_field', given),
  ):
    if field and field not in features:
      raise errors.UserError(
        f"data.{key} '{field}' is not a field of {name}: it has "
        + ', '.join(sorted(features))
      )
  present = [part for part in files.SPLITS if part in builder.info.splits]
  if 'train' not in present:
    raise errors.UserError(
      f"data.source 'tfds:{name}' has no split 'train': it has "
      + (', '.join(builder.info.splits) or 'none')
    )
  missing = [part for part in files.SPLITS if part not in present]
  held_out = split in ('train', *missing) and bool(missing)
  rows = _rows(builder, fields, 'train' if held_out else split)
  if held_out:
    rows = files.hold_out(rows, missing)[split]
  rows = [rows[place] for place in builders.chosen(len(rows), limit)]
  found = {'text': [row.text for row in rows]}
  if fields.label:
    found['label'] = [row.label for row in rows]
  if fields.conditional:
    found['condition'] = [json.dumps(row.condition) for row in rows]
  return found


def _rows(
  builder: tfds.core.DatasetBuilder, fields: rows_lib.Fields, split: str
) -> list[files.Row]:
  label = fields.label
  names = getattr(builder.info.features[label], 'names', None) if label else ()

  def parsed(row: dict) -> files.Row:
    name = ''
    if names:  # one or several; TFDS has -1 for none
      numbers = np.atleast_1d(row[label])
      name = ' '.join(names[number] for number in numbers if number >= 0)
    elif label:
      name = ' '.join(_texts(row, label, 'label_field')).strip()
    given: conditions.Parts = ()
    if fields.labels_given:
      given = (conditions.label_token(name) if name else '',)
    elif fields.condition:
      found = _texts(row, fields.condition, 'condition_field')
      given = tuple(part.strip() for part in found if part.strip()) or ('',)
    return files.Row(
      ' '.join(_texts(row, fields.text, 'text_field')), name, given
    )

  found = []
  for number, row in enumerate(builders.rows(builder, split)):
    found.append(parsed(row))
    empty = None
    if not found[-1].text.strip():
      empty = f"data.text_field '{fields.text}'"
    elif fields.conditional and not all(found[-1].condition):
      empty = f"data.condition_field '{fields.condition}'"
    if empty:
      raise errors.UserError(
        f'{empty} of row {number} of {builder.info.name}, {split}, is empty: '
        'leave out such rows'
      )
  return found


def _texts(row: dict, field: str, key: str) -> conditions.Parts:
  """A text, or several; numbers as they are written."""
  value = row[field]
  found = value if isinstance(value, list | np.ndarray) else [value]
  if not all(
    isinstance(each, bytes | str | int | np.integer) for each in found
  ):
    raise errors.UserError(
      f"data.{key} '{field}' is {errors.beginning(str(value))}: name a field of "
      'texts, or of lists of texts'
    )
  return tuple(
    each.decode() if isinstance(each, bytes) else str(each) for each in found
  )
