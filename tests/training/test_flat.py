"""Checksums of arrays, also of those that lie in parts."""

import json
import zlib

import jax
import numpy as np
import pytest

from lvdecode.training import flat
from lvdecode.training import parallel
from lvdecode.training import sharding


@pytest.mark.parametrize(
  'spec, parts',
  [(('data', None), 4), ((None, 'model'), 2), (('model', 'data'), 8), ((), 1)],
)
def test_parts_have_checksums_that_the_whole_array_meets(spec, parts):
  array = np.arange(64, dtype=np.float32).reshape(16, 4)
  mesh = parallel.make('fsdp', 2).mesh
  where = jax.sharding.NamedSharding(mesh, sharding.Spec(*spec))
  found = flat.checksums({'a': jax.device_put(array, where), 'b': array})
  assert len(found['a']) == parts
  # As if two processes had half of the parts each.
  halves = [
    {'a': found['a'][: parts // 2], 'b': found['b']},
    {'a': found['a'][parts // 2 :], 'b': found['b']},
  ]
  whole = json.loads(json.dumps(flat.merged(halves)))
  assert flat.intact(array, whole['a']) and flat.intact(array, whole['b'])
  for index in np.ndindex(array.shape):
    broken = array.copy()
    broken[index] += 1
    assert not flat.intact(broken, whole['a'])
    assert not flat.intact(broken, whole['b'])


def test_no_part_of_an_array_goes_unchecked():
  """A process whose checksums were lost is a difference."""
  assert not flat.intact(np.zeros(4, np.float32), [])
  half = [[[[0, 2]], zlib.crc32(bytes(8))]]
  assert not flat.intact(np.zeros(4, np.float32), half)
