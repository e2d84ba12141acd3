"""The documents' picture shows every kind and every shape."""

import runpy

import house
import numpy as np

from lvdecode.training import schedules


def test_every_kind_has_a_panel_and_every_shape_a_line():
  script = house.ROOT / 'scripts' / 'draw_schedules.py'
  picture = runpy.run_path(str(script))['draw']()
  titles = ', '.join(axes.get_title() for axes in picture.axes)
  assert titles.split(', ') == list(schedules.KINDS)
  for axes in picture.axes[1:]:
    assert len(axes.lines) == len(schedules.SHAPES)
    for line in axes.lines:
      y = line.get_ydata()
      assert y[0] == 0 and y[-1] == 1 and np.ptp(y) == 1
