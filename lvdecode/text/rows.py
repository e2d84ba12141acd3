"""A line of a file as rows, with the place of every mistake in it."""

from collections.abc import Iterator
import json
from typing import Any, NamedTuple

from lvdecode import errors
from lvdecode.text import conditions


class Fields(NamedTuple):
  """What is read of a line; see `sources.DataSettings`."""

  text: str
  label: str
  condition: str
  story: str

  @property
  def conditional(self) -> bool:
    return bool(self.condition or self.story)

  @property
  def labels_given(self) -> bool:
    """Whether the label is what is given, as one token."""
    return bool(self.condition) and self.condition in ('label', self.label)


class Row(NamedTuple):
  text: str
  label: str  # '' where there is none
  condition: conditions.Parts = ()  # () where nothing is given
  place: str = ''  # 'file:line'
  group: str = ''  # of rows that are held out together, '' for their text

  @property
  def together(self) -> str:
    return self.group or self.text


def text(line: str, place: str) -> Iterator[Row]:
  """Of a .txt."""
  yield Row(line, '', place=place)


def columns(line: str, place: str, fields: Fields) -> Iterator[Row]:
  """Of a .tsv: label and text, or label, condition and text."""
  cells = [cell.strip() for cell in line.split('\t')]
  filled = sum(map(bool, cells))
  if fields.condition and not fields.labels_given:
    # A label may be missing: the text is one of unknown label.
    if len(cells) != 3 or not all(cells[1:]):
      raise errors.UserError(
        f'{place}: {len(cells)} columns, {filled} of them filled: with '
        'data.condition_field a .tsv line is a label (or nothing), a tab, what '
        'is given, a tab and a text'
      )
    label, condition, target = cells
    yield Row(target, label, (condition,), place)
    return
  if len(cells) != 2 or not all(cells):
    raise errors.UserError(
      f'{place}: {len(cells)} columns, {filled} of them filled: a .tsv line '
      'is a label, one tab and a text'
    )
  yield _row(cells[1], cells[0], (), place, fields)


def record(line: str, place: str, fields: Fields) -> Iterator[Row]:
  """Of a .jsonl: one object, whose sentences may make several rows."""
  found = _object(line, place)
  label = _label(found, fields.label, place) if fields.label else ''
  if fields.story:
    sentences = _sentences(found, fields.text, place)
    if fields.story == 'missing' and conditions.BLANK in sentences:
      raise errors.UserError(
        f"{place}: a sentence of field '{fields.text}' is {conditions.BLANK}, "
        'which stands for the one that is asked for: write the sentence'
      )
    whole = ' '.join(sentences)
    for given, target in conditions.story(sentences, fields.story):
      yield Row(target, label, given, place, whole)
    return
  target = ' '.join(_texts(found, fields.text, 'data.text_field', place))
  parts: conditions.Parts = ()
  if fields.condition and not fields.labels_given:
    found_parts = _texts(found, fields.condition, 'data.condition_field', place)
    parts = tuple(part.strip() for part in found_parts if part.strip())
  yield _row(target.strip(), label, parts, place, fields)


def given(line: str, place: str, fields: Fields) -> str | list[str]:
  """What an object of a .jsonl gives, for a text that is to be written."""
  found = _object(line, place)
  if fields.labels_given:
    return _label(found, fields.label or 'label', place)
  if fields.story == 'missing':  # the blank is one of them
    return list(_texts(found, fields.text, 'data.text_field', place))
  if fields.story:  # a whole story, as in training
    sentences = _sentences(found, fields.text, place)
    return list(next(iter(conditions.story(sentences, fields.story)))[0])
  parts = _texts(found, fields.condition, 'data.condition_field', place)
  return [part for part in parts if part.strip()]


def _object(line: str, place: str) -> dict[str, Any]:
  try:
    found = json.loads(line)
  except json.JSONDecodeError as error:
    raise errors.UserError(
      f'{place}: not JSON ({error.msg} at column {error.colno}): a .jsonl '
      'line is one object'
    ) from None
  except (ValueError, RecursionError) as error:
    raise errors.UserError(
      f'{place}: JSON that cannot be read ({errors.beginning(str(error))}): '
      'remove the huge number, or the nesting'
    ) from None
  if not isinstance(found, dict):
    raise errors.UserError(
      f'{place}: a JSON {type(found).__name__}: a .jsonl line is one object'
    )
  return found


def _row(
  target: str,
  label: str,
  parts: conditions.Parts,
  place: str,
  fields: Fields,
) -> Row:
  if fields.labels_given:
    if not label:
      raise errors.UserError(
        f'{place}: the label is empty, and it is what data.condition_field '
        'gives: fill it'
      )
    return Row(target, label, (conditions.label_token(label),), place)
  return Row(target, label, parts, place)


def _sentences(
  found: dict[str, Any], field: str, place: str
) -> tuple[str, ...]:
  texts = _texts(found, field, 'data.text_field', place)
  sentences = tuple(sentence.strip() for sentence in texts)
  if not isinstance(found[field], list) or len(sentences) < 2:
    raise errors.UserError(
      f"{place}: field '{field}' has {len(sentences)} sentence: data.story "
      'needs a list of at least 2'
    )
  for number, sentence in enumerate(sentences, 1):
    if not sentence:
      raise errors.UserError(
        f"{place}: sentence {number} of field '{field}' is empty: remove the "
        'story, or fill it'
      )
  return sentences


def _texts(
  found: dict[str, Any], field: str, key: str, place: str
) -> tuple[str, ...]:
  """A text, or several, of which not all are blank."""
  value = _field(found, field, key, place)
  parts = value if isinstance(value, list) else [value]
  if not all(isinstance(part, str) for part in parts) or not (
    ''.join(parts).strip()
  ):
    raise errors.UserError(
      f"{place}: field '{field}' is {value!r}: give a text or a list of texts"
    )
  _check_characters(''.join(parts), field, place)
  return tuple(parts)


def _check_characters(text: str, field: str, place: str) -> None:
  try:
    text.encode()
  except UnicodeEncodeError:
    raise errors.UserError(
      f"{place}: field '{field}' holds half a surrogate pair, which is no "
      'character: write the whole pair, or the character itself'
    ) from None


def _label(found: dict[str, Any], field: str, place: str) -> str:
  label = _field(found, field, 'data.label_field', place)
  if isinstance(label, list | dict | None):
    raise errors.UserError(
      f"{place}: field '{field}' is {label!r}: a label is a text or a number"
    )
  _check_characters(str(label), field, place)
  return str(label).strip()


def _field(found: dict[str, Any], field: str, key: str, place: str) -> Any:
  if field not in found:
    raise errors.UserError(
      f"{place}: no field '{field}' ({key}): this line has "
      + (', '.join(found) or 'none')
    )
  return found[field]
