"""The commands of a sweep's points ask for what is missing."""

import swept

from experiments import jobs

HEADLINE = ('likelihood', 'information', 'use')


def plan(folder, sections):
  return jobs.Plan(
    folder=folder,
    config='configs/base.py',
    overrides={},
    split='test',
    samples=5,
    texts=swept.TEXTS,
    sections=sections,
  )


def asked(words):
  found = [word for word in words if word.startswith('--sections=')]
  return [word.removeprefix('--sections=') for word in found]


def test_sections_are_asked_for_point_by_point(tmp_path):
  one, other, *_ = swept.all_points()
  chosen = plan(tmp_path, {one.name: (*HEADLINE, 'completion')})
  expected = ['likelihood,information,use,completion']
  assert asked(chosen.evaluation(one, 'python')) == expected
  assert asked(chosen.evaluation(other, 'python')) == []


def test_what_other_code_measured_is_asked_for_again(tmp_path):
  """Sections of one file are of one code: the others would go."""
  point = swept.all_points()[0]
  chosen = plan(tmp_path, {point.name: (*HEADLINE, 'completion')})
  for change in ({'code': 'other'}, {'libraries': {}}):
    swept.evaluated(tmp_path, point)
    swept.came_from(tmp_path, point, **change)
    found = asked(chosen.evaluation(point, 'python'))
    assert found == ['likelihood,information,use,completion']


def test_what_was_measured_before_is_not_asked_for_again(tmp_path):
  point = swept.all_points()[0]
  chosen = plan(tmp_path, {point.name: (*HEADLINE, 'completion')})
  swept.evaluated(tmp_path, point)
  assert chosen.row(point).status == 'open'
  assert asked(chosen.evaluation(point, 'python')) == ['completion']
  sections = dict.fromkeys(HEADLINE, {})
  swept.measured(tmp_path, point, completion=swept.COMPLETION, **sections)
  assert chosen.row(point).status == 'done'
