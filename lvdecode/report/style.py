"""One look for all pictures, and SVG that takes on the colours of its page."""

import hashlib
import importlib.resources
import io
import pathlib
import re

import matplotlib
from matplotlib import artist as mpl_artist
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure

# Readable for colour-blind people (Wong 2011), in this order.
COLOURS = (
  '#0072b2',
  '#d55e00',
  '#009e73',
  '#cc79a7',
  '#e69f00',
  '#56b4e9',
  '#000000',
  '#f0e442',
)
REST = '#bbbbbb'
INK = '#30363d'
_LINE = '#d6dae0'
# What the page calls them (page.css): there they follow light and dark.
_VARIABLES = {
  INK: 'ink',
  _LINE: 'line',
  REST: 'rest',
  **{colour: f'c{number}' for number, colour in enumerate(COLOURS)},
}
TEMPLATE = importlib.resources.files('lvdecode.report') / 'template'
_WIDTH = 4.2  # inches; a telephone shows it at full size
HEIGHT = 2.8


def save(picture: mpl_figure.Figure, path: pathlib.Path) -> None:
  """Writes a PNG; a kill leaves the old one or the new."""
  temporary = path.with_suffix('.tmp')
  picture.savefig(temporary, format='png', dpi=120)
  temporary.replace(path)


def empty(height: float = HEIGHT) -> mpl_figure.Figure:
  """A figure of the common width, in inches."""
  return mpl_figure.Figure(figsize=(_WIDTH, height), layout='constrained')


def canvas(
  title: str, across: str, up: str, height: float = HEIGHT
) -> tuple[mpl_figure.Figure, mpl_axes.Axes]:
  """A figure with one set of quiet axes and their names."""
  picture = empty(height)
  axes = picture.subplots()
  quiet(axes, title, across, up)
  return picture, axes


def quiet(axes: mpl_axes.Axes, title: str, across: str, up: str) -> None:
  """Names the axes and leaves them no more ink than they need."""
  axes.set_title(title, loc='left', fontsize=10, color=INK)
  axes.set_xlabel(across, fontsize=9, color=INK)
  axes.set_ylabel(up, fontsize=9, color=INK)
  axes.tick_params(labelsize=8, color=_LINE, labelcolor=INK)
  axes.spines[['top', 'right']].set_visible(False)
  axes.spines[['left', 'bottom']].set_color(_LINE)
  axes.grid(color=_LINE, linewidth=0.6)
  axes.set_axisbelow(True)


def legend(picture: mpl_figure.Figure) -> None:
  """One legend for all that is drawn, above it, where it covers nothing."""
  handles: dict[str, mpl_artist.Artist] = {}
  for axes in picture.axes:
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
      handles.setdefault(label, handle)
  picture.legend(
    list(handles.values()),
    list(handles),
    loc='outside upper right',
    ncols=len(handles),
    frameon=False,
    columnspacing=1.2,
    handlelength=1.5,
    fontsize=8,
    labelcolor=INK,
  )


def svg(picture: mpl_figure.Figure) -> str:
  """The picture as an <svg> element for a page that defines the colours.

  Text stays text. The same picture gives the same string, and two different
  ones share no identifier.
  """
  file = io.StringIO()
  with matplotlib.rc_context(
    {'svg.fonttype': 'none', 'svg.hashsalt': 'lvdecode'}
  ):
    picture.savefig(
      file, format='svg', transparent=True, metadata={'Date': None}
    )
  text = file.getvalue()
  text = text[text.index('<svg') :]
  text = re.sub(r'<metadata>.*?</metadata>', '', text, flags=re.DOTALL)
  prefix = 'p' + hashlib.sha256(text.encode()).hexdigest()[:8]
  text = re.sub(r'\bid="', f'id="{prefix}-', text)
  text = re.sub(r'(href="|url\()#', rf'\1#{prefix}-', text)
  return re.sub(
    r'(?<=: )#[0-9a-f]{6}\b',
    lambda found: (
      f'var(--{_VARIABLES[found[0]]})' if found[0] in _VARIABLES else found[0]
    ),
    text,
  ).strip()
