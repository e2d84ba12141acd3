"""The labels of a run: their names in a file, and numbers for its texts."""

from collections.abc import Sequence
import json
import pathlib

from jaxtyping import Int
import numpy as np

from lvdecode import errors

FILE = 'labels.json'  # in the workdir


def names(labels: Sequence[str] | None) -> tuple[str, ...]:
  """The different labels in the order of their numbers; '' is none."""
  return tuple(sorted(set(labels or ()) - {''}))


def numbers(
  labels: Sequence[str], known: Sequence[str]
) -> Int[np.ndarray, ' N']:
  """The place of each label among the known ones, -1 where it has none."""
  places = {name: place for place, name in enumerate(known)}
  return np.array([places.get(label, -1) for label in labels], np.int32)


def check(labels: Sequence[str], known: Sequence[str]) -> None:
  """Refuses (`RowError`) a label that is not a known one; '' is none."""
  for row, label in enumerate(labels):
    if label and label not in known:
      raise errors.RowError(
        row,
        f'the label {label!r} is none of those of the run: '
        + errors.did_you_mean(label, tuple(known)),
      )


def read(folder: pathlib.Path) -> tuple[str, ...]:
  """The names that a run's folder keeps; () where its data had no labels."""
  file = folder / FILE
  if not file.exists():
    return ()
  try:
    return tuple(map(str, json.loads(file.read_text('utf-8'))))
  except (ValueError, TypeError) as error:
    raise errors.UserError(
      f'{file} is not a list of labels ({error}): restore it'
    ) from None


def text(known: Sequence[str]) -> str:
  """What `read` reads."""
  return json.dumps(list(known), ensure_ascii=False, indent=2) + '\n'
