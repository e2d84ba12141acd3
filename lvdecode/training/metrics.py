"""Means as pairs (total, weight): added in any order, divided once."""

from collections.abc import Mapping, Sequence
import math
from typing import NamedTuple

import jax
from jaxtyping import Array, Float


class Mean(NamedTuple):
  """A sum and the number of things summed (examples, tokens, steps)."""

  total: Float[Array, ''] | float
  weight: Float[Array, ''] | float

  def merge(self, other: 'Mean') -> 'Mean':
    return Mean(self.total + other.total, self.weight + other.weight)

  def value(self) -> Float[Array, ''] | float:
    """total / weight; NaN where nothing was counted."""
    if not isinstance(self.weight, jax.Array) and self.weight == 0:
      return math.nan
    return self.total / self.weight


def merge(left: Mapping[str, Mean], right: Mapping[str, Mean]):
  """The two dictionaries added; a name missing on one side counts zero."""
  merged = dict(left)
  for name, mean in right.items():
    merged[name] = merged[name].merge(mean) if name in merged else mean
  return merged


def on_host_all(
  parts: Sequence[Mapping[str, Mean]],
) -> list[dict[str, Mean]]:
  """Python floats in place of device scalars; waits for the device once."""
  return [
    {
      name: Mean(float(mean.total), float(mean.weight))
      for name, mean in part.items()
    }
    for part in jax.device_get([dict(part) for part in parts])
  ]


def values(means: Mapping[str, Mean]) -> dict[str, float]:
  """Every mean divided, as Python floats; waits for the device."""
  return {name: float(mean.value()) for name, mean in means.items()}
