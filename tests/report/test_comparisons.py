"""Pictures of a sweep show its groups, and what is missing not at all."""

import json

import pytest
import swept

from lvdecode.report import comparisons
from lvdecode.report import style
from lvdecode.sweeps import points


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


def swept_rows(tmp_path, *added):
  found = points.expand(swept.BASE, lambda add: [add(each) for each in added])
  for point in found:
    swept.evaluated(tmp_path, point)
  return swept.rows(tmp_path, found)


def series(picture, panel=1):
  """By label: where they are, and what they are."""
  axes = picture.axes[panel]
  return {
    container.get_label(): container.lines[0] for container in axes.containers
  }


def test_only_what_can_be_compared_is_drawn_against_a_key(tmp_path):
  told, layers, width = (
    'model.injection.points',
    'model.decoder.layers',
    'model.latent_size',
  )
  rows = swept_rows(
    tmp_path,
    *(
      {told: points, layers: depth, width: 8}
      for points in ((), ('memory',))
      for depth in (4, 2)
    ),
    {told: ('memory',), layers: 2, width: 16},
  )
  found = series(comparisons.against(rows, layers))
  # The wide one has no other depth; width is named where it is not as usual.
  assert set(found) == {'points = none', 'points = memory'}
  assert found['points = memory'].get_xdata().tolist() == [0, 1]
  assert found['points = memory'].get_linestyle() == '-'
  picture = comparisons.against(rows, told)
  found = series(picture)
  assert set(found) == {'layers = 4', 'layers = 2'}
  # Alternatives are not joined, and do not hide each other.
  one, two = (found[name] for name in ('layers = 4', 'layers = 2'))
  assert one.get_linestyle() == 'None'
  assert (one.get_xdata() != two.get_xdata()).all()
  found = series(comparisons.against(rows, width))
  assert set(found) == {'points = memory'}


def test_kind_of_schedule_and_rate_are_one_choice(tmp_path):
  kind, rate = 'objective.beta.kind', 'objective.rate.kind'
  free = {'objective.free_bits.kind': 'none'}
  rows = swept_rows(
    tmp_path,
    {kind: 'constant', rate: 'none'} | free,
    {kind: 'linear', rate: 'none'} | free,
    {kind: 'constant', rate: 'dual'} | free,
  )
  assert comparisons.choices(rows) == {'schedule': (kind, rate)}
  picture = comparisons.against(rows, 'schedule')
  ticks = [tick.get_text() for tick in picture.axes[0].get_xticklabels()]
  assert ticks == ['constant', 'linear', 'constant + dual']


@pytest.mark.parametrize('name', ['plane', 'against'])
def test_a_legend_fits_its_picture(tmp_path, name):
  """However many there are, and however long their names."""
  rows = swept_rows(
    tmp_path,
    *(
      {
        'model.injection.points': points,
        'objective.rate.target': target,
        'model.decoder.layers': depth,
        'objective.free_bits.nats': nats,
      }
      for points in ((), ('memory',), ('input', 'memory', 'softmax'))
      for target in (1.0, 2.0)
      for depth in (2, 3, 4)
      for nats in (0.1, 0.2)
    ),
  )
  if name == 'plane':
    picture = comparisons.rate_distortion(rows)
    legend = picture.axes[0].get_legend()
  else:
    picture = comparisons.against(rows, 'model.decoder.layers')
    (legend,) = picture.legends
  picture.draw_without_rendering()
  box, room = legend.get_window_extent(), picture.bbox
  assert box.x0 >= 0 and box.x1 <= room.x1
  assert box.y0 >= 0 and box.y1 <= room.y1
  for axes in picture.axes:
    assert axes.get_window_extent().height > 150
    if name == 'against':
      assert axes.get_window_extent().y0 > box.y1


def test_a_figure_nobody_has_leaves_its_panel_empty(tmp_path):
  rows = finished(tmp_path, shuffled_nll=None)
  picture = comparisons.against(rows, 'model.injection.points')
  assert not picture.axes[2].containers[0].lines[0].get_ydata().size


def test_a_picture_is_written_whole(tmp_path):
  path = tmp_path / 'a.png'
  style.save(comparisons.rate_distortion(finished(tmp_path)), path)
  assert path.read_bytes().startswith(b'\x89PNG')
  assert not list(tmp_path.glob('*.tmp'))


def test_a_classifier_among_latent_models_is_no_mark(tmp_path):
  found = swept.all_points(seeds=1)
  for point in found:
    swept.evaluated(tmp_path, point)
  path = tmp_path / found[0].name / 'evaluation' / 'test.json'
  judged = {'accuracy': 0.5, 'macro_f1': 0.5, 'texts': 7, 'samples': 0}
  written = json.loads(path.read_text()) | {'classification': judged}
  del written['figures']
  path.write_text(json.dumps(written))
  rows = swept.rows(tmp_path, found)
  assert [row.status for row in rows] == ['done'] * 3
  axes = comparisons.rate_distortion(rows).axes[0]
  assert len(axes.containers) == 2
