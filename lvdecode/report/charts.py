"""The figures of an evaluation as pictures, for the page and the notebook."""

from collections.abc import Sequence

from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import patches
from matplotlib import ticker
import numpy as np

from lvdecode.evaluation import information as information_lib
from lvdecode.evaluation import likelihood as likelihood_lib
from lvdecode.evaluation import use as use_lib
from lvdecode.latent import probes
from lvdecode.report import style

_FIRST, _SECOND = style.COLOURS[:2]
_LEAST_VARIANCE = 1e-6  # what is drawn of a dead dimension
_DARKEST = 0.6  # opacity: the number in a cell stays readable


def convergence(likelihood: likelihood_lib.Likelihood) -> mpl_figure.Figure:
  """The importance-weighted NLL over K, with its standard error."""
  picture, axes = style.canvas(
    'importance-weighted NLL', 'K samples', 'nats per sequence'
  )
  samples = [point.samples for point in likelihood.curve]
  axes.errorbar(
    samples,
    [point.nll for point in likelihood.curve],
    yerr=[point.error for point in likelihood.curve],
    color=_FIRST,
    marker='o',
    markersize=4,
    linewidth=1.2,
    capsize=3,
  )
  axes.set_xscale('log')
  axes.set_xticks(samples, labels=[f'{count:,}' for count in samples])
  axes.xaxis.set_minor_locator(ticker.NullLocator())
  return picture


def kl_by_dimension(
  information: information_lib.Information,
) -> mpl_figure.Figure:
  """What each dimension costs, the dearest first; their sum is the KL."""
  picture, axes = style.canvas(
    f'KL of each dimension, {information.kl.value:.2f} in all',
    'dimensions, largest first',
    'nats per sequence',
  )
  kl = sorted(information.kl_by_dimension, reverse=True)
  axes.bar(_places(kl), kl, color=_FIRST, width=0.8)
  _whole_numbers(axes)
  return picture


def spectrum(information: information_lib.Information) -> mpl_figure.Figure:
  """How far posterior means spread, by dimension and by principal axis."""
  picture, axes = style.canvas(
    'variance of the posterior means', 'largest first', 'the prior has 1'
  )
  for variances, label, colour, marker in (
    (information.variance_by_dimension, 'dimensions', _FIRST, 'o'),
    (information.variance_spectrum, 'principal axes', _SECOND, 's'),
  ):
    values = [max(x, _LEAST_VARIANCE) for x in sorted(variances, reverse=True)]
    axes.plot(
      _places(values),
      values,
      label=label,
      color=colour,
      marker=marker,
      markersize=3,
      linewidth=1,
    )
  axes.axhline(
    probes.ACTIVE_VARIANCE,
    color=style.INK,
    linewidth=1,
    linestyle='--',
    label=f'active above {probes.ACTIVE_VARIANCE}',
  )
  axes.set_yscale('log')
  _whole_numbers(axes)
  style.legend(picture)
  return picture


def changes(use: use_lib.Use) -> mpl_figure.Figure:
  """-log p(y | z) as z or the way it is told changes, from that of z ~ q."""
  told = {
    "another text's z": use.shuffled,
    'z from the prior': use.prior,
    "z = the prior's mean": use.zeroed,
    **{f'not told at {name}': found for name, found in use.knocked_out.items()},
  }
  if len(use.alone) > 2:  # of two, one alone is the other left out
    told |= {f'told at {name} only': found for name, found in use.alone.items()}
  rows = {name: found for name, found in told.items() if found is not None}
  picture, axes = style.canvas(
    'what other ways of telling z cost',
    "nats per sequence above the text's own z",
    '',
    height=0.9 + 0.32 * len(rows),
  )
  for row, change in enumerate(rows.values()):
    axes.plot([0, change.gap], [row, row], color=style.REST, linewidth=2)
    axes.errorbar(
      change.gap, row, xerr=change.error, color=_FIRST, marker='o', markersize=6
    )
    axes.annotate(
      f'{change.gap:+.2f}',
      (1, row),
      xycoords=('axes fraction', 'data'),
      xytext=(6, 0),
      textcoords='offset points',
      va='center',
      fontsize=8,
      color=style.INK,
    )
  axes.axvline(0, color=style.REST, linewidth=1)
  axes.set_yticks(range(len(rows)), labels=list(rows))
  axes.set_ylim(len(rows) - 0.5, -0.5)
  axes.grid(visible=False, axis='y')
  return picture


def attention(
  mass: Sequence[Sequence[float]],
) -> mpl_figure.Figure:
  """Share of the attention on the memory of z, [layer][head], in per cent.

  Ink is proportional to the share, darkest at the largest.
  """
  shares = np.asarray(mass)
  layers, heads = shares.shape
  picture, axes = style.canvas(
    'attention on the memory of z, %',
    'head',
    'layer',
    height=1.0 + 0.35 * layers,
  )
  opacity = _DARKEST * shares / max(shares.max(), np.finfo(float).tiny)
  for (layer, head), share in np.ndenumerate(shares):
    axes.add_patch(
      patches.Rectangle(
        (head - 0.5, layer - 0.5),
        1,
        1,
        facecolor=_FIRST,
        alpha=float(opacity[layer, head]),
        linewidth=0,
      )
    )
    axes.text(
      head,
      layer,
      f'{100 * share:.1f}',
      ha='center',
      va='center',
      fontsize=8,
      color=style.INK,
    )
  axes.set_xlim(-0.5, heads - 0.5)
  axes.set_ylim(layers - 0.5, -0.5)
  axes.set_xticks(range(heads))
  axes.set_yticks(range(layers))
  axes.grid(visible=False)
  return picture


def gain_by_position(
  positions: Sequence[use_lib.Position],
) -> mpl_figure.Figure:
  """What the own z saves at each position; a dot's area is its texts."""
  picture, axes = style.canvas(
    "what a text's own z saves at each token", 'position', 'nats per token'
  )
  places = [place.position for place in positions]
  areas = np.array([place.texts for place in positions], float)
  areas *= 30 / areas.max()
  for label, colour, gains in (
    ("over the prior's", _FIRST, [p.prior_gain for p in positions]),
    ("over another text's", _SECOND, [p.shuffled_gain for p in positions]),
  ):
    known = [gain for gain in gains if gain is not None]
    if len(known) == len(places):
      axes.plot(places, known, color=colour, linewidth=1, label=label)
      axes.scatter(places, known, s=areas, color=colour, linewidths=0)
  axes.axhline(0, color=style.REST, linewidth=1)
  _whole_numbers(axes)
  style.legend(picture)
  return picture


def _places(values: Sequence[float]) -> range:
  return range(1, len(values) + 1)


def _whole_numbers(axes: mpl_axes.Axes) -> None:
  axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
