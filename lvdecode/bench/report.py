"""What was measured, as lines, and as a picture of its ratios."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import figure as mpl_figure
from matplotlib import ticker

from lvdecode.report import style

_GIGA, _MEBI = 1e9, 2**20
_STYLES = ('-', '--', ':')


def head(machine: Mapping[str, Any]) -> list[str]:
  """The hardware, the date and the versions."""
  return [
    f'{machine["date"]}  {machine["processor"]}, {machine["cores"]} cores, '
    f'load {machine["load"]:.1f}; {machine["devices"]} x {machine["device"]} '
    f'({machine["backend"]})',
    '  '.join(f'{k} {v}' for k, v in machine['versions'].items()),
  ]


def section_lines(section: Mapping[str, Any]) -> list[str]:
  """What was measured of one size."""
  out = [f'{section["kind"]}, {section["size"]}: {section["shape"]}']
  for name, value in section['limits'].items():
    out.append(f'  limit   {name}  {value / _GIGA:,.1f} G/s')
  out += [_row(row) for row in section['rows']]
  for ratio in section['ratios']:
    target, of = ratio.get('target'), ratio['of']
    if of == 'speed':
      of += f', median of {len(ratio["rounds"])} rounds'
    bound = '' if ratio['of'] == 'speed' else 'at most '
    out.append(
      f'  ratio   {ratio["name"]}  {ratio["value"]:.2f} x the {of}'
      + ('' if target is None else f' (target {bound}{target:g})')
    )
  return out + [f'  {note}' for note in section['notes']]


def _row(row: Mapping[str, Any]) -> str:
  parts = [f'  {row["name"]:<24}{row["seconds"]:>9.3f} s a {row["unit"]}']
  if row.get('per_second') is not None:
    parts.append(f'{row["per_second"]:>10,.0f} {row["counted"]}/s')
  if row.get('share') is not None:
    parts.append(f'{100 * row["share"]:.1f} % of {row["share_of"]}')
  if row.get('compile_seconds') is not None:
    parts.append(f'compiled in {row["compile_seconds"]:.1f} s')
  if row.get('program_bytes'):
    parts.append(f'{row["program_bytes"] / _MEBI:,.0f} MiB')
  return '  '.join(parts)


def chart(report: Mapping[str, Any]) -> mpl_figure.Figure:
  """Ratios as bars on the left, and each scaling as a line on the right."""
  bars = [
    (f'{section["kind"]} {section["size"]}: {ratio["name"]}', ratio)
    for section in report['sections']
    for ratio in section['ratios']
    if ratio['of'] == 'speed'
  ]
  scalings = [s for s in report['sections'] if s['kind'] == 'scaling']
  columns = 2 if scalings else 1
  picture = mpl_figure.Figure(
    figsize=(5.2 * columns, 1.4 + 0.3 * max(len(bars), 5)), layout='constrained'
  )
  axes = picture.subplots(1, columns, squeeze=False)[0]
  _bars(axes[0], bars)
  if scalings:
    _lines(axes[1], scalings)
  return picture


def _bars(axes, bars: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
  style.quiet(axes, 'speed beside another', 'times as fast', '')
  places = range(len(bars), 0, -1)
  for place, (_, ratio) in zip(places, bars, strict=True):
    axes.barh(
      place, ratio['value'] - 1, left=1, color=style.COLOURS[0], height=0.6
    )
    axes.plot(
      ratio['rounds'],
      [place] * len(ratio['rounds']),
      '|',
      color=style.INK,
      markersize=7,
    )
    if ratio.get('target') is not None:
      axes.plot(ratio['target'], place, 'D', color=style.COLOURS[1])
  axes.set_yticks(list(places), labels=[name for name, _ in bars])
  axes.axvline(1.0, color=style.INK, linewidth=0.8)
  axes.set_xscale('log', base=2)
  axes.xaxis.set_major_formatter(ticker.FormatStrFormatter('%g'))
  axes.margins(x=0.1)


def _lines(axes, scalings: Sequence[Mapping[str, Any]]) -> None:
  style.quiet(
    axes, 'training step as one size grows', 'times the size', 'times the time'
  )
  for place, section in enumerate(scalings):
    first = section['rows'][0]
    axes.plot(
      [row['value'] / first['value'] for row in section['rows']],
      [row['seconds'] / first['seconds'] for row in section['rows']],
      marker='o',
      markersize=4,
      color=style.COLOURS[place % len(style.COLOURS)],
      # Beyond the colours they are taken once more, dashed.
      linestyle=_STYLES[place // len(style.COLOURS) % len(_STYLES)],
      label=section['size'],
    )
  axes.set_xscale('log', base=2)
  axes.set_yscale('log', base=2)
  for axis in (axes.xaxis, axes.yaxis):
    axis.set_major_formatter(ticker.FormatStrFormatter('%g'))
  axes.legend(
    frameon=False, fontsize=8, loc='center left', bbox_to_anchor=(1, 0.5)
  )
