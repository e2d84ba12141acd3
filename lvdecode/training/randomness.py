"""Named random streams that do not depend on which device draws them."""

from typing import NamedTuple
import zlib

import jax
from jaxtyping import Array, Int, Key


class Streams(NamedTuple):
  """Every random number of one step, by purpose.

  A stream is fold_in(fold_in(root, step), crc32(name)): adding a stream
  leaves the others as they were, and a resumed run draws the same numbers.

  Attributes:
    root: the run's key; never advanced, the step is folded in instead.
    step: the step being taken.
    place: of each example here, its place in the global batch.
  """

  root: Key[Array, '']
  step: Int[Array, ''] | int
  place: Int[Array, ' B']

  def key(self, name: str) -> Key[Array, '']:
    """One key, the same on every device."""
    step_key = jax.random.fold_in(self.root, self.step)
    return jax.random.fold_in(step_key, zlib.crc32(name.encode()))

  def per_example(self, name: str) -> Key[Array, ' B']:
    """One key per example, whatever device or micro-batch it lies in."""
    return jax.vmap(jax.random.fold_in, (None, 0))(self.key(name), self.place)

  def device(self, name: str, axis_name: str | None) -> Key[Array, '']:
    """One key per device and micro-batch, for masks over a whole batch.

    The first place tells micro-batches apart; the device's index, devices
    that hold the same examples.
    """
    key = jax.random.fold_in(self.key(name), self.place[0])
    if axis_name is None:
      return key
    return jax.random.fold_in(key, jax.lax.axis_index(axis_name))
