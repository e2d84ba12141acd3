"""The one exception that means: what the user gave cannot be used."""

import difflib
import math
import os
import pathlib
from typing import Any

_SHOWN = 60  # characters of a text


class UserError(ValueError):
  """A mistake in a setting, flag, data file or checkpoint.

  The message is one line that names what is wrong, where, and what to do.
  Commands print it alone and exit with code 2; everything else that is raised
  is a defect of ours and keeps its traceback.
  """


class RowError(UserError):
  """In row `row` of the texts that were given; `sources.placed` says where."""

  def __init__(self, row: int, message: str):
    super().__init__(message)
    self.row = row


def path(name: str | os.PathLike[str]) -> pathlib.Path:
  """A path as a user wrote it, with '~' for his home.

  '~nobody' stays as it is and is then not found; pathlib's own way raises.
  """
  return pathlib.Path(os.path.expanduser(name))


def beginning(text: str) -> str:
  """So much of a text, in quotes, that it can be found again."""
  short = text if len(text) <= _SHOWN else text[:_SHOWN].rstrip() + ' …'
  return repr(short)


def did_you_mean(word: str, known: tuple[str, ...]) -> str:
  """The known words, and the one that was probably meant."""
  close = difflib.get_close_matches(word, known, 1)
  hint = f'did you mean {close[0]!r}? ' if close else ''
  return f'{hint}known are {", ".join(known)}'


def one_of(key: str, value: str, known: tuple[str, ...]) -> None:
  """Refuses a value that is not among the known ones."""
  if value not in known:
    raise UserError(f'{key} = {value!r}: {did_you_mean(value, known)}')


def distinct(key: str, values: tuple, what: str) -> None:
  """Refuses a list that names one of `what` more than once."""
  if len(set(values)) < len(values):
    raise UserError(f'{key} = {values} names a {what} twice: name each once')


def at_least(key: str, value: Any, least: int | float) -> None:
  """Refuses a number that is too small (or not a number, or infinite).

  An array passes: its value may not be known yet.
  """
  if isinstance(value, int | float) and not least <= value < math.inf:
    raise UserError(f'{key} = {value}: it must be at least {least}')


def between(
  key: str, value: int | float, least: int | float, below: int | float
) -> None:
  """Refuses a number outside [least, below)."""
  if not least <= value < below:
    raise UserError(f'{key} = {value}: it must be in [{least}, {below})')
