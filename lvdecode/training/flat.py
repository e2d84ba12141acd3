"""Trees of arrays as flat dictionaries, by the '/'-joined path of a leaf."""

from collections.abc import Mapping, Sequence
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


def on_host(tree: Any) -> dict[str, np.ndarray | jax.Array]:
  """The arrays in the host's memory; later donations do not touch them.

  An array that lies on other hosts, too, stays where it is.
  """
  leaves = jax.tree.leaves(tree)
  for leaf in leaves:
    leaf.copy_to_host_async()
  arrays = (x if _elsewhere(x) else np.asarray(x) for x in leaves)
  return dict(zip(names(tree), arrays, strict=True))


def _elsewhere(x: Any) -> bool:
  return isinstance(x, jax.Array) and not x.is_fully_addressable


def checksums(flat: Mapping[str, np.ndarray | jax.Array]) -> dict[str, Any]:
  """CRC-32 of every array's bytes, plain JSON.

  Of an array that lies on several hosts, those of the parts that this process
  answers for: [[[[start, stop] of each dimension], CRC-32], ...].
  """
  return {
    name: _parts(array)
    if isinstance(array, jax.Array)
    else _crc(np.asarray(array))
    for name, array in flat.items()
  }


def _parts(array: jax.Array) -> list[Any]:
  return [
    [
      [
        list(s.indices(n)[:2])
        for s, n in zip(x.index, array.shape, strict=True)
      ],
      _crc(np.asarray(x.data)),
    ]
    for x in array.addressable_shards
    if x.replica_id == 0
  ]


def merged(checksums: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """What the processes found, each of its parts, in one."""
  found = dict(checksums[0])
  for other in checksums[1:]:
    for name, parts in other.items():
      if isinstance(parts, list):  # whole arrays are those of all
        found[name] = found[name] + parts
  return found


def intact(array: np.ndarray, checksum: Any) -> bool:
  """Whether an array, or each of its parts, has the CRC-32 it should have."""
  if not isinstance(checksum, list):
    return _crc(array) == checksum
  parts = [(tuple(slice(*s) for s in index), crc) for index, crc in checksum]
  covered = sum(array[index].size for index, _ in parts) == array.size
  return covered and all(_crc(array[index]) == crc for index, crc in parts)


def _crc(array: np.ndarray) -> int:
  # As bytes, because bfloat16 has no buffer of its own.
  return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


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
