"""What the page says first: is z used, and the figures that matter most."""

import collections
from collections.abc import Sequence
import itertools
import math
from typing import NamedTuple

from rich import table as rich_table

from lvdecode.evaluation import figures
from lvdecode.evaluation import split as split_lib
from lvdecode.report import blocks
from lvdecode.report import exhibit

_VERDICTS = {
  'used': 'The decoder uses z.',
  'partly used': 'The decoder uses z a little.',
  'collapsed': 'The decoder does not use z: it has collapsed.',
  'no latent': 'A language model without z: there is no z to use.',
}


class Tile(NamedTuple):
  name: str
  value: str
  unit: str


class Head(NamedTuple):
  """The first thing that is said of a run."""

  name: str
  about: str
  verdict: str
  evidence: str
  tiles: list[Tile]


def head(run: exhibit.Run) -> Head:
  """Whether z is used, in words, and the figures that matter most."""
  report = run.evaluation['figures']
  injection = run.settings['model']['injection']['points']
  told = (
    f'z of {report.latent_size} dimensions enters at {" and ".join(injection)}'
    if report.latent_size
    else 'a language model without z'
  )
  about = (
    f'{told}; step {run.step:,}; {report.texts:,} texts of the {run.split} '
    f'split; data: {run.settings["data"]["source"]}'
  )
  found = run.evaluation.get('use')
  return Head(
    name=run.name,
    about=about,
    verdict=_VERDICTS[found.verdict] if found else '',
    evidence='; '.join(found.evidence) if found else '',
    tiles=_tiles(report),
  )


def table(runs: Sequence[exhibit.Run]) -> blocks.Block:
  """One table, a column for each run; units stand once where they agree."""
  tables = [
    _numbered(figures.to_table(run.evaluation['figures'], '')) for run in runs
  ]
  rows = []
  for place in dict.fromkeys(itertools.chain(*tables)):
    cells = [found.get(place, ('', '')) for found in tables]
    units = {unit for _, unit in cells if unit}
    one = len(units) == 1
    values = [
      value if one or not value else f'{value} ({unit})'
      for value, unit in cells
    ]
    rows.append([place[0], *values, units.pop() if one else ''])
  names = [run.name for run in runs] if len(runs) > 1 else ['value']
  return blocks.Block(
    'table', blocks.Table(['figure', *names, 'unit'], rows, '')
  )


def _tiles(report: figures.Report) -> list[Tile]:
  nats = 'nats per sequence'
  likelihood = Tile(
    'importance-weighted NLL' if report.latent_size else 'NLL',
    split_lib.with_error(report.iw_nll, report.iw_nll_error),
    nats + (f', K = {report.samples}' if report.latent_size else ''),
  )
  if not report.latent_size:
    return [likelihood]
  lost = report.shuffled_nll - report.reconstruction_nll
  return [
    likelihood,
    Tile('KL(q || p)', f'{report.kl:.2f}', nats),
    Tile(
      "another text's z costs",
      '–' if math.isnan(lost) else f'{lost:+.2f}',
      'there is no other text' if math.isnan(lost) else nats,
    ),
    Tile(
      'active units',
      f'{report.active_units} of {report.latent_size}',
      'dimensions',
    ),
  ]


def _numbered(printed: rich_table.Table) -> dict[tuple[str, int], list[str]]:
  """Rows by their name and, where it stands more than once, which of them."""
  seen: dict[str, int] = collections.Counter()
  rows = {}
  for name, *cells in blocks.rows(printed):
    rows[name, seen[name]] = cells
    seen[name] += 1
  return rows
