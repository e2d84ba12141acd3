"""Where the latents of texts lie: on a plane, coloured by what is known."""

import collections
from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from matplotlib import figure as mpl_figure
import numpy as np
from sklearn import manifold
import threadpoolctl

from lvdecode import errors
from lvdecode.report import style

_PERPLEXITY = 30.0  # van der Maaten & Hinton 2008 advise 5 to 50
_FEWEST = 5  # texts for which neighbourhoods mean anything


class View(NamedTuple):
  """Texts on a plane.

  Attributes:
    name: of the projection.
    places: [N, 2]; both axes have one scale.
    across: what the first axis is.
    up: what the second axis is.
    unit: what a distance of 1 is; '' where it is nothing.
  """

  name: str
  places: Float[np.ndarray, 'N 2']
  across: str
  up: str
  unit: str


def views(mean: Float[np.ndarray, 'N Z']) -> list[View]:
  """Principal axes always, t-SNE where the latents differ enough to have it."""
  differ = len(np.unique(mean, axis=0)) >= _FEWEST
  return [principal_axes(mean), *([neighbours(mean)] if differ else [])]


def principal_axes(mean: Float[np.ndarray, 'N Z']) -> View:
  """The first two principal axes, in the scale of z (that of N(0, I) is 1)."""
  if not mean.shape[1]:
    raise errors.UserError(
      'the latents have no dimension: a plain language model has no map'
    )
  centred = mean - mean.mean(axis=0)
  _, scale, axes = np.linalg.svd(centred, full_matrices=False)
  places, share = np.zeros((len(mean), 2)), np.zeros(2)
  found = min(2, len(axes))  # fewer where Z or N is 1
  places[:, :found] = centred @ axes[:found].T
  variance = np.sum(scale**2)
  if variance:
    share[:found] = scale[:found] ** 2 / variance
  return View(
    'principal axes',
    places,
    f'first axis, {100 * share[0]:.0f} % of the variance',
    f'second axis, {100 * share[1]:.0f} % of the variance',
    'the standard deviation of N(0, I)',
  )


def neighbours(mean: Float[np.ndarray, 'N Z'], seed: int = 0) -> View:
  """t-SNE: who is near whom; its distances and axes have no unit."""
  tsne = manifold.TSNE(
    perplexity=min(_PERPLEXITY, (len(mean) - 1) / 3),
    init='pca' if mean.shape[1] > 1 else 'random',
    random_state=seed,
  )
  # On a busy machine its threads wait for each other many times longer.
  with threadpoolctl.threadpool_limits(1):
    places = tsne.fit_transform(np.asarray(mean, np.float32))
  return View('t-SNE', places.astype(float), 'no unit', 'no unit', '')


def groups(labels: Sequence[str]) -> list[str]:
  """The commonest labels, one a colour, in the order of their names."""
  common = collections.Counter(labels).most_common(len(style.COLOURS))
  return sorted(name for name, _ in common)


def latent_map(
  view: View, labels: Sequence[str], title: str
) -> mpl_figure.Figure:
  """Latents in a view, coloured by label.

  Beyond the number of colours, the rarest labels share grey.
  """
  if len(view.places) != len(labels):
    raise errors.UserError(
      f'{len(view.places)} latents, {len(labels)} labels: give one label a '
      'latent'
    )
  colours = dict(zip(groups(labels), style.COLOURS, strict=False))
  picture = mpl_figure.Figure(figsize=(6.5, 5), layout='constrained')
  plot = picture.subplots()
  # All groups in one call, so that none is drawn over the others.
  plot.scatter(
    view.places[:, 0],
    view.places[:, 1],
    s=9,
    alpha=0.7,
    linewidths=0,
    color=[colours.get(label, style.REST) for label in labels],
  )
  legend = dict(colours)
  rest = len(set(labels)) - len(colours)
  if rest:
    legend[f'{rest} others'] = style.REST
  handles = [
    plot.scatter([], [], s=30, color=colour) for colour in legend.values()
  ]
  plot.set_aspect('equal', adjustable='datalim')
  heading = f'posterior means of {len(labels):,} texts: {view.name}'
  style.quiet(plot, heading, view.across, view.up)
  # Named here: of a label alone, one that begins with '_' would be left out.
  drawn = picture.legend(
    handles,
    list(legend),
    title=title,
    loc='outside right upper',
    frameon=False,
    alignment='left',
  )
  for text in (drawn.get_title(), *drawn.get_texts()):
    text.set_parse_math(False)  # a label may hold a dollar sign
  return picture
