"""The commands of a sweep's points, run as child processes."""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
import datetime
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any, NamedTuple

from experiments import command
from lvdecode.sweeps import points as points_lib
from lvdecode.sweeps import table
from lvdecode.sweeps import vectorize as vectorize_lib
from lvdecode.training import workdir as workdir_lib

_LOG = 'output.log'  # in a point's folder
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Plan(NamedTuple):
  """What the commands of all points have in common.

  Attributes:
    folder: of the sweep; each point has a folder in it.
    config: value of --config, with its argument.
    overrides: dotted key -> value, as given by flags.
    split: that is evaluated.
    samples: K of the importance-weighted bound.
    texts: of the split; 0 for all.
    sections: of a point's evaluation by its name, where they are not those it
      has by default.
  """

  folder: pathlib.Path
  config: str
  overrides: dict[str, Any]
  split: str
  samples: int
  texts: int
  sections: Mapping[str, tuple[str, ...]]

  def training(
    self, chunk: Sequence[points_lib.Point], python: str
  ) -> list[str]:
    """What trains a point, or several in one program."""
    first = chunk[0]
    words = [python, '-m', 'experiments.run', f'--config={self.config}']
    for key, value in (self.overrides | first.overrides).items():
      if value is not None:  # the config's own, which no flag can say
        words.append(f'--config.{key}={value}')
    if len(chunk) == 1:
      return [*words, f'--workdir={self.folder / first.name}']
    members = json.dumps(vectorize_lib.differences(chunk))
    return [*words, f'--workdir={self.folder}', f'--together={members}']

  def evaluation(self, point: points_lib.Point, python: str) -> list[str]:
    """What evaluates a trained point."""
    words = [
      python,
      '-m',
      'experiments.evaluate',
      f'--workdir={self.folder / point.name}',
      f'--split={self.split}',
      f'--samples={self.samples}',
      '--missing',
    ]
    if self.texts:
      words.append(f'--texts={self.texts}')
    sections = self.sections.get(point.name, ())
    if sections:
      words.append(f'--sections={",".join(sections)}')
    return words

  def row(self, point: points_lib.Point) -> table.Row:
    """What became of a point."""
    return table.read(
      self.folder,
      point,
      self.split,
      self.samples,
      self.texts,
      self.sections.get(point.name, ()),
    )


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
    """Asks a run to write its checkpoint and end."""
    self._process.send_signal(signal.SIGTERM)

  def wait(self) -> None:
    self._process.wait()


class _Job:
  """A point under way: first its training, then its evaluation."""

  def __init__(self, plan, point, cores):
    self.point = point
    self.begin = time.perf_counter()
    self._folder = plan.folder
    trained = table.trained(plan.folder, point)
    # What it said while it was trained stays.
    self._home = _cleared(plan.folder, point, log=not trained)
    self._cores = cores
    self._left = collections.deque([plan.evaluation(point, sys.executable)])
    if not trained:
      self._left.appendleft(plan.training([point], sys.executable))
    self.process = self._start()

  def ended(self) -> bool:
    """Whether nothing is left to do; an error is on disk then."""
    code = self.process.poll()
    if code is None:
      return False
    if code:
      _fail(self._home, _reason(self._home / _LOG, code))
    elif not table.trained(self._folder, self.point):
      _fail(self._home, 'the run stopped before its last step')
    elif self._left:
      self.process = self._start()
      return False
    return True

  def _start(self):
    return _Process(self._left.popleft(), self._home / _LOG, self._cores)


class _Group:
  """The training of several points in one program."""

  def __init__(self, plan, points, cores):
    self.points = points
    self.begin = time.perf_counter()
    self._folder = plan.folder
    homes = [_cleared(plan.folder, point, log=True) for point in points]
    self._log = homes[0] / _LOG
    for home in homes[1:]:
      with (home / _LOG).open('a') as file:
        file.write(f'trained together with others: see {self._log}\n')
    words = plan.training(points, sys.executable)
    self.process = _Process(words, self._log, cores)

  def ended(self) -> bool:
    """Whether all are trained; those that are not have an error on disk."""
    code = self.process.poll()
    if code is None:
      return False
    for point in self.points:
      if not table.trained(self._folder, point):
        reason = 'the run stopped before its last step'
        if code:
          reason = _reason(self._log, code, f'{point.name}: ')
        _fail(self._folder / point.name, reason)
    return True


def _cleared(
  folder: pathlib.Path, point: points_lib.Point, *, log: bool
) -> pathlib.Path:
  """The folder of a point, without the error (and log) of another attempt."""
  home = folder / point.name
  home.mkdir(exist_ok=True)
  for name in (table.ERROR, _LOG) if log else (table.ERROR,):
    (home / name).unlink(missing_ok=True)
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


class Runner:
  """Works off the points, so many at a time."""

  def __init__(
    self,
    plan: Plan,
    points: Sequence[points_lib.Point],
    *,
    parallel: int,
    vectorize: int,
    ended: Callable[[], object],
  ):
    """`vectorize` points share a program; `ended` is called after each."""
    self._plan = plan
    self._vectorize = vectorize
    self._after = ended
    left = [point for point in points if plan.row(point).status != 'done']
    self._open = collections.deque(self._chunks(left))
    self._total = len(left)
    print(f'{len(points) - self._total} of {len(points)} points are done')
    self._slots = collections.deque(_slots(parallel))
    self._ended = 0
    self._begin = time.perf_counter()
    self._signal = 0

  def run(self) -> int:
    """0, or 128 + the signal that ended it."""
    for number in _SIGNALS:
      signal.signal(number, self._note)
    jobs: list[tuple[_Job | _Group, set[int]]] = []
    try:
      while (self._open or jobs) and not self._signal:
        self._advance(jobs)
        time.sleep(0.2)
    finally:  # whatever happens here, the runs keep their last step
      for job, _ in jobs:
        job.process.stop()
      for job, _ in jobs:
        job.process.wait()
    if self._signal:
      print('stopped: the same command goes on from here')
      return 128 + self._signal
    return 0

  def _advance(self, jobs):
    """Starts what there is room for, and takes in what has ended."""
    while self._open and self._slots:
      cores = self._slots.popleft()
      jobs.append((self._job(self._open.popleft(), cores), cores))
    for job, cores in list(jobs):
      if job.ended():
        jobs.remove((job, cores))
        self._slots.append(cores)
        self._end(job)
        self._after()

  def _chunks(self, points):
    """Points that are trained together; what is trained is on its own."""
    trained = [
      point for point in points if table.trained(self._plan.folder, point)
    ]
    rest = [point for point in points if point not in trained]
    return [
      *([point] for point in trained),
      *vectorize_lib.chunks(rest, self._vectorize),
    ]

  def _job(self, chunk, cores) -> '_Job | _Group':
    if len(chunk) == 1:
      return _Job(self._plan, chunk[0], cores)
    return _Group(self._plan, chunk, cores)

  def _end(self, job) -> None:
    if isinstance(job, _Job):
      self._say(job.point, job.begin)
      return
    seconds = time.perf_counter() - job.begin
    print(f'trained {len(job.points)} together  {seconds:.0f} s', flush=True)
    trained = [p for p in job.points if table.trained(self._plan.folder, p)]
    for point in job.points:
      if point not in trained:
        self._say(point, job.begin)
    # Only their evaluation is left; before all others.
    self._open.extendleft([point] for point in reversed(trained))

  def _note(self, number, frame):
    del frame
    self._signal = number

  def _say(self, point, begin):
    self._ended += 1
    now = time.perf_counter()
    left = (now - self._begin) / self._ended * (self._total - self._ended)
    row = self._plan.row(point)
    known = [figure for figure in table.FIGURES if figure[0] in row.figures]
    figures = ''.join(
      f'  {heading} {row.figures[name]:.2f}' for name, heading in known[:4]
    )
    print(
      f'[{self._ended}/{self._total}] {point.slug}  {row.status}{figures}'
      f'{row.error}  {now - begin:.0f} s  '
      f'ETA {datetime.timedelta(seconds=round(left))}',
      flush=True,
    )


def _slots(parallel: int) -> Iterator[set[int]]:
  """The cores of each of the runs that go at a time."""
  cores = sorted(os.sched_getaffinity(0))
  for slot in range(parallel):
    yield set(cores[slot::parallel] or cores)
