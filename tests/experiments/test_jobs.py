"""The commands of a sweep's points ask for what is missing."""

import json

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


def test_what_was_measured_before_is_not_asked_for_again(tmp_path):
  point = swept.all_points()[0]
  chosen = plan(tmp_path, {point.name: (*HEADLINE, 'completion')})
  swept.evaluated(tmp_path, point)
  assert chosen.row(point).status == 'open'
  assert asked(chosen.evaluation(point, 'python')) == ['completion']
  path = tmp_path / point.name / 'evaluation' / 'test.json'
  sections = dict.fromkeys(HEADLINE, {})
  completion = {
    'texts': 9,
    'written': {
      'likely words': {
        'bleu': [4.0, 3.0, 2.0, 1.0],
        'distinct_1': 1.0,
        'distinct_2': 2.0,
        'words': 9,
      }
    },
  }
  written = json.loads(path.read_text()) | sections
  path.write_text(json.dumps(written | {'completion': completion}))
  assert chosen.row(point).status == 'done'
