"""Maps show every latent they are given, and survive dull ones."""

import numpy as np
import pytest

from lvdecode import errors
from lvdecode.report import maps


def drawn(mean, labels):
  return maps.latent_map(maps.principal_axes(mean), labels, 'group')


def points(picture):
  """What a map shows: the places of its latents."""
  return picture.axes[0].collections[0].get_offsets()


def legend(picture):
  return [text.get_text() for text in picture.legends[0].get_texts()]


def test_a_map_keeps_the_distances_within_a_plane():
  rng = np.random.default_rng(0)
  flat = rng.normal(size=(40, 2)) * [3.0, 1.0]
  rotation, _ = np.linalg.qr(rng.normal(size=(5, 5)))
  mean = flat @ rotation[:2] + rng.normal(size=5)
  picture = drawn(mean, ['a'] * 40)
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
  places = np.asarray(points(drawn(mean, ['a'] * 9)))
  np.testing.assert_allclose(abs(places[:, :1]), abs(mean - mean.mean()))
  np.testing.assert_array_equal(places[:, 1], np.zeros(9))


@pytest.mark.parametrize('shape', [(9, 1), (1, 4), (9, 4)])
def test_a_map_of_latents_that_say_nothing_is_a_point(shape):
  picture = drawn(np.ones(shape), ['a'] * shape[0])
  np.testing.assert_array_equal(points(picture), np.zeros((shape[0], 2)))


def test_labels_beyond_the_colours_share_one():
  labels = [f'label {n}' for n in range(12)] + [f'label {n}' for n in range(8)]
  mean = np.random.default_rng(0).normal(size=(20, 3))
  picture = drawn(mean, labels)
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
    drawn(np.ones(shape), ['a', 'b'])


def test_a_label_that_matplotlib_would_leave_out_is_named():
  picture = drawn(np.eye(5), ['_a', '_a', '', '_b', 'c'])
  assert legend(picture) == ['', '_a', '_b', 'c']
