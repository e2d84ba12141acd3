"""Runs the points of a sweep, and makes their table and comparisons.

python -m experiments.sweep --config=configs/sweep_injection.py:quick \
  --workdir=runs/sweep

Every point has its own folder, which is a run's workdir: finished points are
skipped, interrupted ones go on, failed ones are recorded and tried again by
the next call. Points run one after the other, or --parallel at a time; those
that differ in numbers alone are trained --vectorize at a time in one program.
"""

from collections.abc import Sequence
import importlib.util
import inspect
import os
import pathlib
import shlex
import sys

from absl import flags
from ml_collections import config_flags
from rich import console as rich_console
from rich import markdown as rich_markdown

from experiments import command
from experiments import jobs
from lvdecode import errors
from lvdecode.evaluation import measures
from lvdecode.report import comparisons
from lvdecode.report import style
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
_SECTIONS = flags.DEFINE_list(
  'sections', [], 'What is measured beside likelihood, information and use.'
)


def main() -> None:
  errors.at_least('--parallel', _PARALLEL.value, 1)
  errors.at_least('--vectorize', _VECTORIZE.value, 1)
  errors.at_least('--samples', _SAMPLES.value, 1)
  errors.at_least('--texts', _TEXTS.value, 0)
  errors.one_of('--split', _SPLIT.value, ('train', 'validation', 'test'))
  for name in _SECTIONS.value:
    errors.one_of('--sections', name, tuple(measures.SECTIONS))
  config = command.config(_CONFIG.value)
  everything = points_lib.expand(config, _sweep())
  points = points_lib.select(everything, _ONLY.value)
  if _LIST.value:
    for point in points:
      print(point.name)
    return
  folder = command.workdir()
  everything = [points_lib.settled(point, folder) for point in everything]
  points = [points_lib.settled(point, folder) for point in points]
  plan = jobs.Plan(
    folder=folder,
    config=config_flags.get_config_filename(flags.FLAGS['config']),
    overrides=config_flags.get_override_values(flags.FLAGS['config']),
    split=_SPLIT.value,
    samples=_SAMPLES.value,
    texts=_TEXTS.value,
    sections=_sections(everything),
  )
  if _PRINT.value:
    for chunk in vectorize.chunks(points, _VECTORIZE.value):
      print(_line(plan, chunk))
    return
  workdir_lib.make(folder)
  with workdir_lib.locked(folder):
    _prepare(folder, points)
    code = 0
    if not _COLLECT.value:
      code = jobs.Runner(
        plan,
        points,
        parallel=_PARALLEL.value,
        vectorize=_VECTORIZE.value,
        ended=lambda: _collect(plan, everything),
      ).run()
    rows = _collect(plan, everything)
  text = (folder / 'table.md').read_text()
  # A file takes lines of any length; a terminal says how long they may be.
  width = None if sys.stdout.isatty() else 160
  rich_console.Console(width=width).print(rich_markdown.Markdown(text))
  print(f'table     {folder}/table.md, {folder}/table.csv')
  print('pictures  ' + ' '.join(str(p) for p in sorted(folder.glob('*.png'))))
  names = {point.name for point in points}
  chosen = [row for row in rows if row.point.name in names]
  failed = [row for row in chosen if row.status == 'failed']
  for row in failed:
    print(f'failed: {row.point.name}: {row.error}', file=sys.stderr)
  left = [row for row in chosen if row.status == 'open']
  if left and not code:
    print(f'open: {len(left)}, such as {left[0].point.name}', file=sys.stderr)
  if code or failed or (left and not _COLLECT.value):
    sys.exit(code or 1)


def _sections(
  points: Sequence[points_lib.Point],
) -> dict[str, tuple[str, ...]]:
  """By the name of a point, where there are more than an evaluation has."""
  asked, split = _SECTIONS.value, _SPLIT.value
  for name in asked:
    lacks = [measures.lack(name, point.settings, split) for point in points]
    if None not in lacks:
      raise errors.UserError(f'--sections={name}: {lacks[0]}')
  found = {
    point.name: measures.of_a_sweep(asked, point.settings, split)
    for point in points
  }
  return {name: sections for name, sections in found.items() if sections}


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
  if argument and len(inspect.signature(module.sweep).parameters) > 1:
    return lambda add: module.sweep(add, argument)
  return module.sweep


def _prepare(folder: pathlib.Path, points: Sequence[points_lib.Point]) -> None:
  """Prepares the data once for all points; bad data end the sweep here."""
  os.environ.setdefault('TFDS_DATA_DIR', str(folder.absolute() / 'data'))
  prints, texts = {}, {}
  for point in points:
    data = point.settings.data
    if data not in prints:
      sources.read(data, _SPLIT.value, folder)
      prints[data] = sources.fingerprint(data, folder)
    if point.in_epochs:
      if data not in texts:
        texts[data] = len(sources.read(data, 'train', folder).texts)
      point.check_schedules(texts[data])
    home = folder / point.name
    if not (home / workdir_lib.SETTINGS).exists():
      continue
    known = workdir_lib.read_settings(home).get('data_fingerprint')
    if known != prints[data]:
      raise errors.UserError(
        f'{home} was trained on other data than those of data.path now: '
        'restore them or choose another --workdir'
      )


def _line(plan: jobs.Plan, chunk: Sequence[points_lib.Point]) -> str:
  """A shell's line that trains and evaluates points."""
  evaluations = [plan.evaluation(point, 'python') for point in chunk]
  commands = [plan.training(chunk, 'python'), *evaluations]
  # One that fails leaves the others alone.
  return (' && ' if len(chunk) == 1 else '; ').join(map(shlex.join, commands))


def _collect(
  plan: jobs.Plan, points: Sequence[points_lib.Point]
) -> list[table.Row]:
  """Writes table.csv, table.md and the pictures of what is done."""
  folder = plan.folder
  rows = [plan.row(point) for point in points]
  text = table.to_markdown(rows, plan.split, plan.samples)
  workdir_lib.write_text(folder / 'table.md', text)
  workdir_lib.write_text(folder / 'table.csv', table.to_csv(rows))
  if any('kl' in row.figures for row in rows):  # not of classifiers
    style.save(
      comparisons.rate_distortion(rows), folder / 'rate_distortion.png'
    )
    for name in comparisons.choices(rows):
      style.save(comparisons.against(rows, name), folder / f'by_{name}.png')
  return rows


if __name__ == '__main__':
  command.run(main)
