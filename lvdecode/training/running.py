"""Running statistics: leaves of the parameter tree that follow the data.

A leaf whose name begins with `running_` gets no gradient, no optimiser and no
decay; a loss moves it by a metric named as its path. As a leaf of that tree it
is averaged, stored, restored and exported with the parameters it belongs to.
"""

from typing import Any

import jax
import jax.numpy as jnp

from lvdecode.training import flat
from lvdecode.training import metrics as metrics_lib

_PREFIX = 'running_'


def is_statistic(path: str) -> bool:
  """Whether the leaf at a '/'-joined path is a running statistic."""
  return path.rpartition('/')[2].startswith(_PREFIX)


def follow(
  params: Any, metrics: dict[str, metrics_lib.Mean]
) -> tuple[Any, dict[str, metrics_lib.Mean]]:
  """Statistics take the value of their metric, which is then taken out.

  A statistic of a batch without real examples stays as it was.
  """
  rest = dict(metrics)

  def value(path, old):
    if path not in metrics or not is_statistic(path):
      return old
    mean = rest.pop(path)
    new = mean.total / jnp.maximum(mean.weight, 1.0)
    return jnp.where(mean.weight > 0, new, old)

  leaves, treedef = jax.tree.flatten(params)
  leaves = [
    value(*item) for item in zip(flat.names(params), leaves, strict=True)
  ]
  return jax.tree.unflatten(treedef, leaves), rest
