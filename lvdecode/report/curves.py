"""Learning curves: what metrics.jsonl of a run says, as pictures."""

import itertools
import json
import pathlib

from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure

from lvdecode import errors
from lvdecode.report import style

METRICS = 'metrics.jsonl'
# Panels of the learning curves: title, unit, and the metric they show.
_PANELS = (
  ('−ELBO', 'nats per sequence', 'negative_elbo'),
  ('reconstruction NLL', 'nats per sequence', 'nll'),
  ('KL(q || p)', 'nats per sequence', 'kl'),
  ('beta', 'weight of the KL', 'beta'),
  ("NLL added by another text's z", 'nats per sequence', 'shuffled_gap'),
  ('mutual information', 'nats a text', 'mutual_information'),
)
# Of a classifier that learns from labels alone, which has none of those.
_OF_LABELS = (
  ('−log q(label | text)', 'nats a labelled text', 'classifier_nll'),
  ('accuracy', 'share of labelled texts', 'accuracy'),
  ('error', 'share of labelled texts', 'error'),
)
Lines = list[dict[str, float | int | None]]


def read_metrics(workdir: pathlib.Path) -> Lines:
  """The lines of metrics.jsonl: a step each, null where not finite."""
  path = workdir / METRICS
  if not path.exists():
    raise errors.UserError(
      f'{workdir} has no {METRICS}: give the folder of a run'
    )
  # A kill, or a run that is writing just now, can leave half a line.
  whole = path.read_text().rpartition('\n')[0]
  return [json.loads(line) for line in whole.splitlines()]


def curves(workdir: pathlib.Path) -> mpl_figure.Figure:
  """What the run has of the panels over the steps, training and validation."""
  lines = read_metrics(workdir)
  names = {name.rpartition('/')[-1] for line in lines for name in line}
  shown = [panel for panel in (*_PANELS, *_OF_LABELS) if panel[-1] in names]
  rows = max(1, -(-len(shown) // 2))
  picture = mpl_figure.Figure(figsize=(10, 3 * rows), layout='constrained')
  places = picture.subplots(rows, 2, squeeze=False).flat
  for axes, panel in itertools.zip_longest(places, shown):
    if panel is None:
      axes.axis('off')
    else:
      _draw(axes, lines, *panel)
  style.legend(picture)
  return picture


def panels(lines: Lines) -> list[mpl_figure.Figure]:
  """The panels of `curves` that have a line, a picture each."""
  pictures = []
  for panel in _PANELS:
    picture = style.empty()
    if _draw(picture.subplots(), lines, *panel):
      style.legend(picture)
      pictures.append(picture)
  return pictures


def save_curves(workdir: pathlib.Path) -> pathlib.Path:
  """Writes `curves` to WORKDIR/curves.png."""
  path = workdir / 'curves.png'
  style.save(curves(workdir), path)
  return path


def _draw(
  axes: mpl_axes.Axes, lines: Lines, title: str, unit: str, name: str
) -> bool:
  """One panel; whether the run has anything to show in it."""
  style.quiet(axes, title, 'step', unit)
  for prefix, label, colour, marker in (
    ('train', 'training', style.COLOURS[0], ''),
    ('evaluate', 'validation', style.COLOURS[1], 'o'),
  ):
    points = [
      (line['step'], line[f'{prefix}/{name}'])
      for line in lines
      if line.get(f'{prefix}/{name}') is not None
    ]
    if points:
      steps, values = zip(*points, strict=True)
      axes.plot(
        steps,
        values,
        label=label,
        color=colour,
        linewidth=1.2,
        marker=marker,
        markersize=4,
      )
  return bool(axes.lines)
