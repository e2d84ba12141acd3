"""What all commands share: flags, one-line errors, logging, the cache."""

from collections.abc import Callable
import ctypes
import logging
import os
import pathlib
import re
import signal
import sys
import time
import traceback
from typing import Any

from absl import app
from absl import flags
from absl import logging as absl_logging
from ml_collections import config_dict
from rich import console as rich_console
from rich import progress as rich_progress

from lvdecode import errors
from lvdecode.training import allocator
from lvdecode.training import compilation
from lvdecode.training import hosts

_WORKDIR = flags.DEFINE_multi_string('workdir', None, 'Folder of the run.')
_COORDINATOR = flags.DEFINE_string(
  'coordinator', '', 'Of many processes: HOST:PORT of process 0.'
)
_PROCESS_ID = flags.DEFINE_integer(
  'process_id', None, 'Of many processes: which this is, from 0.'
)
_NUM_PROCESSES = flags.DEFINE_integer(
  'num_processes', None, 'Of many processes: how many there are.'
)
_JOIN_SECONDS = flags.DEFINE_integer(
  'join_seconds', 300, 'How long processes wait for each other.', lower_bound=1
)
_HEARTBEAT_SECONDS = flags.DEFINE_integer(
  'heartbeat_seconds',
  100,
  'A process not heard of for so long is dead, and all end.',
  lower_bound=1,
)

_PATIENCE = 10.0  # seconds
_OF_CONFIG = re.compile(r'--?(no)?config\.')
_KEY = re.compile(r'--?(no)?config(\.[^\W\d]\w*(\[[^]]*\])*)+')


# Environment variable: the process this one must not outlive.
PARENT = 'LVDECODE_PARENT'


def workdirs() -> list[pathlib.Path]:
  """The folders that --workdir names, one or more, in their order."""
  if not _WORKDIR.value or not all(_WORKDIR.value):
    raise errors.UserError('--workdir is missing: give the folder of a run')
  for name in _WORKDIR.value:
    if '://' in name:
      raise errors.UserError(
        f'--workdir={name} is a URL, and a run needs a folder: mount the bucket '
        'and give where it is mounted'
      )
  return [errors.path(name) for name in _WORKDIR.value]


def workdir() -> pathlib.Path:
  """The folder that --workdir names, which must be one."""
  folders = workdirs()
  if len(folders) > 1:
    raise errors.UserError(
      f'--workdir was given {len(folders)} times: this takes one run'
    )
  return folders[0]


def config(value: config_dict.ConfigDict | None) -> dict[str, Any]:
  """What --config holds, as nested dictionaries."""
  if value is None:
    raise errors.UserError('--config is missing: give configs/NAME.py')
  try:
    return value.to_dict()
  except OSError as error:  # config_flags keeps it until the first use
    raise errors.UserError(_unreadable(error)) from error


def _unreadable(error: OSError) -> str:
  return f'--config cannot be read: {str(error).split("Attempted")[-1]}'


class Progress:
  """How far a measurement is: a bar, or a line every ten seconds in a log."""

  def __init__(self, name: str, total: int):
    self._name = name
    self._total = total
    self._done = 0.0
    self._begin = self._said = time.monotonic()
    self._bar = None
    console = rich_console.Console(stderr=True)
    if console.is_terminal:
      self._bar = rich_progress.Progress(
        *rich_progress.Progress.get_default_columns(),
        console=console,
        transient=True,
      )
      self._task = self._bar.add_task(name, total=total)

  def __enter__(self):
    if self._bar is not None:
      self._bar.start()
    return self

  def __exit__(self, kind, error, trace):
    if self._bar is not None:
      self._bar.stop()

  def advance(self, texts: float) -> None:
    """So many texts more are done; a fraction counts."""
    self._done += texts
    if self._bar is not None:
      self._bar.advance(self._task, texts)
      return
    now = time.monotonic()
    if now - self._said >= _PATIENCE:
      self._said = now
      left = (now - self._begin) * (self._total / self._done - 1)
      logging.info(
        '%s: %s of %s texts, %.0f s left',
        self._name,
        f'{int(self._done):,}',
        f'{self._total:,}',
        left,
      )


def run(main: Callable[[], None]) -> None:
  """Runs a command; a user's mistake is one line and exit code 2."""
  app.run(lambda argv: _guarded(main), flags_parser=_parse)


def run_with_word(main: Callable[[str], None], default: str) -> None:
  """The same for a command that takes one word beside its flags."""
  words: list[str] = []

  def parse(argv):
    rest = _parse(argv, words=1)
    words.extend(rest[1:] or [default])
    return rest[:1]

  app.run(lambda argv: _guarded(lambda: main(words[0])), flags_parser=parse)


def _parse(argv, words=0):
  for word in argv[1:]:
    flag = word.partition('=')[0]
    if _OF_CONFIG.match(flag) and not _KEY.fullmatch(flag):
      fail(
        f'{flag} is no key of the config: keys are like --config.training.steps'
      )
  try:
    rest = flags.FLAGS(argv)
  except OSError as error:  # of a config that other flags would change
    fail(_unreadable(error))
  # Of config_flags, for --config.a.b.
  except (AttributeError, LookupError) as error:
    # The message arrives as the representation of a string.
    reason = str(error).replace('\\n', ' ').replace('\\', '').replace("'", '')
    fail(f'--config has no such key or argument: {reason}')
  except (flags.Error, TypeError) as error:
    fail(error)
  if len(rest) > 1 + words:
    fail(f'unexpected argument {rest[1 + words]!r}: flags start with --')
  return rest


def _die_with_parent():
  """A sweep that is killed leaves no run that holds its folder."""
  parent = os.environ.pop(PARENT, '')
  if parent:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1: PR_SET_PDEATHSIG
    if os.getppid() != int(parent):  # it had died before
      sys.exit(1)


def _guarded(main):
  _die_with_parent()
  allocator.keep()
  absl_logging.set_verbosity(absl_logging.INFO)
  formatter = logging.Formatter('%(levelname).1s %(message)s')
  absl_logging.get_absl_handler().setFormatter(formatter)
  # The libraries' own chatter is for those who look for it.
  for name in ('absl', 'orbax', 'jax', 'grain'):
    logging.getLogger(name).setLevel(logging.WARNING)
  compilation.enable_cache()
  try:
    main()
  except errors.UserError as error:
    _say(error)
    hosts.leave(2)
  except Exception:
    if hosts.count() == 1:
      raise
    traceback.print_exc()
    hosts.leave(1)  # a mere exit would wait for processes that wait for it


def fail(message: Exception | str) -> None:
  """Prints one line and exits with code 2."""
  _say(message)
  sys.exit(2)


def _say(message: Exception | str) -> None:
  line = f'error: {" ".join(str(message).split())}'
  print(line, file=sys.stderr, flush=True)


def join_others() -> None:
  """Makes this one of many processes, if flags or the environment say so.

  Process 0 then speaks for all: the others warn only.
  """
  hosts.join(
    _COORDINATOR.value,
    _PROCESS_ID.value,
    _NUM_PROCESSES.value,
    join_seconds=_JOIN_SECONDS.value,
    heartbeat_seconds=_HEARTBEAT_SECONDS.value,
  )
  if not hosts.first():
    absl_logging.set_verbosity(absl_logging.WARNING)
