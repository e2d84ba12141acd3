"""Runs the points of a sweep, and makes their table and comparisons.

python -m experiments.sweep --config=configs/sweep_injection.py:quick \
  --workdir=runs/sweep

Every point has its own folder, which is a run's workdir: finished points are
skipped, interrupted ones go on, failed ones are recorded and tried again by
the next call. Points run one after the other, or --parallel at a time.
"""

import collections
from collections.abc import Iterator, Sequence
import datetime
import importlib.util
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
from lvdecode.text import sources
from lvdecode.training import workdir as workdir_lib

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'configs/NAME.py with a function sweep(add)'
)
_PARALLEL = flags.DEFINE_integer('parallel', 1, 'Points at a time.')
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
  errors.at_least('--samples', _SAMPLES.value, 1)
  errors.at_least('--texts', _TEXTS.value, 0)
  errors.one_of('--split', _SPLIT.value, ('train', 'validation', 'test'))
  config = command.config(_CONFIG.value)
  everything = points_lib.expand(config, _sweep())
  points = points_lib.select(everything, _ONLY.value)
  if _LIST.value:
    for point in points:
      print(point.name)
    return
  folder = command.workdir()
  if _PRINT.value:
    for point in points:
      print(' && '.join(map(shlex.join, _commands(folder, point, 'python'))))
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


def _commands(
  folder: pathlib.Path, point: points_lib.Point, python: str
) -> tuple[list[str], list[str]]:
  """What trains a point, and what evaluates it."""
  home = f'--workdir={folder / point.name}'
  given = config_flags.get_override_values(flags.FLAGS['config'])
  settings = [
    f'--config.{key}={value}'
    for key, value in (given | point.overrides).items()
  ]
  config = config_flags.get_config_filename(flags.FLAGS['config'])
  return (
    [python, '-m', 'experiments.run', f'--config={config}', *settings, home],
    [
      python,
      '-m',
      'experiments.evaluate',
      home,
      f'--split={_SPLIT.value}',
      f'--samples={_SAMPLES.value}',
      *([f'--texts={_TEXTS.value}'] if _TEXTS.value else []),
    ],
  )


class _Job:
  """A point under way: first its training, then its evaluation."""

  def __init__(self, folder, point, cores):
    self.point = point
    self.begin = time.perf_counter()
    self._folder = folder
    self._home = folder / point.name
    self._home.mkdir(exist_ok=True)
    (self._home / table.ERROR).unlink(missing_ok=True)
    self._log = (self._home / _LOG).open('a')
    self._cores = cores
    self._left = collections.deque(_commands(folder, point, sys.executable))
    if table.trained(folder, point):
      self._left.popleft()
    self._process = self._start()

  def ended(self) -> bool:
    """Whether nothing is left to do; an error is on disk then."""
    code = self._process.poll()
    if code is None:
      return False
    if code:
      self._fail(code)
    elif not table.trained(self._folder, self.point):
      self._fail('the run stopped before its last step')
    elif self._left:
      self._process = self._start()
      return False
    self._log.close()
    return True

  def stop(self) -> None:
    """Lets the run write its checkpoint and end."""
    self._process.send_signal(signal.SIGTERM)
    self._process.wait()

  def _start(self):
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, self._cores)  # a child has its parent's cores
    try:
      return subprocess.Popen(
        self._left.popleft(),
        stdout=self._log,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {command.PARENT: str(os.getpid())},
      )
    finally:
      os.sched_setaffinity(0, ours)

  def _fail(self, reason):
    self._log.flush()
    lines = (self._home / _LOG).read_text().splitlines() or ['']
    if isinstance(reason, int):
      said = [line for line in lines if line.startswith('error: ')] or lines
      reason = f'{said[-1].removeprefix("error: ")} (exit code {reason})'
    workdir_lib.write_text(self._home / table.ERROR, reason + '\n')


class _Runner:
  """Works off the points, so many at a time."""

  def __init__(self, folder, points, everything):
    self._folder = folder
    self._everything = everything
    self._open = collections.deque(
      point for point in points if self._row(point).status != 'done'
    )
    self._total = len(self._open)
    print(f'{len(points) - self._total} of {len(points)} points are done')
    self._slots = collections.deque(_slots(_PARALLEL.value))
    self._signal = 0

  def run(self) -> int:
    """0, or 128 + the signal that ended it."""
    for number in _SIGNALS:
      signal.signal(number, self._note)
    jobs: list[tuple[_Job, set[int]]] = []
    begin, ended = time.perf_counter(), 0
    while (self._open or jobs) and not self._signal:
      while self._open and self._slots:
        cores = self._slots.popleft()
        jobs.append((_Job(self._folder, self._open.popleft(), cores), cores))
      for job, cores in list(jobs):
        if job.ended():
          jobs.remove((job, cores))
          self._slots.append(cores)
          ended += 1
          seconds = (time.perf_counter() - begin) / ended
          self._say(job, ended, seconds * (self._total - ended))
          _collect(self._folder, self._everything)
      time.sleep(0.2)
    for job, _ in jobs:
      job.stop()
    if self._signal:
      print('stopped: the same command goes on from here')
      return 128 + self._signal
    return 0

  def _note(self, number, frame):
    del frame
    self._signal = number

  def _row(self, point):
    return _row(self._folder, point)

  def _say(self, job, ended, left):
    row = self._row(job.point)
    figures = ''.join(
      f'  {heading} {row.figures[name]:.2f}'
      for name, heading in table.FIGURES[:4]
      if name in row.figures
    )
    print(
      f'[{ended}/{self._total}] {job.point.slug}  {row.status}{figures}'
      f'{row.error}  {time.perf_counter() - job.begin:.0f} s  '
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
