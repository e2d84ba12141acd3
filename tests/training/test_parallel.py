"""Placing, gathering and dividing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_task

from lvdecode import errors
from lvdecode.training import parallel


@pytest.mark.parametrize('kind, count', [('pmap', 8), ('jit', 1)])
def test_place_and_gather(kind, count):
  devices = parallel.make(kind)
  assert devices.count == count
  tree = {'a': np.arange(6.0, dtype=np.float32), 'key': jax.random.key(3)}
  placed = devices.place(tree)
  assert len(placed['a'].sharding.device_set) == count
  back = devices.gather(placed)
  assert len(back['a'].sharding.device_set) == 1
  np.testing.assert_array_equal(back['a'], tree['a'])
  np.testing.assert_array_equal(
    jax.random.key_data(back['key']), jax.random.key_data(tree['key'])
  )


def test_device_d_holds_its_own_rows():
  devices = parallel.make('pmap')
  batch = devices.shard(toy_task.make_batch(0))
  whole = toy_task.make_batch(0)
  for d in range(8):
    np.testing.assert_array_equal(batch.x[d], whole.x[4 * d : 4 * d + 4])


@pytest.mark.parametrize('kind', ['pmap', 'jit'])
def test_the_old_state_is_given_away(kind):
  devices = parallel.make(kind)
  state = devices.place({'a': jnp.zeros((4,))})
  compiled = devices.compile(lambda s, b: ({'a': s['a'] + 1}, {}))
  new, _ = compiled(state, devices.shard({'x': np.zeros((8, 2), np.float32)}))
  jax.block_until_ready(new)
  assert state['a'].is_deleted()
  np.testing.assert_array_equal(new['a'], 1.0)


def test_ragged_division_is_refused():
  parallel.check_batch(32, 8, 4)
  with pytest.raises(errors.UserError, match='multiple of 24'):
    parallel.check_batch(32, 8, 3)


def test_unknown_kind_is_refused():
  with pytest.raises(errors.UserError, match='training.parallel'):
    parallel.make('telepathy')
