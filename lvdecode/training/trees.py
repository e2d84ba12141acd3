"""Trees of parameters cut in two by a tree of bools, and put together."""

from typing import Any

import jax
import jax.numpy as jnp


def select(chosen: Any, tree: Any) -> Any:
  """The chosen part; None, a tree without leaves, elsewhere."""
  return jax.tree.map(lambda c, x: x if c else None, chosen, tree)


def overlay(chosen: Any, new: Any, old: Any) -> Any:
  """`old` with the chosen part taken from `new`."""
  return jax.tree.map(lambda c, n, o: n if c else o, chosen, new, old)


def overlay_moments(chosen: Any, new: Any, old: Any) -> Any:
  """The optimiser state `new` with moments of what is not chosen from `old`.

  Moments are the subtrees shaped like `chosen`, whatever the optimiser;
  counts and the like are those of `new`.
  """
  shape = jax.tree.structure(chosen)

  def is_moments(tree):
    return jax.tree.structure(tree) == shape

  return jax.tree.map(
    lambda n, o: overlay(chosen, n, o) if is_moments(n) else n,
    new,
    old,
    is_leaf=is_moments,
  )


def where(condition: jax.Array, new: Any, old: Any) -> Any:
  """Every leaf of one tree or of the other."""
  return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)
