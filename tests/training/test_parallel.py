"""Placing, gathering and dividing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_task

from lvdecode import errors
from lvdecode.training import optimizer as optimizer_lib
from lvdecode.training import parallel
from lvdecode.training import step as step_lib

KINDS = [('pmap',), ('jit',), ('mesh',), ('fsdp', 2, toy_task.RULES)]


def initial():
  toy = toy_task.Toy()
  tx = optimizer_lib.make(
    toy_task.optimizer_settings(), 10, toy.init(jax.random.key(0))
  ).tx
  return step_lib.init_state(toy, tx, 0, 0.9)


def host(tree):
  return [
    np.asarray(jax.random.key_data(x) if x.dtype.name == 'key<fry>' else x)
    for x in jax.tree.leaves(tree)
  ]


@pytest.mark.slow
@pytest.mark.parametrize('how', KINDS, ids=lambda how: how[0])
def test_a_state_is_the_same_wherever_it_lies(how):
  devices = parallel.make(*how)
  assert devices.count == {'jit': 1, 'fsdp': 4}.get(how[0], 8)
  state = initial()
  placed = devices.place(state)
  used = placed.params['encoder']['kernel'].sharding.device_set
  assert len(used) == (1 if how[0] == 'jit' else 8)
  for a, b, c in zip(
    *map(host, (state, placed, devices.create(initial))), strict=True
  ):
    np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(a, c, rtol=1e-6)
  back = devices.whole(placed.params)
  for x, y in zip(
    jax.tree.leaves(back), jax.tree.leaves(state.params), strict=True
  ):
    assert len(x.sharding.device_set) == 1
    np.testing.assert_array_equal(x, y)


def test_every_number_of_a_split_state_lies_on_the_devices_of_its_part():
  devices = parallel.make('fsdp', 2, toy_task.RULES)
  placed = devices.place(initial())
  kernels = [
    x
    for x in jax.tree.leaves((placed.params, placed.ema, placed.opt_state))
    if x.shape == (toy_task.IN, toy_task.HIDDEN)
  ]
  assert len(kernels) == 4  # the parameter, its average and two moments
  for x in kernels:
    parts = {str(shard.index) for shard in x.addressable_shards}
    sizes = {shard.data.size for shard in x.addressable_shards}
    assert len(parts) == 4 and sizes == {x.size // 4}
  bias = placed.params['decoder']['bias']
  assert bias.sharding.is_fully_replicated


@pytest.mark.parametrize('how', KINDS, ids=lambda how: how[0])
def test_devices_hold_their_own_rows(how):
  devices = parallel.make(*how)
  whole = toy_task.make_batch(0)
  batch = devices.shard(whole)
  seen = np.zeros(toy_task.BATCH, int)
  for shard in batch.x.addressable_shards:
    np.testing.assert_array_equal(shard.data, whole.x[shard.index])
    if shard.replica_id == 0:
      seen[shard.index[0]] += 1
  np.testing.assert_array_equal(seen, 1)


@pytest.mark.parametrize('how', KINDS, ids=lambda how: how[0])
def test_the_old_state_is_given_away(how):
  devices = parallel.make(*how)
  state = devices.place(initial())

  def step(state, batch):
    # Of no array that would tell the compiler where they are to lie.
    params = jax.tree.map(
      lambda x: jnp.ones(x.shape) + jnp.sum(x), state.params
    )
    step = state.step + len(batch['x'])
    return state._replace(step=step, params=params), {}

  compiled = devices.compile(step)
  old = jax.tree.leaves(state)
  new, _ = compiled(state, devices.shard({'x': np.zeros((8, 2), np.float32)}))
  jax.block_until_ready(new.params)
  assert all(x.is_deleted() for x in old)
  for before, after in zip(old, jax.tree.leaves(new), strict=True):
    assert before.sharding.is_equivalent_to(after.sharding, before.ndim)


def test_ragged_division_is_refused():
  divide = functools.partial(parallel.micro_batches, 32, 8)
  assert divide(4, 0) == 4
  with pytest.raises(errors.UserError, match='multiple of 24'):
    divide(3, 0)


@pytest.mark.parametrize(
  'devices, most, expected', [(8, 4, 1), (4, 4, 2), (1, 4, 8), (1, 5, 8)]
)
def test_fewer_devices_take_more_micro_batches(devices, most, expected):
  assert parallel.micro_batches(32, devices, 1, most) == expected


@pytest.mark.parametrize(
  'rule, named',
  [
    ((('nothing', ('data',)),), "pattern 'nothing' matches no parameter"),
    ((('.*kernel', ('data',)),), 'has 1 axes, and .* shape'),
    ((('encoder/kernel', ('data', '')),), 'cannot be split over 8 devices'),
  ],
)
def test_rules_that_do_not_fit_are_refused(rule, named):
  devices = parallel.make('fsdp', 1, rule)
  with pytest.raises(errors.UserError, match=named):
    devices.shardings(jax.eval_shape(initial))


def test_devices_that_cannot_be_are_refused():
  with pytest.raises(errors.UserError, match='training.parallel'):
    parallel.make('telepathy')
  with pytest.raises(errors.UserError, match='model_axis 3 does not divide'):
    parallel.make('fsdp', 3)


def test_layers_are_split_by_their_names_and_shapes():
  """Heads, hidden units and rows over `model`; the longest else over `data`."""
  shapes = {
    'h_0': {
      'attn': {
        'c_attn': {'kernel': (64, 192), 'bias': (192,)},
        'c_proj': {'kernel': (64, 64), 'bias': (64,)},
      },
      'mlp': {'c_fc': {'kernel': (64, 256)}, 'c_proj': {'kernel': (256, 64)}},
    },
    'wte': {'embedding': (1000, 64)},
    'odd': {'wte': {'embedding': (1001, 65)}},
    'wpe': {'embedding': (512, 64)},
  }
  params = jax.tree.map(
    lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
    shapes,
    is_leaf=lambda x: isinstance(x, tuple),
  )
  nothing = jax.ShapeDtypeStruct((), jnp.int32)
  state = step_lib.TrainState(nothing, params, (), nothing, None, None)
  found = parallel.make('fsdp', 2).shardings(state).params
  specs = {
    jax.tree_util.keystr(path, simple=True, separator='/'): tuple(leaf.spec)
    for path, leaf in jax.tree_util.tree_leaves_with_path(found)
  }
  assert specs == {
    'h_0/attn/c_attn/kernel': ('data', 'model'),
    'h_0/attn/c_attn/bias': ('model',),
    'h_0/attn/c_proj/kernel': ('model', 'data'),
    'h_0/attn/c_proj/bias': (None,),
    'h_0/mlp/c_fc/kernel': ('data', 'model'),
    'h_0/mlp/c_proj/kernel': ('model', 'data'),
    'wte/embedding': ('model', 'data'),
    'odd/wte/embedding': (None, None),
    'wpe/embedding': ('data', None),
  }
