"""A sweep's table holds every run, and its groups the mean over seeds."""

import csv
import io
import json
import math
import statistics

import pytest

from configs import base
from lvdecode import errors
from lvdecode.sweeps import pictures
from lvdecode.sweeps import points
from lvdecode.sweeps import table

BASE = base.get_config('quick').to_dict()
SETS = ((), ('memory',), ('input', 'memory'))


def all_points(seeds=2):
  def sweep(add):
    for chosen in SETS:
      for seed in range(seeds):
        add({'model.injection.points': chosen, 'seed': seed})

  return points.expand(BASE, sweep)


def evaluated(folder, point, **changes):
  """Figures that name the point: KL = seed + 10 * points."""
  number = point.settings.seed
  size = len(point.settings.model.injection.points)
  figures = dict(
    samples=5 if size else 1,
    latent_size=8 if size else 0,
    kl=10.0 * size + number,
    reconstruction_nll=70.0 - 10 * size,
    negative_elbo=70.0 + number,
    iw_nll=69.0,
    shuffled_nll=72.0 - 10 * size,
    mutual_information=1.0,
    active_units=2,
  )
  home = folder / point.name / 'evaluation'
  home.mkdir(parents=True, exist_ok=True)
  text = json.dumps({'figures': figures | changes, 'provenance': {}})
  (home / 'test.json').write_text(text)


def rows(folder, found):
  return [table.read(folder, point, 'test', 5) for point in found]


def test_groups_are_means_and_deviations_over_seeds(tmp_path):
  found = all_points(seeds=3)
  for point in found:
    evaluated(tmp_path, point)
  keys, groups = table.groups(rows(tmp_path, found))
  assert keys == ['model.injection.points']
  assert [group.values for group in groups] == [(each,) for each in SETS]
  for size, group in enumerate(groups):
    assert group.runs == 3
    assert group.mean['kl'] == 10 * size + 1
    assert group.deviation['kl'] == statistics.stdev([0, 1, 2])
    assert group.mean['shuffled_gap'] == pytest.approx(2)


def test_a_single_run_has_no_deviation(tmp_path):
  found = all_points(seeds=1)
  for point in found:
    evaluated(tmp_path, point)
  _, groups = table.groups(rows(tmp_path, found))
  assert all(math.isnan(group.deviation['kl']) for group in groups)
  text = table.to_markdown(rows(tmp_path, found), 'test', 5)
  assert '| memory | 1 | 10.00 | 60.00 |' in text


def test_rows_tell_done_failed_and_open_apart(tmp_path):
  done, failed, *still_open = all_points()
  evaluated(tmp_path, done)
  (tmp_path / failed.name).mkdir()
  (tmp_path / failed.name / table.ERROR).write_text('no memory, it said\n')
  found = rows(tmp_path, [done, failed, *still_open])
  assert [row.status for row in found] == ['done', 'failed'] + ['open'] * 4
  assert found[1].error == 'no memory, it said'
  text = table.to_markdown(found, 'test', 5)
  assert text.startswith('1 of 6 runs.')
  assert f'Failed: `{failed.name}`: no memory, it said' in text
  lines = list(csv.DictReader(io.StringIO(table.to_csv(found))))
  assert [line['status'] for line in lines] == [r.status for r in found]
  assert lines[0]['kl'] == '0.0' and lines[2]['kl'] == ''
  assert lines[1]['error'] == 'no memory, it said'
  assert lines[4]['model.injection.points'] == 'input+memory'


def test_figures_of_other_samples_do_not_count(tmp_path):
  plain, _, told, *_ = all_points()
  for point in (plain, told):
    evaluated(tmp_path, point)
  found = [table.read(tmp_path, point, 'test', 6) for point in (plain, told)]
  # A plain language model's likelihood needs no samples.
  assert [row.status for row in found] == ['done', 'open']


def test_a_damaged_evaluation_is_named(tmp_path):
  point = all_points()[0]
  evaluated(tmp_path, point)
  path = tmp_path / point.name / 'evaluation' / 'test.json'
  path.write_text(path.read_text()[:-5])
  with pytest.raises(errors.UserError, match='test.json cannot be read'):
    table.read(tmp_path, point, 'test', 5)


def test_a_failure_after_success_does_not_hide_it(tmp_path):
  point = all_points()[0]
  evaluated(tmp_path, point)
  (tmp_path / point.name / table.ERROR).write_text('old')
  assert table.read(tmp_path, point, 'test', 5).status == 'done'


def test_pictures_show_the_groups(tmp_path):
  found = all_points(seeds=2)
  for point in found:
    evaluated(tmp_path, point)
  got = rows(tmp_path, found)
  axes = pictures.rate_distortion(got).axes[0]
  marks = [c.lines[0].get_xydata()[0] for c in axes.containers]
  assert [list(mark) for mark in marks] == [[0.5, 70], [10.5, 60], [20.5, 50]]
  # On an iso-line rate + distortion is constant.
  lines = [line for line in axes.lines if line.get_linestyle() == ':']
  assert lines
  for line in lines:
    total = line.get_xdata() + line.get_ydata()
    assert total[0] == pytest.approx(total[1])
  picture = pictures.against(got, 'model.injection.points')
  ticks = [tick.get_text() for tick in picture.axes[0].get_xticklabels()]
  assert ticks == ['none', 'memory', 'input+memory']
  pictures.save(picture, tmp_path / 'a.png')
  assert (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')
