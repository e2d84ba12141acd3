"""Pictures of a sweep: the rate-distortion plane, and a figure against a key."""

from collections.abc import Iterable, Sequence
import itertools
import textwrap

from matplotlib import figure as mpl_figure
import matplotlib.axes
import numpy as np

from lvdecode.report import style
from lvdecode.sweeps import points as points_lib
from lvdecode.sweeps import table

_MARKERS = 'osD^vP*X<>hpd8'
_PANELS = (
  ('iw_nll', 'IW-NLL, nats per sequence'),
  ('kl', 'KL, nats per sequence'),
  ('shuffled_gap', 'NLL added by shuffling z, nats per sequence'),
)
# Keys that are one choice together, by the name it has.
_ONE_CHOICE: dict[str, tuple[str, ...]] = {
  'schedule': ('objective.beta.kind', 'objective.rate.kind')
}
_ROW = 0.18  # inches of a legend's line
_LETTERS = 15  # of a legend, in an inch


def choices(rows: Sequence[table.Row]) -> dict[str, tuple[str, ...]]:
  """What figures can be drawn against: a name, and the varied keys it is of."""
  keys, _ = table.groups(rows)
  joint = {n: k for n, k in _ONE_CHOICE.items() if set(k) <= set(keys)}
  taken = set(itertools.chain(*joint.values()))
  single: dict[str, tuple[str, ...]] = {
    key: (key,) for key in keys if key not in taken
  }
  return single | joint


def rate_distortion(rows: Sequence[table.Row]) -> mpl_figure.Figure:
  """KL against reconstruction NLL; on a dotted line -ELBO is the same.

  One mark a group of seeds, with the standard deviation over them: Alemi et
  al. 2018, "Fixing a Broken ELBO". Colour is the first varied key, shape the
  rest.
  """
  keys, found = table.groups(rows)
  found = [
    group
    for group in found
    if {'kl', 'reconstruction_nll'} <= group.mean.keys()
  ]
  first = _ordered(group.values[:1] for group in found)
  rest = _ordered(group.values[1:] for group in found)
  colours = _Names(keys[:1], [group.values[:1] for group in found])
  shapes = _Names(keys[1:], [group.values[1:] for group in found])
  entries = [
    (
      colours.label(value),
      style.COLOURS[i % len(style.COLOURS)],
      _marker(i, 0),
    )
    for i, value in enumerate(first)
    if keys
  ] + [
    (shapes.label(values), '#666666', _MARKERS[i % len(_MARKERS)])
    for i, values in enumerate(rest)
    if len(rest) > 1
  ]
  words = [label for label, *_ in entries] + shapes.otherwise.split('\n')
  width = 6 + max(map(len, words), default=0) / _LETTERS
  height = max(5, 1 + _ROW * (len(entries) + shapes.otherwise.count('\n')))
  picture = mpl_figure.Figure(figsize=(width, height), layout='constrained')
  axes = picture.subplots()
  for group in found:
    own = group.values[:1]
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
  for label, colour, marker in entries:
    axes.plot([], [], color=colour, marker=marker, ls='none', label=label)
  if entries:
    axes.legend(
      fontsize=8,
      frameon=False,
      loc='upper left',
      bbox_to_anchor=(1, 1),
      title=shapes.otherwise if len(rest) > 1 else None,
      title_fontsize=8,
      alignment='left',
    )
  _iso_lines(axes)
  style.quiet(
    axes,
    '',
    'rate: KL(q || p), nats per sequence',
    'distortion: NLL, nats per sequence',
  )
  return picture


def against(rows: Sequence[table.Row], name: str) -> mpl_figure.Figure:
  """Figures against one of `choices`; a colour is what differs in it alone.

  A line joins numbers; alternatives stand side by side. What has nothing to be
  compared with is left out, unless nothing has.
  """
  keys, found = table.groups(rows)
  chosen = choices(rows)[name]
  other_keys = [key for key in keys if key not in chosen]

  def pick(group, some):
    return tuple(group.values[keys.index(key)] for key in some)

  lines: dict[tuple, list[table.Group]] = {}
  for group in found:
    lines.setdefault(pick(group, other_keys), []).append(group)
  lines = {
    others: members for others, members in lines.items() if len(members) > 1
  } or lines
  values = _ordered(
    pick(g, chosen) for g in found if pick(g, other_keys) in lines
  )
  numbers = all(isinstance(value[0], int | float) for value in values)
  names = _Names(other_keys, list(lines))
  labels = [names.label(others) for others in lines]
  widest = max(map(len, labels), default=0)
  columns = max(1, min(4, int(12 * _LETTERS / (widest + 6))))
  height = 4.0
  if len(lines) > 1:
    lines_of_text = -(-len(lines) // columns) + names.otherwise.count('\n') + 1
    height += _ROW * lines_of_text
  picture = mpl_figure.Figure(figsize=(12, height), layout='constrained')
  panels = picture.subplots(1, len(_PANELS))
  short = dict(zip(keys, points_lib.short_names(keys), strict=True))
  for axes, (figure, label) in zip(panels, _PANELS, strict=True):
    styles = itertools.cycle(itertools.product(_MARKERS, style.COLOURS))
    for i, (text, members) in enumerate(
      zip(labels, lines.values(), strict=True)
    ):
      aside = 0.0 if numbers else 0.5 * ((i + 0.5) / len(lines) - 0.5)
      members = sorted(members, key=lambda g: values.index(pick(g, chosen)))
      members = [group for group in members if figure in group.mean]
      marker, colour = next(styles)
      axes.errorbar(
        [values.index(pick(group, chosen)) + aside for group in members],
        [group.mean[figure] for group in members],
        yerr=np.nan_to_num([group.deviation[figure] for group in members]),
        color=colour,
        marker=marker,
        linestyle='-' if numbers else 'none',
        linewidth=1,
        capsize=2,
        label=text,
      )
    axes.set_xticks(
      range(len(values)), map(_tick, values), rotation=30, ha='right'
    )
    style.quiet(axes, label, short.get(name, name), '')
  if len(lines) > 1:
    picture.legend(
      *panels[0].get_legend_handles_labels(),
      loc='outside lower center',
      ncols=columns,
      fontsize=8,
      frameon=False,
      title=names.otherwise or None,
      title_fontsize=8,
    )
  return picture


class _Names:
  """What tells groups apart, in words as few as will do."""

  def __init__(self, keys: Sequence[str], found: Sequence[tuple]):
    """`found` are the values that the groups have for `keys`."""
    self._short = points_lib.short_names(list(keys))
    columns = list(zip(*found, strict=True))
    self._usual = [max(column, key=column.count) for column in columns]
    varied = [
      i for i, column in enumerate(columns) if i and len(set(column)) > 1
    ]
    words = [self._word(i, self._usual[i]) for i in varied]
    # What labels leave out; '' for nothing.
    self.otherwise = textwrap.fill(
      f'if nothing else is said, {", ".join(words)}' if words else '', 60
    )

  def label(self, values: tuple) -> str:
    """The first key's value, and where others are not as most have them."""
    words = [
      self._word(i, value)
      for i, value in enumerate(values)
      if not i or value != self._usual[i]
    ]
    return ', '.join(words) or 'all'

  def _word(self, i: int, value) -> str:
    if self._short[i] == table.CHANGED:
      return value
    return f'{self._short[i]} = {points_lib.describe(value)}'


def _tick(values: tuple) -> str:
  """Of one key its value; of several those that are on."""
  if len(values) == 1:
    return points_lib.describe(values[0])
  return ' + '.join(value for value in values if value != 'none')


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


def _bar(group: table.Group, name: str) -> float:
  return float(np.nan_to_num(group.deviation[name]))


def _ordered(values: Iterable[tuple]) -> list[tuple]:
  """Each once: a number each by size, anything else as it comes."""
  unique = list(dict.fromkeys(values))
  numbers = all(len(v) == 1 and isinstance(v[0], int | float) for v in unique)
  return sorted(unique) if numbers else unique
