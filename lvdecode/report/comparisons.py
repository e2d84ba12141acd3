"""Pictures of a sweep: the rate-distortion plane, and a figure against a key."""

from collections.abc import Sequence
import itertools

from matplotlib import figure as mpl_figure
import matplotlib.axes
import numpy as np

from lvdecode.report import style
from lvdecode.sweeps import points as points_lib
from lvdecode.sweeps import table

_MARKERS = 'osD^vP*X<>'
_PANELS = (
  ('iw_nll', 'IW-NLL, nats per sequence'),
  ('kl', 'KL, nats per sequence'),
  ('shuffled_gap', 'NLL added by shuffling z, nats per sequence'),
)


def rate_distortion(rows: Sequence[table.Row]) -> mpl_figure.Figure:
  """KL against reconstruction NLL; on a dotted line -ELBO is the same.

  One mark a group of seeds, with the standard deviation over them: Alemi et
  al. 2018, "Fixing a Broken ELBO". Colour is the first varied key, shape the
  rest.
  """
  keys, found = table.groups(rows)
  picture = mpl_figure.Figure(figsize=(7.5, 5), layout='constrained')
  axes = picture.subplots()
  first = _ordered(group.values[0] if keys else 'all' for group in found)
  rest = _ordered(group.values[1:] for group in found)
  for group in found:
    own = group.values[0] if keys else 'all'
    axes.errorbar(
      group.mean['kl'],
      group.mean['reconstruction_nll'],
      xerr=_bar(group, 'kl'),
      yerr=_bar(group, 'reconstruction_nll'),
      color=style.COLOURS[first.index(own) % len(style.COLOURS)],
      marker=_marker(first.index(own), rest.index(group.values[1:])),
      linestyle='none',
      capsize=2,
    )
  short = points_lib.short_names(keys)
  _legend(
    axes,
    [
      (
        _context(short[:1], (value,)),
        style.COLOURS[i % len(style.COLOURS)],
        _marker(i, 0),
      )
      for i, value in enumerate(first)
      if keys
    ]
    + [
      (_context(short[1:], values), '#666666', _MARKERS[i % len(_MARKERS)])
      for i, values in enumerate(rest)
      if len(rest) > 1
    ],
  )
  _iso_lines(axes)
  style.quiet(
    axes,
    '',
    'rate: KL(q || p), nats per sequence',
    'distortion: NLL, nats per sequence',
  )
  return picture


def against(rows: Sequence[table.Row], key: str) -> mpl_figure.Figure:
  """Figures against one key; a line joins points that differ in it alone."""
  keys, found = table.groups(rows)
  place = keys.index(key)
  values = _ordered(group.values[place] for group in found)
  lines: dict[tuple, list[table.Group]] = {}
  for group in found:
    others = group.values[:place] + group.values[place + 1 :]
    lines.setdefault(others, []).append(group)
  short = points_lib.short_names(keys)
  others_short = short[:place] + short[place + 1 :]
  picture = mpl_figure.Figure(figsize=(12, 4), layout='constrained')
  panels = picture.subplots(1, len(_PANELS))
  for axes, (name, label) in zip(panels, _PANELS, strict=True):
    styles = itertools.cycle(itertools.product(_MARKERS, style.COLOURS))
    for others, members in lines.items():
      members = sorted(members, key=lambda g: values.index(g.values[place]))
      members = [group for group in members if name in group.mean]
      marker, colour = next(styles)
      axes.errorbar(
        [values.index(group.values[place]) for group in members],
        [group.mean[name] for group in members],
        yerr=np.nan_to_num([group.deviation[name] for group in members]),
        color=colour,
        marker=marker,
        linewidth=1,
        capsize=2,
        label=_context(others_short, others),
      )
    axes.set_xticks(
      range(len(values)),
      [points_lib.describe(value) for value in values],
      rotation=30,
      ha='right',
    )
    style.quiet(axes, label, short[place], '')
  if len(lines) > 1:
    picture.legend(
      *panels[0].get_legend_handles_labels(),
      loc='outside lower center',
      ncols=min(4, len(lines)),
      fontsize=8,
      frameon=False,
    )
  return picture


def _iso_lines(axes: matplotlib.axes.Axes) -> None:
  """Lines of equal -ELBO = rate + distortion."""
  axes.margins(0.12)
  (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
  left = max(left, -0.5)
  total = np.linspace(left + low, right + high, 9)[1:-1]
  for value in total:
    axes.plot(
      [left, right],
      [value - left, value - right],
      color='#bbbbbb',
      linestyle=':',
      linewidth=1,
      zorder=0,
    )
    x = min(max(value - high, left), right)
    y = value - x
    if low < y <= high:
      axes.annotate(
        f'{value:.1f}',
        (x, y),
        xytext=(2, -3),
        textcoords='offset points',
        fontsize=7,
        color='#888888',
        va='top',
      )
  axes.set_xlim(left, right)
  axes.set_ylim(low, high)


def _marker(colour: int, shape: int) -> str:
  """Another one, too, once the colours are used up."""
  return _MARKERS[(shape + colour // len(style.COLOURS)) % len(_MARKERS)]


def _legend(axes: matplotlib.axes.Axes, entries) -> None:
  for label, colour, marker in entries:
    axes.plot([], [], color=colour, marker=marker, ls='none', label=label)
  if entries:
    axes.legend(
      fontsize=8, frameon=False, loc='upper left', bbox_to_anchor=(1, 1)
    )


def _bar(group: table.Group, name: str) -> float:
  return float(np.nan_to_num(group.deviation[name]))


def _context(short: Sequence[str], values: Sequence) -> str:
  words = (
    value if key == table.CHANGED else f'{key} = {points_lib.describe(value)}'
    for key, value in zip(short, values, strict=True)
  )
  return ', '.join(words) or 'all'


def _ordered(values) -> list:
  """Each once: numbers by size, anything else as it comes."""
  unique = list(dict.fromkeys(values))
  if all(isinstance(value, int | float) for value in unique):
    return sorted(unique)
  return unique
