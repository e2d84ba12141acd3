"""Pictures of figures show the numbers they are given."""

import made_up
import numpy as np
import pytest

from lvdecode.report import charts


def ticks(axes):
  return [text.get_text() for text in axes.get_yticklabels()]


def test_the_bound_stands_at_its_k_with_its_error():
  (axes,) = charts.convergence(made_up.the_likelihood()).axes
  (drawn,) = axes.containers
  line, _, (bars,) = drawn
  np.testing.assert_allclose(
    line.get_xydata(), [[1, 24.0], [2, 23.5], [5, 23.25]]
  )
  heights = [np.ptp(segment[:, 1]) for segment in bars.get_segments()]
  np.testing.assert_allclose(heights, 2 * 0.5)
  assert axes.get_ylabel() == 'nats per sequence'


def test_every_dimension_has_its_bar():
  (axes,) = charts.kl_by_dimension(made_up.the_information()).axes
  assert [bar.get_height() for bar in axes.patches] == [2.75, 0.5, 0.25]
  assert '3.50' in axes.get_title(loc='left')


def test_a_dead_dimension_is_drawn_on_a_logarithmic_scale():
  (axes,) = charts.spectrum(made_up.the_information()).axes
  dimensions, principal, active = axes.lines
  np.testing.assert_allclose(dimensions.get_ydata()[:2], [0.75, 0.5])
  np.testing.assert_allclose(principal.get_ydata()[:2], [1.0, 0.25])
  assert 0 < dimensions.get_ydata()[2] < active.get_ydata()[0] == 0.01


@pytest.mark.parametrize(
  ('points', 'rows'),
  [
    (('input',), 1),
    # Of two, 'only the one' is 'not the other'.
    (('input', 'memory'), 2),
    (('input', 'memory', 'softmax'), 6),
  ],
)
def test_every_way_of_telling_z_has_a_row(points, rows):
  found = made_up.the_use(points)
  (axes,) = charts.changes(found).axes
  assert len(ticks(axes)) == 3 + rows
  assert ticks(axes)[:3] == [
    "another text's z",
    'z from the prior',
    "z = the prior's mean",
  ]
  assert ticks(axes)[3] == 'not told at input'
  shown = [text.get_text() for text in axes.texts]
  assert shown[:4] == ['+6.25', '+5.00', '+4.00', '+1.00']


def test_attention_is_a_cell_for_each_head_darkest_at_the_largest():
  mass = made_up.the_use().memory_mass
  (axes,) = charts.attention(mass).axes
  assert [text.get_text() for text in axes.texts] == [
    '50.0', '25.0', '0.0', '12.5',
  ]  # fmt: skip
  opacity = np.array([cell.get_alpha() for cell in axes.patches])
  np.testing.assert_allclose(opacity / opacity.max(), np.ravel(mass) / 0.5)
  # Layer by layer, downwards.
  assert [cell.get_y() for cell in axes.patches] == [-0.5, -0.5, 0.5, 0.5]
  assert axes.yaxis.get_inverted()


def test_attention_that_is_nowhere_is_drawn():
  (axes,) = charts.attention([[0.0, 0.0]]).axes
  assert [cell.get_alpha() for cell in axes.patches] == [0.0, 0.0]


def test_gains_stand_at_their_positions_with_their_texts():
  (axes,) = charts.gain_by_position(made_up.the_use().positions).axes
  prior, other, _ = axes.lines
  np.testing.assert_allclose(prior.get_xydata(), [[1, 1], [2, 0.5], [4, 0.25]])
  np.testing.assert_allclose(other.get_ydata(), [1.5, 0.75, 0.375])
  areas = axes.collections[0].get_sizes()
  np.testing.assert_allclose(areas / areas[0], [1, 0.5, 0.25])
