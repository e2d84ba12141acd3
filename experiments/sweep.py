"""Runs the points of a sweep, and makes their table and comparisons.

python -m experiments.sweep --config=configs/sweep_injection.py:quick \
  --workdir=runs/sweep

Every point has its own folder, which is a run's workdir: finished points are
skipped, interrupted ones go on, failed ones are recorded and tried again by
the next call. Points run one after the other, or --parallel at a time; those
that differ in numbers alone are trained --vectorize at a time in one program.
"""

import collections
from collections.abc import Iterator, Sequence
import datetime
import importlib.util
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time

from absl import flags
from ml_collections import config_flags
from rich import console as rich_console
from rich import markdown as rich_markdown

from experiments import command
from lvdecode import errors
from lvdecode.report import comparisons
from lvdecode.sweeps import points as points_lib
from lvdecode.sweeps import table
from lvdecode.sweeps import vectorize
from lvdecode.text import sources
from lvdecode.training import workdir as workdir_lib

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'configs/NAME.py with a function sweep(add)'
)
_PARALLEL = flags.DEFINE_integer('parallel', 1, 'Points at a time.')
_VECTORIZE = flags.DEFINE_integer(
  'vectorize', 1, 'Points trained in one program, where they differ in numbers.'
)
_ONLY = flags.DEFINE_string(
  'only', '', 'Points whose name holds this text, or matches it as *pattern*.'
)
_LIST = flags.DEFINE_bool('list', False, 'Name the points and stop.')
_PRINT = flags.DEFINE_bool(
  'print_commands', False, 'One command line a point, for a cluster; and stop.'
)
_COLLECT = flags.DEFINE_bool(
  'collect', False, 'Only make the table of what is there.'
)
_SPLIT = flags.DEFINE_string('split', 'test', 'validation or test.')
_SAMPLES = flags.DEFINE_integer(
  'samples', 100, 'K of the importance-weighted bound.'
)
_TEXTS = flags.DEFINE_integer(
  'texts', 0, 'Texts of the split that are evaluated; 0 for all.'
)
_LOG = 'output.log'  # in a point's folder
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main() -> None:
  errors.at_least('--parallel', _PARALLEL.value, 1)
  errors.at_least('--vectorize', _VECTORIZE.value, 1)
  errors.at_least('--samples', _SAMPLES.value, 1)
  errors.at_least('--texts', _TEXTS.value, 0)
  errors.one_of('--split', _SPLIT.value, ('train', 'validation', 'test'))
  config = command.config(_CONFIG.value)
  everything = points_lib.expand(config, _sweep())
  points = points_lib.select(everything, _ONLY.value)
  if _VECTORIZE.value > 1:
    for point in points:
      vectorize.check([point.settings])
  if _LIST.value:
    for point in points:
      print(point.name)
    return
  folder = command.workdir()
  if _PRINT.value:
    for chunk in vectorize.chunks(points, _VECTORIZE.value):
      print(_line(folder, chunk))
    return
  workdir_lib.make(folder)
  with workdir_lib.locked(folder):
    _prepare(folder, points)
    code = 0
    if not _COLLECT.value:
      code = _Runner(folder, points, everything).run()
    rows = _collect(folder, everything)
  text = (folder / 'table.md').read_text()
  rich_console.Console().print(rich_markdown.Markdown(text))
  print(f'table     {folder}/table.md, {folder}/table.csv')
  print('pictures  ' + ' '.join(str(p) for p in sorted(folder.glob('*.png'))))
  failed = [row for row in rows if row.status == 'failed']
  for row in failed:
    print(f'failed: {row.point.name}: {row.error}', file=sys.stderr)
  if code or failed:
    sys.exit(code or 1)


def _sweep():
  """The config module's sweep, bound to the argument after the colon."""
  name = config_flags.get_config_filename(flags.FLAGS['config'])
  path, _, argument = name.partition(':')
  spec = importlib.util.spec_from_file_location('swept_config', path)
  assert spec is not None and spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  if not hasattr(module, 'sweep'):
    raise errors.UserError(
      f'--config {path} has no function sweep(add): add one, or train a single '
      'run by experiments.run'
    )
  if argument:
    return lambda add: module.sweep(add, argument)
  return module.sweep


def _prepare(folder: pathlib.Path, points: Sequence[points_lib.Point]) -> None:
  """Prepares the data once for all points; bad data end the sweep here."""
  os.environ.setdefault('TFDS_DATA_DIR', str(folder.absolute() / 'data'))
  for data in dict.fromkeys(point.settings.data for point in points):
    sources.read(data, _SPLIT.value, folder)


def _line(folder: pathlib.Path, chunk: Sequence[points_lib.Point]) -> str:
  """A shell's line that trains and evaluates points."""
  evaluations = [_evaluation(folder, point, 'python') for point in chunk]
  commands = [_training(folder, chunk, 'python'), *evaluations]
  # One that fails leaves the others alone.
  return (' && ' if len(chunk) == 1 else '; ').join(map(shlex.join, commands))


def _training(
  folder: pathlib.Path, chunk: Sequence[points_lib.Point], python: str
) -> list[str]:
  """What trains a point, or several in one program."""
  first = chunk[0]
  given = config_flags.get_override_values(flags.FLAGS['config'])
  settings = [
    f'--config.{key}={value}'
    for key, value in (given | first.overrides).items()
  ]
  config = config_flags.get_config_filename(flags.FLAGS['config'])
  command_line = [
    python,
    '-m',
    'experiments.run',
    f'--config={config}',
    *settings,
  ]
  if len(chunk) == 1:
    return [*command_line, f'--workdir={folder / first.name}']
  members = json.dumps(vectorize.differences(chunk))
  return [*command_line, f'--workdir={folder}', f'--together={members}']


def _evaluation(
  folder: pathlib.Path, point: points_lib.Point, python: str
) -> list[str]:
  return [
    python,
    '-m',
    'experiments.evaluate',
    f'--workdir={folder / point.name}',
    f'--split={_SPLIT.value}',
    f'--samples={_SAMPLES.value}',
    *([f'--texts={_TEXTS.value}'] if _TEXTS.value else []),
  ]


class _Process:
  """A command under way, whose words are appended to a file."""

  def __init__(self, words, log, cores):
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)  # a child has its parent's cores
    try:
      with log.open('a') as file:
        self._process = subprocess.Popen(
          words,
          stdout=file,
          stderr=subprocess.STDOUT,
          stdin=subprocess.DEVNULL,
          start_new_session=True,
          env=os.environ | {command.PARENT: str(os.getpid())},
        )
    finally:
      os.sched_setaffinity(0, ours)

  def poll(self) -> int | None:
    """The exit code; None while it runs."""
    return self._process.poll()

  def stop(self) -> None:
    """Lets a run write its checkpoint and end."""
    self._process.send_signal(signal.SIGTERM)
    self._process.wait()


class _Job:
  """A point under way: first its training, then its evaluation."""

  def __init__(self, folder, point, cores):
    self.point = point
    self.begin = time.perf_counter()
    self._folder = folder
    self._home = _cleared(folder, point)
    self._cores = cores
    self._left = collections.deque([_evaluation(folder, point, sys.executable)])
    if not table.trained(folder, point):
      self._left.appendleft(_training(folder, [point], sys.executable))
    self._process = self._start()

  def ended(self) -> bool:
    """Whether nothing is left to do; an error is on disk then."""
    code = self._process.poll()
    if code is None:
      return False
    if code:
      _fail(self._home, _reason(self._home / _LOG, code))
    elif not table.trained(self._folder, self.point):
      _fail(self._home, 'the run stopped before its last step')
    elif self._left:
      self._process = self._start()
      return False
    return True

  def stop(self) -> None:
    self._process.stop()

  def _start(self):
    return _Process(self._left.popleft(), self._home / _LOG, self._cores)


class _Group:
  """The training of several points in one program."""

  def __init__(self, folder, points, cores):
    self.points = points
    self.begin = time.perf_counter()
    self._folder = folder
    homes = [_cleared(folder, point) for point in points]
    self._log = homes[0] / _LOG
    for home in homes[1:]:
      with (home / _LOG).open('a') as file:
        file.write(f'trained together with others: see {self._log}\n')
    words = _training(folder, points, sys.executable)
    self._process = _Process(words, self._log, cores)

  def ended(self) -> bool:
    """Whether all are trained; those that are not have an error on disk."""
    code = self._process.poll()
    if code is None:
      return False
    for point in self.points:
      if not table.trained(self._folder, point):
        reason = 'the run stopped before its last step'
        if code:
          reason = _reason(self._log, code, f'{point.name}: ')
        _fail(self._folder / point.name, reason)
    return True

  def stop(self) -> None:
    self._process.stop()


def _cleared(folder: pathlib.Path, point: points_lib.Point) -> pathlib.Path:
  """The folder of a point, without the error of another time."""
  home = folder / point.name
  home.mkdir(exist_ok=True)
  (home / table.ERROR).unlink(missing_ok=True)
  return home


def _fail(home: pathlib.Path, reason: str) -> None:
  workdir_lib.write_text(home / table.ERROR, reason + '\n')


def _reason(log: pathlib.Path, code: int, whose: str = '') -> str:
  """Why a command ended with this code: its last error, or its last line."""
  lines = log.read_text().splitlines() or ['']
  said = [line for line in lines if line.startswith('error: ')] or lines
  own = [line for line in said if line.startswith(f'error: {whose}')] or said
  return (
    f'{own[-1].removeprefix("error: ").removeprefix(whose)} (exit code {code})'
  )


class _Runner:
  """Works off the points, so many at a time."""

  def __init__(self, folder, points, everything):
    self._folder = folder
    self._everything = everything
    left = [point for point in points if self._row(point).status != 'done']
    self._open = collections.deque(self._chunks(left))
    self._total = len(left)
    print(f'{len(points) - self._total} of {len(points)} points are done')
    self._slots = collections.deque(_slots(_PARALLEL.value))
    self._ended = 0
    self._begin = time.perf_counter()
    self._signal = 0

  def run(self) -> int:
    """0, or 128 + the signal that ended it."""
    for number in _SIGNALS:
      signal.signal(number, self._note)
    jobs: list[tuple[_Job | _Group, set[int]]] = []
    while (self._open or jobs) and not self._signal:
      while self._open and self._slots:
        cores = self._slots.popleft()
        jobs.append((self._job(self._open.popleft(), cores), cores))
      for job, cores in list(jobs):
        if job.ended():
          jobs.remove((job, cores))
          self._slots.append(cores)
          self._end(job)
          _collect(self._folder, self._everything)
      time.sleep(0.2)
    for job, _ in jobs:
      job.stop()
    if self._signal:
      print('stopped: the same command goes on from here')
      return 128 + self._signal
    return 0

  def _chunks(self, points):
    """Points that are trained together; what is trained is on its own."""
    trained = [point for point in points if table.trained(self._folder, point)]
    rest = [point for point in points if point not in trained]
    return [
      *([point] for point in trained),
      *vectorize.chunks(rest, _VECTORIZE.value),
    ]

  def _job(self, chunk, cores) -> '_Job | _Group':
    if len(chunk) == 1:
      return _Job(self._folder, chunk[0], cores)
    return _Group(self._folder, chunk, cores)

  def _end(self, job) -> None:
    if isinstance(job, _Job):
      self._say(job.point, job.begin)
      return
    seconds = time.perf_counter() - job.begin
    print(f'trained {len(job.points)} together  {seconds:.0f} s', flush=True)
    trained = [p for p in job.points if table.trained(self._folder, p)]
    for point in job.points:
      if point not in trained:
        self._say(point, job.begin)
    # Only their evaluation is left; before all others.
    self._open.extendleft([point] for point in reversed(trained))

  def _note(self, number, frame):
    del frame
    self._signal = number

  def _row(self, point):
    return _row(self._folder, point)

  def _say(self, point, begin):
    self._ended += 1
    now = time.perf_counter()
    left = (now - self._begin) / self._ended * (self._total - self._ended)
    row = self._row(point)
    figures = ''.join(
      f'  {heading} {row.figures[name]:.2f}'
      for name, heading in table.FIGURES[:4]
      if name in row.figures
    )
    print(
      f'[{self._ended}/{self._total}] {point.slug}  {row.status}{figures}'
      f'{row.error}  {now - begin:.0f} s  '
      f'ETA {datetime.timedelta(seconds=round(left))}',
      flush=True,
    )


def _row(folder: pathlib.Path, point: points_lib.Point) -> table.Row:
  return table.read(folder, point, _SPLIT.value, _SAMPLES.value)


def _slots(parallel: int) -> Iterator[set[int]]:
  """The cores of each of the runs that go at a time."""
  cores = sorted(os.sched_getaffinity(0))
  for slot in range(parallel):
    yield set(cores[slot::parallel] or cores)


def _collect(
  folder: pathlib.Path, points: Sequence[points_lib.Point]
) -> list[table.Row]:
  """Writes table.csv, table.md and the pictures of what is done."""
  rows = [_row(folder, point) for point in points]
  text = table.to_markdown(rows, _SPLIT.value, _SAMPLES.value)
  workdir_lib.write_text(folder / 'table.md', text)
  workdir_lib.write_text(folder / 'table.csv', table.to_csv(rows))
  if any(row.status == 'done' for row in rows):
    keys, _ = table.groups(rows)
    comparisons.save(
      comparisons.rate_distortion(rows), folder / 'rate_distortion.png'
    )
    for key in keys:
      comparisons.save(comparisons.against(rows, key), folder / f'by_{key}.png')
  return rows


if __name__ == '__main__':
  command.run(main)
