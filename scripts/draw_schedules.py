"""Draws every kind of schedule, for the documents.

python scripts/draw_schedules.py docs/images/schedules.png
"""

import sys

import jax
import jax.numpy as jnp
from matplotlib import figure as mpl_figure

from lvdecode.training import schedules

_STEPS = 1_000
_PANELS = (
  ('constant', ('linear',)),
  ('linear, sigmoid, cosine', ()),
  ('cyclical', ('linear', 'sigmoid', 'cosine')),
  ('zero_then_ramp', ('linear', 'sigmoid', 'cosine')),
  ('ramp_hold_reset', ('linear', 'sigmoid', 'cosine')),
)
_COLOURS = {'linear': '#0072b2', 'sigmoid': '#d55e00', 'cosine': '#009e73'}


def draw() -> mpl_figure.Figure:
  """A panel for each kind, a colour for each shape of a rise."""
  picture = mpl_figure.Figure(figsize=(10, 2.3), layout='constrained')
  panels = picture.subplots(1, len(_PANELS), sharey=True)
  for axes, (title, shapes) in zip(panels, _PANELS, strict=True):
    for shape in shapes or schedules.SHAPES:
      kind = title if shapes else shape
      axes.plot(_curve(kind, shape), color=_COLOURS[shape], linewidth=1.3)
    axes.set_title(title, fontsize=10)
    axes.set_xticks([0, _STEPS], ['0', 'duration'])
    axes.set_yticks([0, 1], ['start', 'end'])
    axes.grid(alpha=0.3)
  handles = [panels[2].lines[index] for index, _ in enumerate(schedules.SHAPES)]
  picture.legend(
    handles,
    list(schedules.SHAPES),
    loc='outside lower center',
    ncols=3,
    frameon=False,
  )
  return picture


def _curve(kind: str, shape: str):
  settings = schedules.ScheduleSettings(
    kind=kind,
    start=0.0,
    end=1.0,
    duration=f'{_STEPS} steps',
    shape=shape,
    cycles=2 if kind == 'ramp_hold_reset' else 4,
    wait=0.25,
    ratio=0.5,
  )
  at = jax.vmap(lambda step: schedules.value(settings, step))
  return at(jnp.arange(_STEPS + _STEPS // 10))


if __name__ == '__main__':
  draw().savefig(sys.argv[1], dpi=80)
