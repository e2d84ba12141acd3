"""Stages: what moves changes at steps that are known beforehand."""

import dataclasses
import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy_task

from lvdecode import errors
from lvdecode.training import adam
from lvdecode.training import drive
from lvdecode.training import optimizer as optimizer_lib
from lvdecode.training import parallel
from lvdecode.training import step as step_lib

TOY = toy_task.Toy()
BIAS, KERNEL, ENCODER = 'decoder/bias', 'decoder/kernel', 'encoder/kernel'
STAGES = (
  (3, ((BIAS, 1.0), ('.*', 0.0))),
  (3, ((KERNEL, 0.5), (BIAS, 0.0), ('.*', 1.0))),
)
# Of steps 0 to 9.
MOVING = [{BIAS}] * 3 + [{KERNEL, ENCODER}] * 3 + [{BIAS, KERNEL, ENCODER}] * 4


def settings(stages=STAGES, **changes):
  return toy_task.optimizer_settings(stages=stages, **changes)


def made(chosen=None):
  params = TOY.init(jax.random.key(0))
  return optimizer_lib.make(chosen or settings(), 10, params)


def named(tree):
  """The leaves of a tree like the toy's parameters, by their paths."""
  return {
    f'{top}/{name}': np.asarray(leaf)
    for top, leaves in tree.items()
    for name, leaf in leaves.items()
  }


@pytest.fixture(name='states', scope='module')
def _states():
  """What there is after each of ten steps, by step."""
  optimizer = made()
  devices = parallel.make('jit')
  state = step_lib.init_state(TOY, optimizer.tx, 0, ema=0.9)
  steps = drive.Steps(
    TOY,
    optimizer,
    settings=toy_task.training_settings(),
    devices=devices,
    state=devices.place(state),
  )
  found = {}
  for step in range(10):
    moving = optimizer.stage_at(step).name
    batch = toy_task.make_batch(step)
    steps.take(drive.Request(step, batch, moving, anew=False))
    state = steps.read()
    found[step + 1] = jax.tree.map(np.array, state._replace(rng=None))
  return found


def aged(state):
  (found,) = (x for x in state.opt_state if isinstance(x, adam.AgedState))
  return found


def test_each_stage_moves_what_it_names_and_nothing_else(states):
  for step in range(2, 11):
    before, after = states[step - 1], states[step]
    for old, new in (
      (before.params, after.params),
      *zip(aged(before), aged(after), strict=True),
    ):
      old, new = named(old), named(new)
      for path in (BIAS, KERNEL, ENCODER):
        changed = (old[path] != new[path]).all()
        kept = (old[path] == new[path]).all()
        assert changed if path in MOVING[step - 1] else kept, (step, path)
  # An average follows what has moved, and only that.
  first, third, fourth = (named(states[step].ema) for step in (1, 3, 4))
  assert (first[KERNEL] == third[KERNEL]).all()
  assert (third[KERNEL] != fourth[KERNEL]).all()


def test_moments_are_carried_over_a_stage_in_which_they_wait(states):
  ages = [named(aged(states[step]).age) for step in (3, 6, 7)]
  assert [age[BIAS] for age in ages] == [3, 3, 4]
  assert [age[KERNEL] for age in ages] == [0, 3, 4]
  before, after = (named(aged(states[step]).mu)[BIAS] for step in (6, 7))
  # The gradient is clipped to a norm of 1; b1 is 0.9.
  assert np.linalg.norm(after - 0.9 * before) < 0.1
  assert np.linalg.norm(0.9 * before) > 0.2


@pytest.mark.slow
@pytest.mark.parametrize(
  'kind',
  [
    'jit',
    pytest.param('pmap', marks=pytest.mark.slow),
    pytest.param('fsdp', marks=pytest.mark.slow),
  ],
)
def test_a_run_killed_on_either_side_of_a_boundary_ends_the_same(
  tmp_path, kind
):
  run = functools.partial(
    toy_task.run,
    optimizer=settings(),
    parallel=kind,
    **toy_task.SPLIT.get(kind, {}),
  )
  whole = run(tmp_path / 'whole')
  # From the checkpoints of step 2, before a boundary, and of 6, at another.
  for at in (3, 7):
    with pytest.raises(toy_task.Killed):
      run(tmp_path / 'killed', toy_task.Dying(at))
  again = run(tmp_path / 'killed')
  pairs = zip(*map(jax.tree.leaves, (again, whole)), strict=True)
  for a, b in pairs:
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
      a, b = map(jax.random.key_data, (a, b))
    np.testing.assert_array_equal(a, b)


@dataclasses.dataclass(frozen=True)
class Counting(toy_task.Toy):
  """Notes each time that its loss is traced."""

  traced: list = dataclasses.field(default_factory=list)

  def loss(self, params, batch, streams, axis_name, carry):
    self.traced.append(batch.x.shape)
    return super().loss(params, batch, streams, axis_name, carry)


class Alternating(toy_task.Data):
  """Batches of two sizes in turn."""

  def __next__(self):
    self.batch = (32, 16)[self.index % 2]
    return super().__next__()


@pytest.mark.slow
def test_a_stage_compiles_once_for_each_shape_of_batch(tmp_path, caplog):
  toy = Counting()
  with caplog.at_level(logging.INFO):
    toy_task.run(tmp_path, Alternating(), optimizer=settings(), toy=toy)
  sizes = [shape[0] for shape in toy.traced]
  assert sizes == [32, 16, 16, 32, 32, 16]
  assert [line for line in caplog.messages if 'parameters move' in line] == [
    'from step 0 on optimizer.stages[0]: 3 parameters move',
    'from step 3 on optimizer.stages[1]: 32 parameters move',
    'from step 6 on optimizer.multipliers: 35 parameters move',
  ]


def test_frozen_parameters_are_not_in_the_gradient_of_a_stage():
  optimizer = made()
  state = step_lib.init_state(TOY, optimizer.tx, 0, ema=0.0)
  products = []
  for stage in optimizer.stages:
    step = drive.train_step(
      TOY,
      optimizer,
      moving=stage.moving,
      axis_name=None,
      accumulate=1,
      spread=None,
      ema=0.0,
    )
    program = str(jax.make_jaxpr(step)(state, toy_task.make_batch(0)))
    products.append(program.count(' dot_general['))
  # Two of the loss and none more for a bias; the sum over weights is one too.
  least = products[0]
  assert products == [least, least + 3, least + 3]


def test_a_stage_scales_the_rate_of_the_whole_run():
  chosen = settings(
    decay='cosine', warmup_steps=4, weight_decay=(('.*', 0.0),), clip_norm=0.0
  )
  optimizer = made(chosen)
  params = TOY.init(jax.random.key(0))
  ones = jax.tree.map(jnp.ones_like, params)
  for step, kernel in ((0, 0.0), (2, 0.0), (3, 0.5), (5, 0.5), (6, 1.0)):
    updates, _ = optimizer.tx.update(
      ones, optimizer.tx.init(params), params, step=jnp.int32(step)
    )
    rate = optimizer.learning_rate(step)
    np.testing.assert_allclose(
      updates['decoder']['kernel'], -rate * kernel, rtol=1e-6
    )
  plain = toy_task.optimizer_settings(decay='cosine', warmup_steps=4)
  assert [optimizer.learning_rate(step) for step in range(10)] == [
    made(plain).learning_rate(step) for step in range(10)
  ]


def test_what_is_frozen_in_every_stage_has_no_state():
  never = ((ENCODER, 0.0), ('.*', 1.0))
  optimizer = made(
    settings(((3, ((BIAS, 1.0), ('.*', 0.0))),), multipliers=never)
  )
  params = TOY.init(jax.random.key(0))
  assert named(optimizer.trainable) == {BIAS: 1, KERNEL: 1, ENCODER: 0}
  shapes = {leaf.shape for leaf in jax.tree.leaves(optimizer.tx.init(params))}
  assert shapes == {(), (toy_task.OUT,), (toy_task.HIDDEN, toy_task.OUT)}


def test_a_parameter_that_has_waited_begins_as_adam_begins():
  mine = adam.scale_by_aged_adam(0.9, 0.99, 1e-8)
  theirs = optax.scale_by_adam(0.9, 0.99, 1e-8)
  grad = jnp.array([1.0, -2.0])
  state = mine.init({'late': grad, 'early': grad})
  for step in range(3):
    grads = {'late': grad, 'early': step * grad}
    _, new = mine.update(grads, state)
    state = adam.AgedState(
      *(dict(n, late=o['late']) for n, o in zip(new, state, strict=True))
    )
  fresh = theirs.init(grad)
  for factor in (1.0, 0.5, -3.0, 2.0):
    grads = {'late': factor * grad, 'early': grad}
    updates, state = mine.update(grads, state)
    expected, fresh = theirs.update(factor * grad, fresh)
    np.testing.assert_allclose(updates['late'], expected, rtol=1e-5)


@pytest.mark.parametrize(
  ('stages', 'words'),
  [
    (((0, (('.*', 1.0),)),), r'optimizer.stages\[0\]\[0\] = 0: .*at least 1'),
    ((STAGES[0], (2, (('.*(', 1.0),))), r'stages\[1\]: .*regular expression'),
    (((2, (('.*', -1.0),)),), r'optimizer.stages\[0\]: -1.0 .*negative'),
    (((2, (('.*', 0.0),)),), r'optimizer.stages\[0\] freezes every parameter'),
    (((2, ((BIAS, 1.0),)),), r'optimizer.stages\[0\] has no pattern for'),
    (
      (STAGES[0], (2, (('x', 1.0), ('.*', 1.0)))),
      r"optimizer.stages\[1\]: pattern 'x' matches no parameter",
    ),
  ],
)
def test_a_stage_that_cannot_be_is_named(stages, words):
  with pytest.raises(errors.UserError, match=words):
    made(settings(stages))
