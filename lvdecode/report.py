"""Pictures of a run: its learning curves, and a map of its latents."""

import collections
from collections.abc import Sequence
import json
import pathlib

from jaxtyping import Float
from matplotlib import figure as mpl_figure
import numpy as np

from lvdecode import errors

METRICS = 'metrics.jsonl'
# Panels of the learning curves: title, unit, and the metrics they show.
_PANELS = (
  ('-ELBO', 'nats per sequence', 'negative_elbo'),
  ('reconstruction NLL', 'nats per sequence', 'nll'),
  ('KL(q || p)', 'nats per sequence', 'kl'),
  ('beta', 'weight of the KL', 'beta'),
)
# Readable for colour-blind people (Wong 2011), in this order.
_COLOURS = (
  '#0072b2',
  '#d55e00',
  '#009e73',
  '#cc79a7',
  '#e69f00',
  '#56b4e9',
  '#000000',
  '#f0e442',
)
_REST = '#bbbbbb'


def read_metrics(workdir: pathlib.Path) -> list[dict[str, float | int | None]]:
  """The lines of metrics.jsonl: a step each, null where not finite."""
  path = workdir / METRICS
  if not path.exists():
    raise errors.UserError(
      f'{workdir} has no {METRICS}: give the folder of a run'
    )
  return [json.loads(line) for line in path.read_text().splitlines()]


def curves(workdir: pathlib.Path) -> mpl_figure.Figure:
  """-ELBO, NLL, KL and beta over the steps, training and validation."""
  lines = read_metrics(workdir)
  picture = mpl_figure.Figure(figsize=(10, 6), layout='constrained')
  for axes, (title, unit, name) in zip(
    picture.subplots(2, 2).flat, _PANELS, strict=True
  ):
    for prefix, label, style in (
      ('train', 'training', dict(color=_COLOURS[0])),
      ('evaluate', 'validation', dict(color=_COLOURS[1], marker='o')),
    ):
      points = [
        (line['step'], line[f'{prefix}/{name}'])
        for line in lines
        if line.get(f'{prefix}/{name}') is not None
      ]
      if points:
        axes.plot(*zip(*points, strict=True), label=label, **style)
    axes.set_title(title)
    axes.set_xlabel('step')
    axes.set_ylabel(unit)
    axes.grid(alpha=0.3)
  picture.suptitle(workdir.name)
  # One legend for all panels, outside, where it covers no curve.
  drawn = {
    line.get_label(): line for axes in picture.axes for line in axes.lines
  }
  picture.legend(
    handles=list(drawn.values()),
    loc='outside upper right',
    ncols=2,
    frameon=False,
  )
  return picture


def save_curves(workdir: pathlib.Path) -> pathlib.Path:
  """Writes `curves` to WORKDIR/curves.png."""
  path = workdir / 'curves.png'
  temporary = path.with_suffix('.tmp')
  curves(workdir).savefig(temporary, format='png', dpi=120)
  temporary.replace(path)
  return path


def latent_map(
  mean: Float[np.ndarray, 'N Z'], labels: Sequence[str], title: str
) -> mpl_figure.Figure:
  """Posterior means on their first two principal axes, coloured by label.

  Both axes have one scale, that of z (the prior's standard deviation is 1).
  Beyond the number of colours, the rarest labels share grey.
  """
  if len(mean) != len(labels):
    raise errors.UserError(
      f'{len(mean)} latents, {len(labels)} labels: give one label a latent'
    )
  if not mean.shape[1]:
    raise errors.UserError(
      'the latents have no dimension: a plain language model has no map'
    )
  places, share = _principal_axes(mean)
  colours = _label_colours(labels)
  picture = mpl_figure.Figure(figsize=(6.5, 5), layout='constrained')
  plot = picture.subplots()
  # All groups in one call, so that none is drawn over the others.
  plot.scatter(
    places[:, 0],
    places[:, 1],
    s=9,
    alpha=0.7,
    linewidths=0,
    color=[colours.get(label, _REST) for label in labels],
  )
  groups = dict(colours)
  rest = len(set(labels)) - len(colours)
  if rest:
    groups[f'{rest} others'] = _REST
  for name, colour in groups.items():
    plot.scatter([], [], s=30, color=colour, label=name)
  plot.set_aspect('equal', adjustable='datalim')
  plot.grid(alpha=0.3)
  plot.set_axisbelow(True)
  plot.set_xlabel(f'first axis, {100 * share[0]:.0f} % of the variance')
  plot.set_ylabel(f'second axis, {100 * share[1]:.0f} % of the variance')
  plot.set_title(f'posterior means of {len(mean):,} texts')
  picture.legend(
    title=title, loc='outside right upper', frameon=False, alignment='left'
  )
  return picture


def _principal_axes(
  mean: Float[np.ndarray, 'N Z'],
) -> tuple[Float[np.ndarray, 'N 2'], Float[np.ndarray, ' 2']]:
  """Places on the first two axes, and their shares of the variance."""
  centred = mean - mean.mean(axis=0)
  _, scale, axes = np.linalg.svd(centred, full_matrices=False)
  places, share = np.zeros((len(mean), 2)), np.zeros(2)
  found = min(2, len(axes))  # fewer where Z or N is 1
  places[:, :found] = centred @ axes[:found].T
  variance = np.sum(scale**2)
  if variance:
    share[:found] = scale[:found] ** 2 / variance
  return places, share


def _label_colours(labels: Sequence[str]) -> dict[str, str]:
  """A colour for each of the commonest labels, in the order of their names."""
  common = collections.Counter(labels).most_common(len(_COLOURS))
  names = sorted(name for name, _ in common)
  return dict(zip(names, _COLOURS, strict=False))
