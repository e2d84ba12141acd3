"""What a run says: a parameter table, a line, metrics.jsonl, TensorBoard."""

from collections.abc import Iterator, Mapping
import contextlib
import datetime
import io
import json
import logging
import math
import os
import pathlib
import time
from typing import Any

import jax
import numpy as np
import rich.box
import rich.console
import rich.progress
import rich.table

from lvdecode import errors
from lvdecode.training import board
from lvdecode.training import workdir as workdir_lib

_DEPTH = 2
_SHAPES = 4


def parameter_table(params: Any, trainable: Any) -> str:
  """A line per module down to two levels: shapes, number, whether trained.

  Args:
    params: tree of arrays or shapes.
    trainable: tree of bools like it, False where frozen.
  """
  groups: dict[str, list[tuple[str, tuple[int, ...], bool]]] = {}
  leaves = jax.tree_util.tree_leaves_with_path(params)
  for (path, leaf), trained in zip(
    leaves, jax.tree.leaves(trainable), strict=True
  ):
    names = [jax.tree_util.keystr((key,), simple=True) for key in path]
    depth = min(_DEPTH, len(names) - 1)
    group = groups.setdefault('/'.join(names[:depth]), [])
    group.append(('/'.join(names[depth:]), leaf.shape, trained))
  table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
  for name in ('module', 'shapes', 'parameters', 'trained'):
    table.add_column(name, justify='right' if name != 'shapes' else 'left')
  for module, entries in groups.items():
    table.add_row(module, _shapes(entries), *_counts(entries))
  table.add_section()
  everything = [entry for entries in groups.values() for entry in entries]
  table.add_row('total', '', *_counts(everything))
  console = rich.console.Console(file=io.StringIO(), width=100)
  console.print(table)
  return console.file.getvalue()  # type: ignore[attr-defined]


def _shapes(entries) -> str:
  shown = [
    f'{name} {"x".join(map(str, shape)) or "scalar"}'
    for name, shape, _ in entries[:_SHAPES]
  ]
  if len(entries) > _SHAPES:
    shown.append(f'and {len(entries) - _SHAPES} more')
  return ', '.join(shown)


def _counts(entries) -> tuple[str, str]:
  sizes = [(int(np.prod(shape)), trained) for _, shape, trained in entries]
  total = sum(size for size, _ in sizes)
  return f'{total:,}', f'{sum(size for size, trained in sizes if trained):,}'


class Writer:
  """Figures to metrics.jsonl and TensorBoard, as if never interrupted.

  What an earlier process wrote after `step` is dropped: those steps are
  taken again.
  """

  def __init__(self, workdir: pathlib.Path, step: int):
    self._path = workdir / workdir_lib.METRICS
    if self._path.exists():
      # At step 0 nothing was kept, and all is written again.
      kept = _lines_until(self._path, step) if step else ''
      workdir_lib.write_text(self._path, kept)
    # Not buffered: what cannot be written is not tried again at every close.
    self._file = self._path.open('ab', buffering=0)
    # Not SummaryWriter: its flush leaves what is still in a queue behind. The
    # suffix keeps a restart within the same second from replacing the file.
    (workdir / 'tensorboard').mkdir(exist_ok=True)
    self._board = board.EventsWriter(
      str(workdir / 'tensorboard' / 'events'), f'.{step}.{os.getpid()}'
    )
    # The first of a folder begins the run; each later one takes back what is
    # there from its step on, by which all is written again.
    start = board.SessionLog(status=board.SessionLog.START)
    again = step + 1 if step else 0
    self._board.write_event(
      board.Event(step=again, wall_time=time.time(), session_log=start)
    )

  def __enter__(self):
    return self

  def __exit__(self, kind, error, trace):
    try:
      with self._written(), contextlib.ExitStack() as both:
        both.callback(self._board.close)
        both.callback(self._file.close)
    except errors.UserError as failure:
      if error is None:
        raise
      logging.error('%s', failure)  # what stopped the run matters more

  @contextlib.contextmanager
  def _written(self) -> Iterator[None]:
    try:
      yield
    except OSError as error:
      raise errors.UserError(
        f'{self._path} cannot be written to ({error.strerror}): make room, and '
        'give the same command again'
      ) from error

  def write(self, step: int, figures: Mapping[str, float]) -> None:
    """One line of valid JSON: what is not finite becomes null."""
    finite = {k: v if math.isfinite(v) else None for k, v in figures.items()}
    line = json.dumps({'step': step} | finite, allow_nan=False)
    left = f'{line}\n'.encode()
    summary = board.Summary(
      value=[
        board.Summary.Value(tag=name, simple_value=value)
        for name, value in finite.items()
        if value is not None
      ]
    )
    with self._written():
      while left:
        left = left[self._file.write(left) :]
      self._board.write_event(
        board.Event(step=step, wall_time=time.time(), summary=summary)
      )

  def flush(self) -> None:
    """Everything written is on disk after this."""
    with self._written():
      os.fsync(self._file.fileno())
      self._board.flush()


def _lines_until(path: pathlib.Path, step: int) -> str:
  kept = []
  for line in path.read_text().splitlines(keepends=True):
    try:
      # A kill can cut the last line in two.
      if line.endswith('\n') and json.loads(line)['step'] <= step:
        kept.append(line)
    except ValueError:
      continue
  return ''.join(kept)


class Silent:
  """Stands for `Writer` and `Display` where another process has them."""

  def write(self, step: int, figures: Mapping[str, float]) -> None:
    pass

  def flush(self) -> None:
    pass

  def advance(self, step: int) -> None:
    pass

  def show(self, text: str) -> None:
    pass


class Clock:
  """Time spent training, compilation, evaluation and saving left out."""

  def __init__(self) -> None:
    self._begin: float | None = None
    self._seconds = 0.0
    self._steps = 0
    self._tokens = 0.0

  def start(self) -> None:
    self._begin = time.perf_counter()

  def pause(self) -> None:
    if self._begin is not None:
      self._seconds += time.perf_counter() - self._begin
      self._begin = None

  def count(self, tokens: float) -> None:
    """Notes a step on so many tokens."""
    self._steps += 1
    self._tokens += tokens

  def lap(self) -> tuple[float, float]:
    """(tokens per second, seconds per step) since the last lap, or NaN."""
    self.pause()
    rates = (math.nan, math.nan)
    if self._steps and self._seconds:
      rates = (self._tokens / self._seconds, self._seconds / self._steps)
    self._seconds, self._steps, self._tokens = 0.0, 0, 0.0
    return rates


def line(
  step: int,
  steps: int,
  figures: Mapping[str, float],
  tokens_per_second: float,
  seconds_left: float,
) -> str:
  """'step 20/100  loss 3.21  beta 0.5  1,234 tokens/s  ETA 0:01:02'."""
  parts = [f'step {step}/{steps}']
  parts += [f'{name} {value:.4g}' for name, value in figures.items()]
  if math.isfinite(tokens_per_second):
    parts.append(f'{tokens_per_second:,.0f} tokens/s')
  if math.isfinite(seconds_left):
    parts.append(f'ETA {datetime.timedelta(seconds=round(seconds_left))}')
  return '  '.join(parts)


class Display:
  """The newest line: kept in place on a terminal, logged elsewhere.

  A terminal has one such place: a run with a name, one of many, is logged.
  """

  def __init__(self, step: int, steps: int, name: str):
    console = rich.console.Console(stderr=True)
    self._prefix = f'{name}: ' if name else ''
    self._bar = None
    if console.is_terminal and not name:
      self._bar = rich.progress.Progress(
        rich.progress.BarColumn(bar_width=20),
        rich.progress.TextColumn('{task.description}'),
        console=console,
      )
      self._task = self._bar.add_task(
        f'step {step}/{steps}', total=steps, completed=step
      )

  def __enter__(self):
    if self._bar is not None:
      self._bar.start()
    return self

  def __exit__(self, kind, error, trace):
    if self._bar is not None:
      self._bar.stop()

  def advance(self, step: int) -> None:
    """Moves the bar, if there is one."""
    if self._bar is not None:
      self._bar.update(self._task, completed=step)

  def show(self, text: str) -> None:
    if self._bar is not None:
      self._bar.update(self._task, description=text)
    else:
      logging.info('%s%s', self._prefix, text)
