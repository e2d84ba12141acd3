"""Members of a group end as runs of their own do."""

import contextlib
import json
import shutil

import jax
import numpy as np
import pytest
import toy_task

from lvdecode import errors
from lvdecode.training import checkpoint
from lvdecode.training import optimizer
from lvdecode.training import spec
from lvdecode.training import step
from lvdecode.training import together
from lvdecode.training import workdir as workdir_lib

RATES = (0.05, 0.02, 0.01, 0.1)
NOISES = (0.1, 0.0, 0.3, 0.2)


def group(
  folder,
  data=None,
  count=4,
  built=None,
  evaluate=toy_task.evaluate,
  **changes,
):
  """Trains members that differ in seed, data, learning rate and noise."""
  settings = toy_task.training_settings(**changes)
  data = data or [toy_task.Data(first=100 * i) for i in range(count)]
  numbers = [
    {'rate': rate, 'noise': noise}
    for rate, noise in zip(RATES * 2, NOISES * 2, strict=True)
  ][:count]

  def build(own):
    if built is not None:
      built.append(own)
    settings = toy_task.optimizer_settings()
    object.__setattr__(settings, 'learning_rate', own['rate'])
    return toy_task.Toy(own['noise'], remembers=True), settings

  runs = [
    spec.Run(
      task=toy_task.Toy(own['noise'], remembers=True),
      data=data[i],
      evaluate=evaluate,
      settings=settings,
      optimizer_settings=toy_task.optimizer_settings(learning_rate=own['rate']),
      seed=i,
      begin=None,
      reset_at=0,
      workdir=folder / f'm{i}',
      name=f'm{i}',
    )
    for i, own in enumerate(numbers)
  ]
  with contextlib.ExitStack() as stack:
    for one in runs:
      stack.enter_context(workdir_lib.claim(one.workdir, {}))
    return together.run(runs, numbers, build)


def one_by_one(folder, count=4, **changes):
  for i in range(count):
    rate, noise = (RATES * 2)[i], (NOISES * 2)[i]
    toy_task.run(
      folder / f'm{i}',
      data=toy_task.Data(first=100 * i),
      optimizer=toy_task.optimizer_settings(learning_rate=rate),
      toy=toy_task.Toy(noise, remembers=True),
      seed=i,
      **changes,
    )


def arrays(folder, member):
  """All numbers of a member's last checkpoint."""
  shapes = jax.eval_shape(toy_task.Toy().init, jax.random.key(0))
  tx = optimizer.make(toy_task.optimizer_settings(), 10, shapes).tx
  like = jax.eval_shape(
    lambda: step.init_state(toy_task.Toy(remembers=True), tx, 0, 0.9)
  )
  with checkpoint.Checkpoints(
    folder / f'm{member}', keep=2, keep_period=0, best_metric='error'
  ) as checkpoints:
    state, _ = checkpoints.restore(like)
  state = state._replace(rng=jax.random.key_data(state.rng))
  return [np.asarray(x) for x in jax.tree.leaves(state)]


def lines(folder, member):
  """metrics.jsonl without what measures time."""
  found = []
  text = (folder / f'm{member}' / 'metrics.jsonl').read_text()
  for line in text.splitlines():
    entry = json.loads(line)
    entry.pop('train/tokens_per_second', None)
    found.append(entry)
  return found


def close(left, right, count=4):
  for i in range(count):
    for a, b in zip(arrays(left, i), arrays(right, i), strict=True):
      np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)
    for one, other in zip(lines(left, i), lines(right, i), strict=True):
      assert one == pytest.approx(other, rel=1e-4, abs=1e-5)


@pytest.fixture(name='whole', scope='module')
def _whole(tmp_path_factory):
  """A group that nobody disturbed."""
  folder = tmp_path_factory.mktemp('whole')
  assert group(folder) == {}
  return folder


@pytest.mark.slow
def test_members_end_as_runs_of_their_own(whole, tmp_path):
  one_by_one(tmp_path)
  close(whole, tmp_path)
  # They do differ, or this would say nothing.
  assert not np.allclose(arrays(whole, 0)[1], arrays(whole, 1)[1], atol=1e-2)


@pytest.mark.slow
def test_one_program_serves_every_step(tmp_path):
  built = []
  group(tmp_path, built=built)
  assert len(built) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
  'evaluation',
  [
    6,
    pytest.param(1, marks=pytest.mark.slow),
    pytest.param(9, marks=pytest.mark.slow),
  ],
)
def test_a_group_killed_at_any_member_ends_as_one_that_was_not(
  whole, tmp_path, evaluation
):
  """Of the evaluations at steps 4, 8 and 10, each of four members."""
  calls = iter(range(100))

  def evaluate(params):
    if next(calls) == evaluation:
      raise toy_task.Killed
    return toy_task.evaluate(params)

  with pytest.raises(toy_task.Killed):
    group(tmp_path, evaluate=evaluate)
  steps = {checkpoint.latest_step(tmp_path / f'm{i}') for i in range(4)}
  assert len(steps) == 2  # those before it have saved, the others have not
  assert group(tmp_path) == {}
  for i in range(4):
    for a, b in zip(arrays(whole, i), arrays(tmp_path, i), strict=True):
      np.testing.assert_array_equal(a, b)
    assert lines(tmp_path, i) == lines(whole, i)


@pytest.mark.slow
def test_a_member_that_fails_leaves_the_others_alone(whole, tmp_path):
  data = [toy_task.Data(first=100 * i) for i in range(4)]
  data[1].bad = range(103, 110)
  failed = group(tmp_path, data=data)
  assert list(failed) == ['m1'] and 'not finite' in str(failed['m1'])
  for i in (0, 2, 3):
    for a, b in zip(arrays(whole, i), arrays(tmp_path, i), strict=True):
      np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_last_write_that_fails_is_one_member_s_failure(tmp_path, monkeypatch):
  """The files of all are closed, one after the other."""
  leave, closed = checkpoint.Checkpoints.__exit__, []

  def failing(self, *error):
    leave(self, *error)
    closed.append(self._workdir.name)
    if closed[-1] == 'm2':
      raise errors.UserError('no room')

  monkeypatch.setattr(checkpoint.Checkpoints, '__exit__', failing)
  failed = group(tmp_path)
  assert list(failed) == ['m2'] and 'no room' in str(failed['m2'])
  assert sorted(closed) == ['m0', 'm1', 'm2', 'm3']


def test_a_folder_that_cannot_be_read_is_one_member_s_failure(whole, tmp_path):
  shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
  for file in (tmp_path / 'm2' / 'checkpoints' / '10').rglob('*'):
    if file.is_file():
      file.write_bytes(b'')
  assert list(group(tmp_path)) == ['m2']


@pytest.mark.slow
@pytest.mark.long
def test_the_members_are_shared_out_to_the_devices(tmp_path):
  spread = set()

  def evaluate(params):
    spread.update(len(x.sharding.device_set) for x in jax.live_arrays())
    assert len(params['decoder']['bias'].sharding.device_set) == 1
    return toy_task.evaluate(params)

  spread_out = dict(count=8, evaluate=evaluate, parallel='pmap', steps=4)
  assert group(tmp_path / 'eight', **spread_out) == {}
  assert max(spread) == 8
  assert group(tmp_path / 'one', count=8, steps=4) == {}
  close(tmp_path / 'eight', tmp_path / 'one', 8)
