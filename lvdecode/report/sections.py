"""The sections of the page, and what each shows of each run."""

from collections.abc import Callable, Iterable, Sequence
import math
from typing import Any, NamedTuple

import numpy as np
from rich import table as rich_table

from lvdecode.evaluation import attributes
from lvdecode.evaluation import classification
from lvdecode.evaluation import codes
from lvdecode.evaluation import completion
from lvdecode.evaluation import disentanglement
from lvdecode.evaluation import information
from lvdecode.evaluation import likelihood
from lvdecode.evaluation import probing
from lvdecode.evaluation import quality
from lvdecode.evaluation import use
from lvdecode.report import blocks as blocks_lib
from lvdecode.report import charts
from lvdecode.report import curves
from lvdecode.report import exhibit
from lvdecode.report import headline
from lvdecode.report import maps

_LONG = 20  # rows: a longer table is folded
_TIP = 300  # most characters of a text on the map


class Section(NamedTuple):
  """A part of the page; `parts` has the blocks of each run, in their order."""

  key: str
  title: str
  note: str
  parts: list[list[blocks_lib.Block]]


def make(runs: Sequence[exhibit.Run]) -> list[Section]:
  """All sections of which some run has something to show."""
  sections = [
    Section('figures', 'Figures', _FIGURES_NOTE, [[headline.table(runs)]])
  ] + [
    Section(key, title, note, [blocks(run) for run in runs])
    for key, title, note, blocks in (
      ('likelihood', 'Likelihood', _LIKELIHOOD_NOTE, _likelihood),
      ('information', 'What z holds', _INFORMATION_NOTE, _information),
      ('use', 'What the decoder takes from z', _USE_NOTE, _use),
      *(
        (name, title, note, _printed(name, to_table))
        for name, title, note, to_table in _PRINTED
      ),
      ('map', 'Map of the latents', _MAP_NOTE, _map),
      ('reconstructions', 'Reconstructions', _COPIES_NOTE, _copies),
      ('interpolations', 'Interpolations', _WAYS_NOTE, _ways),
      ('samples', 'Samples', _SAMPLES_NOTE, _samples),
      ('completions', 'Completions', _COMPLETIONS_NOTE, _completions),
      ('curves', 'Learning curves', _CURVES_NOTE, _curves),
      ('provenance', 'Provenance', _PROVENANCE_NOTE, _provenance),
      ('settings', 'Settings', _SETTINGS_NOTE, _settings),
    )
  ]
  return [section for section in sections if any(section.parts)]


_FIGURES_NOTE = (
  'Losses are nats per sequence: sums over the tokens of a text, its end '
  'counted, then means over texts.'
)
_LIKELIHOOD_NOTE = (
  'The bound falls with K towards -log p(y); what it still falls at the last '
  'steps says whether K was enough.'
)
_INFORMATION_NOTE = (
  'What the posterior costs and how far its means spread, dimension by '
  'dimension.'
)
_USE_NOTE = (
  'What predictions lose when z is that of another text, or zero, or silenced '
  'where it is injected; and how much attention looks at it.'
)
_MAP_NOTE = 'Posterior means of texts of the split. Point at one to read it; a name in the legend shows its texts alone.'
_COPIES_NOTE = (
  'Each text is encoded to the mean of its posterior and decoded greedily from '
  'that z, and what is given where something is. Words that do not stand in the '
  'other text are marked.'
)
_WAYS_NOTE = (
  'Greedy texts at equal steps between the posterior means of two texts, which '
  'stand at both ends as they were written.'
)
_SAMPLES_NOTE = 'Where there is a z, each from its own, drawn from the prior.'
_COMPLETIONS_NOTE = (
  'Written for what is given, the words drawn; where there is a z, it is drawn '
  'from the prior of what is given, or the one for all.'
)
_CURVES_NOTE = (
  'Training is measured with dropout, validation without. The loss weighs the '
  'KL with beta.'
)
_PROVENANCE_NOTE = 'What the figures are a function of; there is no more to it.'
_SETTINGS_NOTE = 'What the run was begun with; configs/base.py has the reasons.'


# Sections whose table says it all: name, title, note, and who prints it.
_PRINTED = (
  (
    'text',
    'Quality of the texts',
    'Real texts of the split stand beside those of the model: they say what '
    'can be expected.',
    quality.to_table,
  ),
  (
    'completion',
    'Quality of the completions',
    'A text written for each condition, beside the text that the data have.',
    completion.to_table,
  ),
  (
    'classification',
    'Classification',
    'The label that is given with a text, found from the text.',
    classification.to_table,
  ),
  (
    'codes',
    'Paths and sums',
    'What lies between two latents, and what a sum of latents decodes to.',
    codes.to_table,
  ),
  (
    'probing',
    'Probes',
    'What a simple classifier reads off the latents.',
    probing.to_table,
  ),
  (
    'attributes',
    'Attribute vectors',
    'Latents moved from one class to another, judged by a classifier on words.',
    attributes.to_table,
  ),
  (
    'disentanglement',
    'Disentanglement',
    'Whether each dimension stands for one factor of the data; chance is the '
    'same with posterior means dealt to the wrong texts.',
    disentanglement.to_table,
  ),
)


def _likelihood(run: exhibit.Run) -> list[blocks_lib.Block]:
  found = run.evaluation.get('likelihood')
  if found is None or len(found.curve) < 2:
    return []
  return [
    blocks_lib.pictures(
      (charts.convergence(found), 'Bars are standard errors over texts.')
    ),
    blocks_lib.numbers(likelihood.to_table(found, '')),
  ]


def _information(run: exhibit.Run) -> list[blocks_lib.Block]:
  found = run.evaluation.get('information')
  if found is None or not found.kl_by_dimension:
    return []
  return [
    blocks_lib.pictures(
      (charts.kl_by_dimension(found), ''), (charts.spectrum(found), '')
    ),
    blocks_lib.numbers(information.to_table(found, '')),
  ]


def _use(run: exhibit.Run) -> list[blocks_lib.Block]:
  found = run.evaluation.get('use')
  if found is None or found.prior is None:
    return []
  pictures = [
    (charts.changes(found), 'Bars are standard errors over texts.'),
    (
      charts.gain_by_position(found.positions),
      'A dot is as large as the number of texts that are so long.',
    ),
  ]
  if found.memory_mass is not None:
    even = f'Even attention would give {100 * (found.even_mass or 0):.1f} %.'
    pictures.append((charts.attention(found.memory_mass), even))
  return [
    blocks_lib.pictures(*pictures),
    blocks_lib.numbers(use.to_table(found, '')),
  ]


def _printed(
  name: str, to_table: Callable[[Any, str], rich_table.Table]
) -> Callable[[exhibit.Run], list[blocks_lib.Block]]:
  """A section whose figures are a table and no picture."""

  def blocks(run):
    found = run.evaluation.get(name)
    if found is None:
      return []
    table = to_table(found, '')
    long = table.row_count > _LONG
    return [(blocks_lib.numbers if long else blocks_lib.table)(table)]

  return blocks


def _map(run: exhibit.Run) -> list[blocks_lib.Block]:
  shown = run.exhibit
  if not shown.views:
    return []
  data = {
    'texts': [text[:_TIP] for text in shown.texts],
    'views': [
      {
        'name': view.name,
        'places': [_digits(row) for row in view.places],
        'bar': _bar(view),
        'caption': _caption(view),
      }
      for view in shown.views
    ],
    'groups': [
      _coloured(name, labels) for name, labels in shown.groups.items()
    ],
  }
  return [blocks_lib.Block('map', data)]


def _digits(values: Iterable[float]) -> list[float]:
  """What is drawn, in four digits, however small the map is."""
  return [float(f'{value:.4g}') for value in values]


def _bar(view: maps.View) -> float:
  """A power of ten within the map, as long as can be; 0 where none is drawn."""
  extent = float(np.ptp(view.places, axis=0).max())
  if not view.unit or not extent:
    return 0.0
  return 10.0 ** math.floor(math.log10(extent))


def _caption(view: maps.View) -> str:
  if not view.unit:
    return 'Near texts are alike; distances and directions mean no more.'
  shown = f'Across: {view.across}; up: {view.up}.'
  bar = _bar(view)
  return f'{shown} The bar is {bar:g} times {view.unit}.' if bar else shown


def _coloured(name: str, labels: Sequence[str]) -> dict[str, Any]:
  """Labels as numbers of colours; those beyond the colours are one."""
  common = maps.groups(labels)
  rest = len(set(labels)) - len(common)
  places = {label: place for place, label in enumerate(common)}
  return {
    'name': name,
    'labels': [*common, *([f'{rest} others'] if rest else [])],
    'of': [places.get(label, len(common)) for label in labels],
  }


def _copies(run: exhibit.Run) -> list[blocks_lib.Block]:
  copies = run.exhibit.copies
  return [blocks_lib.Block('copies', copies)] if copies else []


def _ways(run: exhibit.Run) -> list[blocks_lib.Block]:
  ways = run.exhibit.ways
  return [blocks_lib.Block('ways', ways)] if ways else []


def _samples(run: exhibit.Run) -> list[blocks_lib.Block]:
  samples = run.exhibit.samples
  return [blocks_lib.Block('samples', samples)] if samples else []


def _completions(run: exhibit.Run) -> list[blocks_lib.Block]:
  completions = run.exhibit.completions
  if not completions:
    return []
  return [blocks_lib.Block('completions', completions)]


def _curves(run: exhibit.Run) -> list[blocks_lib.Block]:
  panels = curves.panels(run.lines)
  return (
    [blocks_lib.pictures(*((panel, '') for panel in panels))] if panels else []
  )


def _settings(run: exhibit.Run) -> list[blocks_lib.Block]:
  return [blocks_lib.Block('tree', run.settings)]


def _provenance(run: exhibit.Run) -> list[blocks_lib.Block]:
  return [blocks_lib.Block('tree', run.provenance)]
