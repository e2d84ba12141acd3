"""Pictures of a sweep show its groups, and what is missing not at all."""

import pytest
import swept

from lvdecode.report import comparisons
from lvdecode.report import style


def finished(folder, **changes):
  found = swept.all_points(seeds=2)
  for point in found:
    swept.evaluated(folder, point, **changes)
  return swept.rows(folder, found)


def test_the_plane_has_a_mark_a_group(tmp_path):
  axes = comparisons.rate_distortion(finished(tmp_path)).axes[0]
  marks = [c.lines[0].get_xydata()[0] for c in axes.containers]
  assert [list(mark) for mark in marks] == [[0.5, 70], [10.5, 60], [20.5, 50]]


def test_on_an_iso_line_the_bound_is_the_same(tmp_path):
  axes = comparisons.rate_distortion(finished(tmp_path)).axes[0]
  lines = [line for line in axes.lines if line.get_linestyle() == ':']
  assert lines
  for line in lines:
    total = line.get_xdata() + line.get_ydata()
    assert total[0] == pytest.approx(total[1])


def test_figures_stand_against_the_values_of_a_key(tmp_path):
  rows = finished(tmp_path)
  picture = comparisons.against(rows, 'model.injection.points')
  ticks = [tick.get_text() for tick in picture.axes[0].get_xticklabels()]
  assert ticks == ['none', 'memory', 'input+memory']
  line = picture.axes[1].containers[0].lines[0]
  assert line.get_ydata().tolist() == [0.5, 10.5, 20.5]


def test_a_figure_nobody_has_leaves_its_panel_empty(tmp_path):
  rows = finished(tmp_path, shuffled_nll=None)
  picture = comparisons.against(rows, 'model.injection.points')
  assert not picture.axes[2].containers[0].lines[0].get_ydata().size


def test_a_picture_is_written_whole(tmp_path):
  path = tmp_path / 'a.png'
  style.save(comparisons.rate_distortion(finished(tmp_path)), path)
  assert path.read_bytes().startswith(b'\x89PNG')
  assert not list(tmp_path.glob('*.tmp'))
