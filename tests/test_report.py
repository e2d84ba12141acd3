"""Pictures show every number they are given, and survive dull ones."""

import json

import numpy as np
import pytest

from lvdecode import errors
from lvdecode import report

LINES = [
  {'step': 10, 'train/nll': 5.0, 'train/beta': 0.5},
  {'step': 20, 'train/nll': None, 'train/beta': 1.0},
  {'step': 20, 'evaluate/nll': 4.0},
  {'step': 30, 'train/nll': 3.0, 'train/beta': 1.0},
]


@pytest.fixture(name='workdir')
def _workdir(tmp_path):
  lines = ''.join(json.dumps(line) + '\n' for line in LINES)
  (tmp_path / report.METRICS).write_text(lines)
  return tmp_path


def points(picture):
  """What a map shows: the places of its latents."""
  return picture.axes[0].collections[0].get_offsets()


def legend(picture):
  return [text.get_text() for text in picture.legends[0].get_texts()]


def test_curves_are_the_lines_of_the_run(workdir):
  panels = report.curves(workdir).axes
  _, nll, _, beta = panels
  assert all('nats per sequence' in axes.get_ylabel() for axes in panels[:3])
  training, validation = nll.lines
  # What was not finite is left out.
  np.testing.assert_array_equal(training.get_xydata(), [[10, 5], [30, 3]])
  np.testing.assert_array_equal(validation.get_xydata(), [[20, 4]])
  np.testing.assert_array_equal(
    beta.lines[0].get_xydata(), [[10, 0.5], [20, 1], [30, 1]]
  )


def test_the_legend_names_both_curves_though_the_first_panel_is_empty(workdir):
  assert legend(report.curves(workdir)) == ['training', 'validation']


def test_curves_are_saved_whole(workdir):
  path = report.save_curves(workdir)
  assert path.read_bytes().startswith(b'\x89PNG')
  assert sorted(workdir.iterdir()) == sorted([path, workdir / report.METRICS])


def test_a_folder_without_figures_is_refused(tmp_path):
  with pytest.raises(errors.UserError, match=report.METRICS):
    report.curves(tmp_path)


def test_a_map_keeps_the_distances_within_a_plane():
  rng = np.random.default_rng(0)
  flat = rng.normal(size=(40, 2)) * [3.0, 1.0]
  rotation, _ = np.linalg.qr(rng.normal(size=(5, 5)))
  mean = flat @ rotation[:2] + rng.normal(size=5)
  picture = report.latent_map(mean, ['a'] * 40, 'group')
  places = np.asarray(points(picture))
  distances = [
    np.linalg.norm(x[:, None] - x[None], axis=-1) for x in (places, flat)
  ]
  np.testing.assert_allclose(*distances, atol=1e-9)
  shares = [
    int(label().split()[-5])
    for label in (picture.axes[0].get_xlabel, picture.axes[0].get_ylabel)
  ]
  assert sum(shares) == 100
  assert shares[0] > shares[1]


def test_a_latent_of_one_dimension_lies_on_the_first_axis():
  mean = np.random.default_rng(0).normal(size=(9, 1))
  places = np.asarray(points(report.latent_map(mean, ['a'] * 9, 'group')))
  np.testing.assert_allclose(abs(places[:, :1]), abs(mean - mean.mean()))
  np.testing.assert_array_equal(places[:, 1], np.zeros(9))


@pytest.mark.parametrize('shape', [(9, 1), (1, 4), (9, 4)])
def test_a_map_of_latents_that_say_nothing_is_a_point(shape):
  picture = report.latent_map(np.ones(shape), ['a'] * shape[0], 'group')
  np.testing.assert_array_equal(points(picture), np.zeros((shape[0], 2)))


def test_labels_beyond_the_colours_share_one():
  labels = [f'label {n}' for n in range(12)] + [f'label {n}' for n in range(8)]
  mean = np.random.default_rng(0).normal(size=(20, 3))
  picture = report.latent_map(mean, labels, 'group')
  # The commonest are told apart.
  assert legend(picture) == [*(f'label {n}' for n in range(8)), '4 others']
  colours = picture.axes[0].collections[0].get_facecolors()
  assert len(np.unique(colours[:8], axis=0)) == 8
  assert len(np.unique(colours[8:12], axis=0)) == 1
  np.testing.assert_array_equal(colours[:8], colours[12:])


@pytest.mark.parametrize(
  ('shape', 'words'), [((3, 2), '3 latents, 2 labels'), ((2, 0), 'no map')]
)
def test_what_cannot_be_mapped_is_refused(shape, words):
  with pytest.raises(errors.UserError, match=words):
    report.latent_map(np.ones(shape), ['a', 'b'], 'group')
