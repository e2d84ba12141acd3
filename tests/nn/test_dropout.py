"""A byte of noise for each number is as good as 32 bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lvdecode.nn import dropout

ROWS, WIDTH = 4_000, 10


def dropped(rate, seed=0, x=None):
  x = jnp.ones((ROWS, WIDTH)) if x is None else x
  return dropout.Dropout(rate).apply(
    {}, x, deterministic=False, rngs={'dropout': jax.random.key(seed)}
  )


@pytest.mark.parametrize(
  ('rate', 'share'),
  [(0.1, 26 / 256), (0.3, 77 / 256), (0.5, 0.5), (1e-4, 1 / 256)],
)
def test_the_share_is_dropped_in_every_column(rate, share):
  found = np.asarray(dropped(rate))
  kept = found[found != 0]
  np.testing.assert_allclose(kept, 1 / (1 - share), rtol=1e-6)
  error = np.sqrt(share * (1 - share) / ROWS)
  np.testing.assert_allclose((found == 0).mean(axis=0), share, atol=5 * error)


def test_numbers_are_dropped_independently():
  zeros = np.asarray(dropped(0.3)) == 0
  both = np.corrcoef(zeros.T) - np.eye(WIDTH)
  assert np.abs(both).max() < 5 / np.sqrt(ROWS)
  next_row = np.corrcoef(zeros[:-1].ravel(), zeros[1:].ravel())[0, 1]
  assert abs(next_row) < 5 / np.sqrt(ROWS * WIDTH)


def test_bfloat16_keeps_the_expectation():
  """The scale itself, 1.113, would be 1.109 there: for every site alike."""
  x = jax.random.uniform(jax.random.key(1), (ROWS, WIDTH), minval=1, maxval=2)
  x = x.astype(jnp.bfloat16)
  found = np.asarray(dropped(0.1, x=x), np.float64)
  kept = found != 0
  ratio = found[kept].sum() / np.asarray(x, np.float64)[kept].sum()
  assert ratio == pytest.approx(256 / 230, rel=5e-4)


def test_the_key_says_which():
  np.testing.assert_array_equal(dropped(0.3), dropped(0.3))
  assert (dropped(0.3) != dropped(0.3, seed=1)).mean() > 0.3


@pytest.mark.slow
@pytest.mark.parametrize('shape', [(5,), (2, 3, 1), (3, 7), (2, 8), (0, 3)])
def test_any_shape_keeps_its_shape(shape):
  assert dropped(0.5, x=jnp.ones(shape)).shape == shape


def test_what_is_not_to_be_dropped_needs_no_key():
  x = jnp.ones((2, 3))
  assert dropout.Dropout(0.5).apply({}, x, deterministic=True) is x
  assert dropout.Dropout(0.0).apply({}, x, deterministic=False) is x
  np.testing.assert_array_equal(dropped(1.0, x=x), jnp.zeros((2, 3)))


def test_gradients_go_where_numbers_went():
  x = jax.random.normal(jax.random.key(3), (50, 8))
  grad = jax.grad(lambda x: dropped(0.5, x=x).sum())(x)
  np.testing.assert_array_equal(grad, 2.0 * (dropped(0.5, x=x) != 0))


def test_half_precision_stays():
  found = dropped(0.1, x=jnp.ones((8, 8), jnp.bfloat16))
  assert found.dtype == jnp.bfloat16
