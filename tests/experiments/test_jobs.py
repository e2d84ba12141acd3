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


def test_a_point_that_lacks_a_section_is_open(tmp_path):
  point = swept.all_points()[0]
  chosen = plan(tmp_path, {point.name: (*HEADLINE, 'completion')})
  swept.evaluated(tmp_path, point)
  assert chosen.row(point).status == 'open'
  # All of them: what another code or device measured does not stay.
  words = chosen.evaluation(point, 'python')
  assert asked(words) == ['likelihood,information,use,completion']
  assert '--missing' in words
  sections = dict.fromkeys(HEADLINE, {})
  swept.measured(tmp_path, point, completion=swept.COMPLETION, **sections)
  assert chosen.row(point).status == 'done'
