"""Means of ragged parts."""

import math

import jax.numpy as jnp
import numpy as np

from lvdecode.training import metrics


def test_ragged_parts_give_the_mean_of_all():
  values = np.arange(7.0)
  parts = [
    {'a': metrics.Mean(jnp.sum(part), jnp.float32(part.size))}
    for part in (values[:4], values[4:6], values[6:])
  ]
  merged = metrics.merge(metrics.merge(parts[0], parts[1]), parts[2])
  assert metrics.values(merged) == {'a': values.mean()}
  assert float(merged['a'].value()) == values.mean()


def test_merging_keeps_names_of_either_side():
  left = {'a': metrics.Mean(1.0, 1.0)}
  right = {'a': metrics.Mean(5.0, 2.0), 'b': metrics.Mean(7.0, 1.0)}
  assert metrics.merge(left, right) == {
    'a': metrics.Mean(6.0, 3.0),
    'b': metrics.Mean(7.0, 1.0),
  }
  assert left == {'a': metrics.Mean(1.0, 1.0)}


def test_nothing_counted_is_nan_on_host_and_device():
  assert math.isnan(metrics.Mean(0.0, 0.0).value())
  assert math.isnan(metrics.Mean(jnp.zeros(()), jnp.zeros(())).value())
