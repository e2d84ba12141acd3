"""A run's folder: whose it is, and under which settings it was begun.

It holds settings.json, tokenizer/, checkpoints/, metrics.jsonl, tensorboard/.
"""

from collections.abc import Iterable, Iterator
import contextlib
import errno
import fcntl
import json
import logging
import os
import pathlib
import shutil
from typing import Any

from lvdecode import errors
from lvdecode.training import hosts

SETTINGS, METRICS, DATA = 'settings.json', 'metrics.jsonl', 'data'


@contextlib.contextmanager
def claim(
  workdir: pathlib.Path,
  settings: dict[str, Any],
  may_change: tuple[str, ...] = (),
) -> Iterator[None]:
  """Holds `workdir` for one run under `settings`, a plain JSON dictionary.

  A new folder gets settings.json; in an old one they must agree, apart from
  the dotted keys in `may_change`, which are brought up to date. Of many
  processes, process 0 holds it, and the others must see what it writes. A
  mistake that is found before anything was trained leaves a new folder as it
  was, but for prepared data: the corrected command may take it.

  Raises:
    UserError: another run holds the folder, or its settings differ.
  """
  with contextlib.ExitStack() as stack:

    def held():
      if hosts.first():
        stack.enter_context(_held(workdir, settings, may_change))

    hosts.agreed(held)
    hosts.agreed(lambda: _check_seen(workdir))
    yield


def _check_seen(workdir: pathlib.Path) -> None:
  if not (workdir / SETTINGS).exists():
    raise errors.UserError(
      f'{workdir} does not hold what process 0 wrote there: give a folder that '
      'all hosts share as --workdir'
    )


@contextlib.contextmanager
def _held(workdir, settings, may_change) -> Iterator[None]:
  make(workdir)
  with locked(workdir):
    wanted = json.loads(json.dumps(settings))
    path, there = workdir / SETTINGS, {*workdir.iterdir()}
    if path in there:
      _check(workdir, read_settings(workdir), wanted, may_change)
    write_text(path, json.dumps(wanted, indent=2) + '\n')
    try:
      yield
    except errors.UserError:
      if path not in there and not _begun(workdir):
        _remove({*workdir.iterdir()} - there - {workdir / DATA})
      raise


def _begun(workdir: pathlib.Path) -> bool:
  """Whether a run has left something to go on from, or to read."""
  lines = workdir / METRICS
  return (workdir / 'checkpoints').exists() or (
    lines.exists() and lines.stat().st_size > 0
  )


def _remove(paths: Iterable[pathlib.Path]) -> None:
  for path in paths:
    if path.is_dir():
      shutil.rmtree(path)
    else:
      path.unlink()


def read_settings(workdir: pathlib.Path) -> dict[str, Any]:
  """What settings.json of a run holds."""
  path = workdir / SETTINGS
  try:
    found = json.loads(path.read_text())
  except FileNotFoundError as error:
    raise errors.UserError(
      f'{workdir} is not the folder of a run: it has no {SETTINGS}'
    ) from error
  except (OSError, ValueError) as error:
    raise errors.UserError(f'{path} cannot be read: {error}') from error
  if not isinstance(found, dict):
    raise errors.UserError(f'{path} holds no settings: it must be an object')
  return found


def write_text(path: pathlib.Path, text: str) -> None:
  """Replaces a file as a whole: a kill leaves the old one or the new.

  Raises:
    UserError: it cannot be written; the old one is there.
  """
  temporary = path.with_name(f'{path.name}.{os.getpid()}.tmp')
  with writing(path):
    try:
      with temporary.open('w', encoding='utf-8') as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
      temporary.replace(path)
    except OSError:
      with contextlib.suppress(OSError):
        temporary.unlink()
      raise


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
  """Says in one line that a file or folder cannot be written."""
  try:
    yield
  except OSError as error:
    raise errors.UserError(
      f'{path} cannot be written ({error.strerror}): make room there, or give '
      'another folder'
    ) from error


def make(workdir: pathlib.Path) -> None:
  """Makes the folder, or says in one line why it cannot be made."""
  try:
    workdir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise errors.UserError(
      f'workdir {workdir} cannot be made: {error.strerror}'
    ) from error


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
  """Holds a folder: a second process that asks for it gets a UserError.

  The kernel drops this lock when the process dies, however it dies.
  """
  try:
    lock = (workdir / '.lock').open('w')
  except OSError as error:
    raise errors.UserError(
      f'workdir {workdir} cannot be written to: {error.strerror}'
    ) from error
  with lock as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise errors.UserError(
        f'another run is using {workdir}: wait for it or choose another workdir'
      ) from error
    except OSError as error:
      if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
        raise
      logging.warning('%s cannot be locked: start one run at a time', workdir)
    yield


def _check(workdir, old, new, may_change) -> None:
  old, new = dict(dotted(old)), dict(dotted(new))
  absent = object()
  different = []
  for key in sorted(old.keys() | new.keys()):
    before, now = old.get(key, absent), new.get(key, absent)
    if before != now and key not in may_change:
      before, now = (
        'absent' if v is absent else json.dumps(v) for v in (before, now)
      )
      different.append(f'{key} (there {before}, now {now})')
  if different:
    raise errors.UserError(
      f'{workdir} holds a run with other settings: {", ".join(different)}; '
      'set them back or choose another workdir'
    )


def dotted(tree: dict[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
  """('section.key', value) of nested dictionaries."""
  for key, value in tree.items():
    if isinstance(value, dict) and value:
      yield from dotted(value, f'{prefix}{key}.')
    else:
      yield f'{prefix}{key}', value
