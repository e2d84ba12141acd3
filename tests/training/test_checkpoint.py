"""What is kept, what comes back, and what is refused."""

import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy_task

from lvdecode import errors
from lvdecode.training import checkpoint
from lvdecode.training import step as step_lib

TX = optax.adam(0.1)


def make_state(step=0, ema=0.9):
  state = step_lib.init_state(toy_task.Toy(), TX, 3, ema)
  return state._replace(step=jnp.int32(step))


def open_checkpoints(path, keep=2, keep_period=0, best_metric=''):
  return checkpoint.Checkpoints(
    path, keep=keep, keep_period=keep_period, best_metric=best_metric
  )


def saved(path, steps=(5,), ema=0.9):
  with open_checkpoints(path, keep=9) as checkpoints:
    for step in steps:
      checkpoints.save(make_state(step, ema), {'data': {'index': step}}, {})


def equal(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
      x, y = jax.random.key_data(x), jax.random.key_data(y)
    assert x.dtype == y.dtype
    np.testing.assert_array_equal(x, y)


def test_what_the_loss_remembers_comes_back(tmp_path):
  carry = {'multiplier': jnp.float32(1 / 3), 'sum': jnp.arange(3.0)}
  state = make_state(5)._replace(carry=carry)
  with open_checkpoints(tmp_path) as checkpoints:
    checkpoints.save(state, {}, {})
    checkpoints.wait()
    restored, _ = checkpoints.restore(jax.eval_shape(lambda: state))
    equal(restored, state)
    with pytest.raises(errors.UserError, match="'carry/.*not in the model"):
      checkpoints.restore(make_state())


@pytest.mark.parametrize('ema', [0.0, 0.9])
def test_everything_comes_back_exactly(tmp_path, ema):
  saved(tmp_path, (5,), ema)
  with open_checkpoints(tmp_path) as checkpoints:
    for like in (
      make_state(0, ema),
      jax.eval_shape(lambda: make_state(0, ema)),
    ):
      state, loop = checkpoints.restore(like)
      equal(state, make_state(5, ema))
      assert loop == {'data': {'index': 5}}


def test_a_given_step_comes_back(tmp_path):
  saved(tmp_path, (5, 6, 7))
  with open_checkpoints(tmp_path) as checkpoints:
    assert checkpoints.steps() == [5, 6, 7]
    state, loop = checkpoints.restore(make_state(), 6)
  assert state.step == 6 and loop['data']['index'] == 6


def test_saving_does_not_see_later_changes(tmp_path):
  state = make_state(1)
  change = jax.jit(
    lambda s: s._replace(params=jax.tree.map(lambda x: x + 1, s.params)),
    donate_argnums=0,
  )
  with open_checkpoints(tmp_path) as checkpoints:
    checkpoints.save(state, {}, {})
    for _ in range(3):
      state = change(state)
    jax.block_until_ready(state)
    checkpoints.wait()
    restored, _ = checkpoints.restore(make_state())
  equal(restored.params, make_state().params)


@pytest.mark.slow
@pytest.mark.parametrize(
  'options, kept',
  [
    ({'keep': 2}, [8, 9]),
    ({'keep': 1, 'keep_period': 4}, [4, 8, 9]),
    ({'keep': 1, 'best_metric': 'nll'}, [3, 9]),
    ({'keep': 1, 'keep_period': 5, 'best_metric': 'nll'}, [3, 5, 9]),
  ],
)
def test_latest_best_and_periodic_are_kept(tmp_path, options, kept):
  with open_checkpoints(tmp_path, **options) as checkpoints:
    for step in range(1, 10):
      # Step 1 would be the best, were it a number; step 5 was not evaluated.
      nll = float('nan') if step == 1 else abs(step - 3.0)
      figures = {} if step == 5 else {'nll': nll, 'other': 0.0}
      checkpoints.save(make_state(step), {}, figures)
  assert checkpoint.steps(tmp_path) == kept


def test_what_a_kill_left_half_deleted_goes(tmp_path):
  """Its figures were the first to go: it is neither the best nor kept."""
  options = {'keep': 1, 'best_metric': 'nll'}
  with open_checkpoints(tmp_path, **options) as checkpoints:
    for step in (1, 2):
      checkpoints.save(make_state(step), {}, {'nll': float(step)})
  assert checkpoint.steps(tmp_path) == [1, 2]
  shutil.rmtree(tmp_path / 'checkpoints' / '1' / 'metrics')
  with open_checkpoints(tmp_path, **options) as checkpoints:
    for step in (3, 4):
      checkpoints.save(make_state(step), {}, {'nll': float(step)})
  assert checkpoint.steps(tmp_path) == [2, 4]


def test_the_best_survives_a_restart(tmp_path):
  for steps in (range(1, 4), range(4, 7)):
    with open_checkpoints(tmp_path, keep=1, best_metric='nll') as checkpoints:
      for step in steps:
        checkpoints.save(make_state(step), {}, {'nll': abs(step - 2.0)})
  assert checkpoint.steps(tmp_path) == [2, 6]
  assert checkpoint.best_step(tmp_path) == 2


@pytest.mark.parametrize('item', ['params', 'ema'])
def test_a_reader_needs_no_optimiser(tmp_path, item):
  saved(tmp_path, (5, 6))
  # Nothing but the item asked for is read.
  shutil.rmtree(tmp_path / 'checkpoints' / '6' / 'optimizer')
  shapes = jax.eval_shape(toy_task.Toy().init, jax.random.key(0))
  params = checkpoint.restore_params(tmp_path, None, shapes, item)
  equal(params, make_state().params)


def test_what_is_missing_is_named(tmp_path):
  shapes = make_state().params
  with pytest.raises(errors.UserError, match='no checkpoint'):
    checkpoint.restore_params(tmp_path / 'nowhere', None, shapes)
  assert not (tmp_path / 'nowhere').exists()
  assert checkpoint.best_step(tmp_path / 'nowhere') is None
  saved(tmp_path, (5, 7), ema=0.0)
  assert checkpoint.best_step(tmp_path) is None
  with pytest.raises(errors.UserError, match='of step 6; there are 5, 7'):
    checkpoint.restore_params(tmp_path, 6, shapes)
  with pytest.raises(errors.UserError, match='has no ema'):
    checkpoint.restore_params(tmp_path, 5, shapes, 'ema')
  with open_checkpoints(tmp_path) as checkpoints:
    with pytest.raises(errors.UserError, match='of step 6; there are 5, 7'):
      checkpoints.restore(make_state(), 6)


def change_shape(params):
  params['decoder']['bias'] = jnp.zeros((4,))


def change_type(params):
  params['decoder']['bias'] = jnp.zeros((3,), jnp.bfloat16)


def add(params):
  params['decoder']['extra'] = jnp.zeros((3,))


def remove(params):
  del params['decoder']['bias']


@pytest.mark.parametrize(
  'change, message',
  [
    (change_shape, r"'decoder/bias' is float32\[3\], the model wants .*\[4\]"),
    (change_type, r"'decoder/bias' is float32\[3\], the model wants bfloat16"),
    (add, "'decoder/extra' is only in the model"),
    (remove, "'decoder/bias' is not in the model"),
  ],
)
def test_another_model_is_refused(tmp_path, change, message):
  saved(tmp_path)
  params = toy_task.Toy().init(jax.random.key(0))
  change(params)
  with pytest.raises(errors.UserError, match=message):
    checkpoint.restore_params(tmp_path, 5, params)
  with open_checkpoints(tmp_path) as checkpoints:
    with pytest.raises(errors.UserError, match=message):
      checkpoints.restore(make_state()._replace(params=params))


def remove_arrays(folder):
  shutil.rmtree(folder / 'params')


def remove_loop(folder):
  shutil.rmtree(folder / 'loop')


def empty(folder):
  shutil.rmtree(folder)
  folder.mkdir()


def cut_files(folder):
  for path in (folder / 'params').rglob('*'):
    if path.is_file():
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
  'damage', [remove_arrays, remove_loop, empty, cut_files]
)
def test_damage_is_one_line(tmp_path, damage):
  saved(tmp_path)
  damage(tmp_path / 'checkpoints' / '5')
  with pytest.raises(errors.UserError) as error:
    with open_checkpoints(tmp_path) as checkpoints:
      checkpoints.restore(make_state())
  assert 'checkpoints/5' in str(error.value)
  assert '\n' not in str(error.value)


def test_a_changed_number_is_noticed(tmp_path, monkeypatch):
  saved(tmp_path)
  read = np.array([1.0, 2.0, 3.0], np.float32)
  original = checkpoint.ocp.CheckpointManager.restore

  def restore(*args, **options):
    found = original(*args, **options)
    found['params']['decoder/bias'] = read
    return found

  monkeypatch.setattr(checkpoint.ocp.CheckpointManager, 'restore', restore)
  with open_checkpoints(tmp_path) as checkpoints:
    with pytest.raises(errors.UserError, match='checksum of params/decoder/b'):
      checkpoints.restore(make_state())


def test_a_failed_save_is_one_line(tmp_path):
  state = make_state(1)
  noise = jax.random.normal(jax.random.key(0), (600_000,))
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  try:
    # Files above 1 MB cannot be written: as good as a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    with pytest.raises(errors.UserError, match='File too large') as error:
      with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state._replace(params={'a': noise}), {}, {})
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert 'could not be written' in str(error.value)
  assert '\n' not in str(error.value)


def test_unfinished_checkpoints_of_a_killed_run_are_cleaned_up(tmp_path):
  saved(tmp_path)
  rest = tmp_path / 'checkpoints' / '7.orbax-checkpoint-tmp'
  rest.mkdir()
  with open_checkpoints(tmp_path) as checkpoints:
    assert checkpoints.steps() == [5]
    checkpoints.save(make_state(6), {}, {})
  assert not rest.exists()
  assert checkpoint.steps(tmp_path) == [5, 6]
