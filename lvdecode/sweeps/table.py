"""What the points of a sweep came to: one row a run, one a group of seeds."""

from collections.abc import Collection, Mapping, Sequence
import csv
import dataclasses
import io
import json
import math
import pathlib
import statistics
from typing import Any

from lvdecode.sweeps import points as points_lib
from lvdecode.training import checkpoint

CHANGED = 'changed'  # the heading of what points set that set different keys
ERROR = 'error.txt'  # in a point's folder: why it failed
# Figures of a run's evaluation that the table shows: name there, heading.
FIGURES = (
  ('kl', 'KL'),
  ('reconstruction_nll', 'NLL'),
  ('negative_elbo', '-ELBO'),
  ('iw_nll', 'IW-NLL'),
  ('shuffled_gap', 'shuffled z'),
  ('mutual_information', 'MI'),
  ('active_units', 'active units'),
  ('bleu_4', 'BLEU-4'),
  ('distinct_1', 'distinct-1'),
  ('distinct_2', 'distinct-2'),
  ('accuracy', 'accuracy'),
  ('macro_f1', 'macro-F1'),
)
_SEED = 0  # of what an evaluation draws, unless it is told otherwise
_SHARES = ('accuracy', 'macro_f1')  # shown in per cent
_CHOSEN = 'likely words'  # of the completions whose figures are shown


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """A point and what became of it.

  Attributes:
    point: the run.
    status: 'done', 'failed' or 'open'.
    figures: of its evaluation, nats per sequence; of completions, BLEU-4 in
      0..100 and distinct shares in per cent; or of a classifier, shares in per
      cent. Empty unless done.
    error: why it failed, one line.
  """

  point: points_lib.Point
  status: str
  figures: dict[str, float]
  error: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
  """Points that differ in nothing but their seed.

  Attributes:
    values: what the varied keys are set to, the seed apart.
    runs: how many are done.
    mean: of each figure over the runs.
    deviation: sample standard deviation of each; nan for a single run.
  """

  values: tuple[Any, ...]
  runs: int
  mean: dict[str, float]
  deviation: dict[str, float]


def read(
  folder: pathlib.Path,
  point: points_lib.Point,
  split: str,
  samples: int,
  texts: int,
  sections: Collection[str] = (),
) -> Row:
  """The row of a point, from its folder.

  It is done when it was trained to its end and evaluated with this K, on
  `texts` texts of the split (0: all of them), these sections at least; a
  checkpoint or a seed that somebody asked for is another evaluation, and so is
  one of a run that was not at its end.
  """
  path = evaluation(folder, point, split)
  last = point.settings.training.steps
  figures = _figures(path, samples, texts, sections, last)
  if figures and trained(folder, point):
    return Row(point=point, status='done', figures=figures, error='')
  error = folder / point.name / ERROR
  if error.exists():
    return Row(
      point=point, status='failed', figures={}, error=error.read_text().strip()
    )
  return Row(point=point, status='open', figures={}, error='')


def evaluation(
  folder: pathlib.Path, point: points_lib.Point, split: str
) -> pathlib.Path:
  """The file of a point's figures."""
  return folder / point.name / 'evaluation' / f'{split}.json'


def trained(folder: pathlib.Path, point: points_lib.Point) -> bool:
  """Whether the run of a point has reached its last step.

  By the names of its checkpoints: to open them would take hold of the
  accelerator, which the runs need. A folder has its name once it is whole.
  """
  last = str(point.settings.training.steps)
  return (folder / point.name / checkpoint.FOLDER / last).is_dir()


def groups(rows: Sequence[Row]) -> tuple[list[str], list[Group]]:
  """The varied keys but the seed, and the finished rows grouped by them.

  Where the points set keys of their own, as alternatives to one config do, a
  column for each key would be empty but for a cell: there is one, `CHANGED`,
  that names them.
  """
  keys = points_lib.varied_keys([row.point for row in rows])
  keys = [key for key in keys if key != 'seed']
  named = {frozenset(row.point.overrides) - {'seed'} for row in rows}
  members: dict[tuple, list[Row]] = {}
  for row in rows:
    if row.status == 'done':
      values = tuple(row.point.value(key) for key in keys)
      if len(named) > 1:
        values = (_changed(row.point, keys),)
      members.setdefault(values, []).append(row)
  if len(named) > 1:
    keys = [CHANGED]
  found = []
  for values, same in members.items():
    series = {
      name: [row.figures[name] for row in same if name in row.figures]
      for name, _ in FIGURES
    }
    found.append(
      Group(
        values=values,
        runs=len(same),
        mean={n: statistics.fmean(v) for n, v in series.items() if v},
        deviation={
          n: statistics.stdev(v) if len(v) > 1 else math.nan
          for n, v in series.items()
          if v
        },
      )
    )
  return keys, found


def _changed(point: points_lib.Point, keys: list[str]) -> str:
  """What a point sets, of the varied keys."""
  words = [
    f'{short} = {points_lib.describe(point.value(key))}'
    for key, short in zip(keys, points_lib.short_names(keys), strict=True)
    if key in point.overrides
  ]
  return ', '.join(words) or 'nothing'


def to_csv(rows: Sequence[Row]) -> str:
  """One line a point: its name, status, varied keys, every figure."""
  keys = points_lib.varied_keys([row.point for row in rows])
  names = list(dict.fromkeys(name for row in rows for name in row.figures))
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(['name', 'status', *keys, *names, 'error'])
  for row in rows:
    values = [points_lib.describe(row.point.value(key)) for key in keys]
    figures = [row.figures.get(name, '') for name in names]
    writer.writerow([row.point.name, row.status, *values, *figures, row.error])
  return text.getvalue()


def to_markdown(rows: Sequence[Row], split: str, samples: int) -> str:
  """Mean ± standard deviation over seeds, then what is missing, and why."""
  keys, found = groups(rows)
  done = sum(row.status == 'done' for row in rows)
  shown = [(n, h) for n, h in FIGURES if any(n in g.mean for g in found)]
  shown = shown or list(FIGURES)
  head = [*points_lib.short_names(keys), 'runs', *(h for _, h in shown)]
  units = (
    f'nats per sequence, active units apart; IW-NLL with K = {samples}; '
    '"shuffled z" is what the NLL gains when a text is told another text\'s z; '
    'MI as estimated from the aggregated posterior'
  )
  ceilings = {f'{math.log(n):.2f}' for n in _numbers(rows, 'texts')}
  if ceilings:
    units += f', at most ln N = {" or ".join(sorted(ceilings))}'
  unknown = sorted(
    {
      f'{100 * row.figures["unknown_share"]:.2f}'
      for row in rows
      if 'unknown_share' in row.figures
    }
  )
  if unknown:
    units += f'; {" or ".join(unknown)} % of the tokens are unknown'
  if all(name in _SHARES for name, _ in shown):
    units = (
      'per cent of the texts with a label; macro-F1 counts each label once'
    )
  elif 'accuracy' in dict(shown):
    units += '; accuracy and macro-F1 in per cent'
  completed = _counts(rows, 'completed_texts')
  if completed:
    units += (
      '; BLEU-4 (0..100) and distinct-1 and -2 (per cent of the words, of the '
      f'pairs of words) of a text of {_CHOSEN} for each of '
      f'{completed} conditions'
    )
  lines = [
    f'{done} of {len(rows)} runs. {split} split, '
    f'{_counts(rows, "texts") or "no"} texts; {units}; mean ± standard '
    'deviation over the seeds.',
    '',
    _line(head),
    _line(['---'] * len(keys) + ['---:'] * (len(head) - len(keys))),
  ]
  for group in found:
    cells = [points_lib.describe(value) for value in group.values]
    cells.append(str(group.runs))
    cells += [_cell(group, name) for name, _ in shown]
    lines.append(_line(cells))
  for row in rows:
    if row.status == 'failed':
      lines += ['', f'Failed: `{row.point.name}`: {row.error}']
  return '\n'.join(lines) + '\n'


def _counts(rows: Sequence[Row], name: str) -> str:
  """The numbers that rows have of it; '' where none has."""
  return ' or '.join(map(str, sorted(_numbers(rows, name))))


def _numbers(rows: Sequence[Row], name: str) -> set[int]:
  return {int(row.figures[name]) for row in rows if name in row.figures}


def _figures(
  path: pathlib.Path,
  samples: int,
  texts: int,
  sections: Collection[str],
  last: int,
) -> dict[str, float]:
  """Of an evaluation with these numbers; empty if there is none."""
  try:
    written = json.loads(path.read_text())
    origin = written['provenance']
    asked = (
      origin.get('asked_texts'),
      origin.get('asked_step'),
      origin.get('seed', _SEED),
      origin.get('latest_step', last),
    )
  except (OSError, ValueError, LookupError, AttributeError, TypeError):
    return {}  # none, or a damaged one: it is evaluated anew
  found = written.get('figures')
  if asked != (texts, None, _SEED, last):
    return {}
  if not written.keys() >= set(sections):
    return {}
  classes = written.get('classification')
  if found is None:  # a classifier's, or only other sections were measured
    if classes is None or classes['samples']:
      return {}
    return _shares(classes) | {'texts': classes['texts']}
  wanted = 1 if not found['latent_size'] else samples
  if found['samples'] != wanted:
    return {}
  figures = {
    name: value
    for name, value in found.items()
    if isinstance(value, int | float)
  }
  if 'shuffled_nll' in figures:
    gap = figures['shuffled_nll'] - figures['reconstruction_nll']
    figures['shuffled_gap'] = gap
  return figures | _judged(written.get('completion')) | _shares(classes)


def _judged(found: Mapping[str, Any] | None) -> dict[str, float]:
  """Of what was written for the conditions."""
  if found is None:
    return {}
  texts = found['written'][_CHOSEN]
  shares = {name: texts[name] for name in ('distinct_1', 'distinct_2')}
  shares['completed_texts'] = found['texts']
  return {'bleu_4': texts['bleu'][3]} | shares


def _shares(found: Mapping[str, Any] | None) -> dict[str, float]:
  """Of a classifier's evaluation, or of one by Bayes' rule."""
  if found is None:
    return {}
  return {name: 100.0 * found[name] for name in _SHARES}


def _cell(group: Group, name: str) -> str:
  if name not in group.mean:
    return '–'
  mean, deviation = group.mean[name], group.deviation[name]
  if math.isnan(deviation):
    return f'{mean:.2f}'
  return f'{mean:.2f} ± {deviation:.2f}'


def _line(cells: Sequence[str]) -> str:
  escaped = (cell.replace('|', r'\|') for cell in cells)
  return '| ' + ' | '.join(escaped) + ' |'
