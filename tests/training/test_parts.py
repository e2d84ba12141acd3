"""The encoder alone, and a decoder that begins anew."""

import functools

import jax
import numpy as np
import optax
import pytest
import toy_task

from lvdecode import errors
from lvdecode.training import checkpoint
from lvdecode.training import optimizer as optimizer_lib
from lvdecode.training import parallel
from lvdecode.training import parts
from lvdecode.training import step as step_lib
from lvdecode.training import trees

TOY = toy_task.Toy()


def made(**changes):
  shapes = jax.eval_shape(TOY.init, jax.random.key(0))
  return optimizer_lib.make(
    toy_task.optimizer_settings(**changes), 10, shapes, parts_wait=True
  )


def host(state):
  return jax.tree.map(np.array, state._replace(rng=None))


def take(kind, steps, moving=None, optimizer=None):
  """The states after each of the steps; `moving` names a part."""
  optimizer = optimizer or made()
  devices = parallel.make(kind)
  tree = moving and parts.of(TOY.part, optimizer.trainable, moving)
  step = functools.partial(
    step_lib.train_step,
    loss_fn=TOY.loss,
    next_carry=TOY.next_carry,
    tx=optimizer.tx,
    trainable=optimizer.trainable,
    moving=tree,
    axis_name=devices.axis_name,
    ema=0.5,
  )
  step = devices.compile(step)
  state = step_lib.init_state(TOY, optimizer.tx, 0, 0.5)
  # Moments that would decay.
  moments = jax.tree.map(lambda x: x + 1, state.opt_state)
  state = state._replace(opt_state=moments)
  states = [host(state)]
  state, data = devices.place(state), toy_task.Data()
  for _ in range(steps):
    state, _ = step(state, devices.shard(next(data)))
    jax.block_until_ready(state.params)
    states.append(host(state))
  return states


def moments(state):
  """Adam's two trees of moments, and their ages."""
  adam = [x for x in state.opt_state if hasattr(x, 'mu')]
  return adam[0].mu, adam[0].nu, adam[0].age


def equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def near(a, b):
  close = functools.partial(np.testing.assert_allclose, atol=1e-6)
  jax.tree.map(close, a, b)


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['jit', 'pmap'])
def test_steps_of_the_encoder_leave_decoder_and_its_moments(kind):
  start, *_, end = take(kind, 3, moving='encoder')
  for before, after in (
    (start.params, end.params),
    *zip(moments(start), moments(end), strict=True),
    (start.ema, end.ema),
  ):
    equal(before['decoder'], after['decoder'])
    assert (before['encoder']['kernel'] != after['encoder']['kernel']).all()


@pytest.mark.slow
def test_steps_of_the_encoder_follow_its_gradient_as_any_step_does():
  free = made(clip_norm=0.0)
  whole, alone = (
    take('jit', 1, moving=moving, optimizer=free)[1].params
    for moving in (None, 'encoder')
  )
  near(whole['encoder'], alone['encoder'])
  assert (whole['decoder']['kernel'] != alone['decoder']['kernel']).all()


def test_only_the_decoder_begins_anew():
  optimizer = made()
  before = step_lib.init_state(TOY, optimizer.tx, 0, 0.5)
  before = before._replace(
    step=np.int32(7),
    params=jax.tree.map(lambda x: x + 1, before.params),
    opt_state=jax.tree.map(lambda x: x + 1, before.opt_state),
  )
  after = parts.reset(before, TOY, optimizer)
  for name in ('params', 'ema'):
    old, new = getattr(before, name), getattr(after, name)
    equal(old['encoder'], new['encoder'])
    equal(new['decoder'], after.params['decoder'])
    np.testing.assert_array_equal(new['decoder']['bias'], 0)
    # Drawn as at the start of a run, though not the same numbers.
    assert (old['decoder']['kernel'] != new['decoder']['kernel']).all()
    assert 0.5 < new['decoder']['kernel'].std() < 2
  for old, new in zip(moments(before), moments(after), strict=True):
    equal(old['encoder'], new['encoder'])
    for leaf in jax.tree.leaves(new['decoder']):
      np.testing.assert_array_equal(leaf, 0)
  later = parts.reset(before._replace(step=np.int32(8)), TOY, optimizer)
  kernels = (x.params['decoder']['kernel'] for x in (after, later))
  assert np.not_equal(*kernels).all()


def test_a_decoder_that_begins_anew_takes_the_steps_of_a_new_one():
  """Not those of moments at 0 that count as old: 1.6 times as long here."""
  optimizer = made(clip_norm=0.0)
  state = step_lib.init_state(TOY, optimizer.tx, 0, 0.0)
  rng = np.random.default_rng(0)

  def update(opt_state, gradient):
    return optimizer.tx.update(gradient, opt_state, state.params, step=8)

  for _ in range(50):
    gradient = jax.tree.map(lambda x: rng.normal(size=x.shape), state.params)
    state = state._replace(opt_state=update(state.opt_state, gradient)[1])
  after = parts.reset(state, TOY, optimizer)
  new = optimizer.tx.init(state.params)
  found, first = (update(x, gradient)[0] for x in (after.opt_state, new))
  later = update(state.opt_state, gradient)[0]
  near(found['decoder'], first['decoder'])
  near(found['encoder'], later['encoder'])


def test_moments_are_found_in_any_optimiser():
  params = TOY.init(jax.random.key(0))
  chosen = jax.tree.map(lambda _: False, params)
  chosen['decoder']['bias'] = True
  for tx in (optax.adam(0.1), optax.sgd(0.1, momentum=0.9), optax.lion(0.1)):
    old = tx.init(params)
    new = jax.tree.map(lambda x: x + 1, old)
    found = trees.overlay_moments(chosen, new, old)
    total = sum(float(np.sum(leaf)) for leaf in jax.tree.leaves(found))
    counts = sum(leaf.ndim == 0 for leaf in jax.tree.leaves(found))
    trees_of_moments = (len(jax.tree.leaves(found)) - counts) // 3
    assert total == counts + trees_of_moments * toy_task.OUT


def test_a_part_that_is_frozen_is_refused():
  optimizer = made(multipliers=(('encoder/.*', 0.0), ('.*', 1.0)))
  with pytest.raises(errors.UserError, match='freezes all that is the encoder'):
    parts.of(TOY.part, optimizer.trainable, 'encoder')
  shared = parts.of(
    lambda path: 'both' if path == 'decoder/bias' else TOY.part(path),
    optimizer.trainable,
    'decoder',
  )
  assert shared == {
    'encoder': {'kernel': False},
    'decoder': {'kernel': True, 'bias': False},
  }


@pytest.mark.parametrize(
  ('frozen', 'change'),
  [('encoder', {'encoder_updates': 3}), ('decoder', {'reset_at': 5})],
)
def test_a_run_whose_part_is_frozen_does_not_begin(tmp_path, frozen, change):
  """And its folder is free for the corrected command."""
  with pytest.raises(errors.UserError, match=f'all that is the {frozen}'):
    multipliers = ((f'{frozen}/.*', 0.0), ('.*', 1.0))
    optimizer = toy_task.optimizer_settings(multipliers=multipliers)
    toy_task.run(tmp_path, optimizer=optimizer, **change)
  assert not (tmp_path / 'checkpoints').exists()


def test_aggressive_until_the_information_stops_rising():
  aggressive = parts.Aggressive(3)
  alone = [aggressive.encoder_alone(step) for step in range(7)]
  assert alone == [True, True, False, True, True, False, True]
  for information, on in ((1.0, True), (1.5, True), (1.5, False), (9.0, False)):
    aggressive.note({'mutual_information': information})
    assert aggressive.on == on
  assert not aggressive.encoder_alone(0)
  never = parts.Aggressive(1)
  never.note({})
  assert not never.on
  lost = parts.Aggressive(2)
  lost.note({'mutual_information': 1.0})
  lost.note({'mutual_information': float('nan')})
  assert not lost.on


class Informed:
  """An evaluation whose information falls at its third call."""

  def __init__(self):
    self.calls = 0

  def __call__(self, params):
    del params
    self.calls += 1
    return {'error': 1.0, 'mutual_information': -abs(self.calls - 2.0)}


def trained(workdir, data=None, evaluate=None, every=3, keep=2):
  """An aggressive run that is evaluated at steps 3, 6, 9 and 12."""
  return toy_task.run(
    workdir,
    data,
    evaluate=evaluate or Informed(),
    checkpoint_every=every,
    keep=keep,
    evaluate_every=3,
    encoder_updates=2,
    steps=12,
  )


@pytest.mark.slow
def test_runs_of_which_a_part_waits_have_ages(tmp_path):
  runs = {
    'anew': toy_task.run(tmp_path / 'anew', reset_at=4),
    'aggressive': trained(tmp_path / 'aggressive'),
    'plain': toy_task.run(tmp_path / 'plain'),
  }
  aged = {
    name: any(hasattr(part, 'age') for part in state.opt_state)
    for name, state in runs.items()
  }
  assert aged == {'anew': True, 'aggressive': True, 'plain': False}


def kernels(workdir):
  """Of the decoder at every step that has a checkpoint."""
  shapes = jax.eval_shape(TOY.init, jax.random.key(0))
  return {
    step: checkpoint.restore_params(workdir, step, shapes)['decoder']['kernel']
    for step in checkpoint.steps(workdir)
  }


@pytest.mark.slow
def test_a_run_is_aggressive_until_an_evaluation_ends_it(tmp_path):
  trained(tmp_path, every=1, keep=20)
  found = kernels(tmp_path)
  moved = [
    step for step in range(2, 13) if (found[step] != found[step - 1]).any()
  ]
  # The evaluation at step 9 is the first whose information is not higher.
  assert moved == [2, 4, 6, 8, 10, 11, 12]


@pytest.mark.slow
@pytest.mark.parametrize(
  'kind',
  [
    'jit',
    pytest.param('pmap', marks=pytest.mark.slow),
    pytest.param('fsdp', marks=pytest.mark.slow),
  ],
)
def test_a_run_killed_on_either_side_of_a_reset_ends_the_same(tmp_path, kind):
  run = functools.partial(
    toy_task.run, parallel=kind, **toy_task.SPLIT.get(kind, {})
  )
  whole = host(run(tmp_path / 'whole', reset_at=4))
  # The checkpoints there are, of steps 4 and 6, are from before and after.
  for at in (5, 7):
    with pytest.raises(toy_task.Killed):
      run(tmp_path / 'killed', toy_task.Dying(at), reset_at=4)
  equal(host(run(tmp_path / 'killed', reset_at=4)), whole)


@pytest.mark.slow
def test_the_decoder_begins_anew_once(tmp_path):
  toy_task.run(tmp_path, reset_at=4, checkpoint_every=1, keep=20)
  found = kernels(tmp_path)
  # A step moves 0.05 or so.
  jumps = [
    step
    for step in range(2, 11)
    if np.abs(found[step] - found[step - 1]).max() > 0.2
  ]
  assert jumps == [5]


@pytest.mark.slow
def test_the_end_of_aggression_is_remembered(tmp_path):
  whole = trained(tmp_path / 'whole')
  # From the checkpoints of steps 3 and 6, and of 9, where it has ended.
  evaluate = Informed()
  for at in (4, 8, 11):
    with pytest.raises(toy_task.Killed):
      trained(tmp_path / 'killed', toy_task.Dying(at), evaluate)
  again = trained(tmp_path / 'killed', evaluate=evaluate)
  equal(host(again), host(whole))


def test_an_evaluation_without_the_figure_is_refused(tmp_path):
  with pytest.raises(errors.UserError, match='mutual_information'):
    trained(tmp_path, evaluate=toy_task.evaluate)
