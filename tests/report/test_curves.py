"""Learning curves are the lines of a run."""

import json

import numpy as np
import pytest

from lvdecode import errors
from lvdecode.report import curves

LINES = [
  {'step': 10, 'train/nll': 5.0, 'train/beta': 0.5},
  {'step': 20, 'train/nll': None, 'train/beta': 1.0},
  {'step': 20, 'evaluate/nll': 4.0},
  {'step': 30, 'train/nll': 3.0, 'train/beta': 1.0},
]


@pytest.fixture(name='workdir')
def _workdir(tmp_path):
  lines = ''.join(json.dumps(line) + '\n' for line in LINES)
  (tmp_path / curves.METRICS).write_text(lines)
  return tmp_path


def legend(picture):
  return [text.get_text() for text in picture.legends[0].get_texts()]


def test_curves_are_the_lines_of_the_run(workdir):
  panels = curves.curves(workdir).axes
  nll, beta = panels  # and none of what the run has no figures of
  assert 'nats per sequence' in nll.get_ylabel()
  training, validation = nll.lines
  # What was not finite is left out.
  np.testing.assert_array_equal(training.get_xydata(), [[10, 5], [30, 3]])
  np.testing.assert_array_equal(validation.get_xydata(), [[20, 4]])
  np.testing.assert_array_equal(
    beta.lines[0].get_xydata(), [[10, 0.5], [20, 1], [30, 1]]
  )


def test_the_legend_names_both_curves_though_the_first_panel_is_empty(workdir):
  assert legend(curves.curves(workdir)) == ['training', 'validation']


def test_curves_are_saved_whole(workdir):
  path = curves.save_curves(workdir)
  assert path.read_bytes().startswith(b'\x89PNG')
  assert sorted(workdir.iterdir()) == sorted([path, workdir / curves.METRICS])


def test_a_folder_without_figures_is_refused(tmp_path):
  with pytest.raises(errors.UserError, match=curves.METRICS):
    curves.curves(tmp_path)


def test_half_a_line_is_no_line(workdir):
  path = workdir / curves.METRICS
  path.write_text(path.read_text() + '{"step": 40, "train/n')
  assert [line['step'] for line in curves.read_metrics(workdir)] == [
    10,
    20,
    20,
    30,
  ]


def test_a_classifier_has_panels_of_its_labels(workdir):
  of_labels = [{'step': 10, 'train/accuracy': 0.5, 'train/classifier_nll': 1.0}]
  path = workdir / curves.METRICS
  whole = path.read_text()
  path.write_text(whole + json.dumps(of_labels[0]) + '\n')
  titles = [
    axes.get_title('left') for axes in curves.curves(workdir).axes if axes.lines
  ]
  assert titles[-2:] == ['−log q(label | text)', 'accuracy']
  assert len(titles) == 4
  path.write_text(json.dumps(of_labels[0]) + '\n')
  assert len([axes for axes in curves.curves(workdir).axes if axes.axison]) == 2
