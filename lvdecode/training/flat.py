"""Trees of arrays as flat dictionaries, by the '/'-joined path of a leaf."""

from collections.abc import Mapping
from typing import Any
import zlib

import jax
import numpy as np

from lvdecode import errors


def names(tree: Any) -> list[str]:
  """The path of every leaf, in the order of `jax.tree.leaves`."""
  return [
    jax.tree_util.keystr(path, simple=True, separator='/')
    for path, _ in jax.tree_util.tree_leaves_with_path(tree)
  ]


def on_host(tree: Any) -> dict[str, np.ndarray]:
  """The arrays in the host's memory; later donations do not touch them."""
  leaves = jax.tree.leaves(tree)
  for leaf in leaves:
    leaf.copy_to_host_async()
  arrays = (np.asarray(leaf) for leaf in leaves)
  return dict(zip(names(tree), arrays, strict=True))


def checksums(flat: Mapping[str, np.ndarray]) -> dict[str, int]:
  """CRC-32 of every array's bytes."""
  return {
    # As bytes, because bfloat16 has no buffer of its own.
    name: zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    for name, array in flat.items()
  }


def unflatten(flat: Mapping[str, np.ndarray], like: Any, where: str) -> Any:
  """`flat` as a tree like `like`, of arrays or of shapes.

  Raises:
    UserError: they differ in a name, a shape or a type; `where` says of what.
  """
  leaves, treedef = jax.tree.flatten(like)
  wanted = names(like)
  for name in sorted(set(wanted) ^ flat.keys()):
    side = 'only in the model' if name in wanted else 'not in the model'
    raise errors.UserError(f'{where} {name!r} is {side}')
  for name, leaf in zip(wanted, leaves, strict=True):
    there = (flat[name].shape, str(flat[name].dtype))
    here = (tuple(leaf.shape), str(leaf.dtype))
    if there != here:
      raise errors.UserError(
        f'{where} {name!r} is {there[1]}{list(there[0])}, '
        f'the model wants {here[1]}{list(here[0])}'
      )
  return jax.tree.unflatten(treedef, [flat[name] for name in wanted])
