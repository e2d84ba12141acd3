"""A run: killed, resumed, stopped, evaluated, refused."""

import json
import logging
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import toy_task

from lvdecode import errors
from lvdecode.training import checkpoint


def arrays(state):
  state = state._replace(rng=jax.random.key_data(state.rng))
  return [np.asarray(x) for x in jax.tree.leaves(state)]


def lines(workdir):
  """metrics.jsonl without what measures time."""
  found = []
  for line in (workdir / 'metrics.jsonl').read_text().splitlines():
    entry = json.loads(line)
    entry.pop('train/tokens_per_second', None)
    found.append(entry)
  return found


def same(left, right):
  for a, b in zip(arrays(left), arrays(right), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['jit', 'pmap'])
def test_a_killed_run_ends_as_one_that_was_not(tmp_path, kind):
  toy = toy_task.Toy(remembers=True)
  whole = toy_task.run(tmp_path / 'whole', toy=toy, parallel=kind)
  # Before any checkpoint, between two lines, and after the last line.
  for at in (1, 5, 9):
    with pytest.raises(toy_task.Killed):
      toy_task.run(
        tmp_path / 'killed', toy_task.Dying(at), toy=toy, parallel=kind
      )
  resumed = toy_task.run(tmp_path / 'killed', toy=toy, parallel=kind)
  same(whole, resumed)
  assert whole.carry > 0
  assert lines(tmp_path / 'killed') == lines(tmp_path / 'whole')
  assert [x['step'] for x in lines(tmp_path / 'whole')] == [
    3,
    4,
    6,
    8,
    9,
    10,
    10,
  ]


@pytest.mark.slow
def test_a_finished_run_is_left_alone(tmp_path):
  first = toy_task.run(tmp_path)
  before = lines(tmp_path)

  def evaluate(params):
    raise AssertionError

  same(first, toy_task.run(tmp_path, evaluate=evaluate))
  assert lines(tmp_path) == before


@pytest.mark.slow
def test_lines_hold_the_means_of_their_steps(tmp_path):
  toy_task.run(tmp_path / 'often', log_every=1, steps=6)
  toy_task.run(tmp_path / 'seldom', log_every=3, steps=6)
  often = [x for x in lines(tmp_path / 'often') if 'train/loss' in x]
  seldom = [x for x in lines(tmp_path / 'seldom') if 'train/loss' in x]
  assert [x['step'] for x in seldom] == [3, 6]
  for entry, part in zip(seldom, (often[:3], often[3:]), strict=True):
    mean = np.mean([x['train/loss'] for x in part])
    np.testing.assert_allclose(entry['train/loss'], mean, rtol=1e-6)
    assert entry['train/learning_rate'] == part[-1]['train/learning_rate']
  assert often[0]['train/learning_rate'] == np.float32(0.025)


@pytest.mark.slow
def test_the_average_is_evaluated_and_the_best_is_kept(tmp_path):
  seen = []

  def evaluate(params):
    seen.append(jax.tree.map(np.array, params))
    return {'error': abs(len(seen) - 2.0)}

  state = toy_task.run(tmp_path, evaluate=evaluate, steps=20, keep=1, ema=0.5)
  assert len(seen) == 5
  jax.tree.map(np.testing.assert_array_equal, seen[-1], state.ema)
  assert checkpoint.steps(tmp_path) == [8, 20]
  evaluations = [x for x in lines(tmp_path) if 'evaluate/error' in x]
  assert [(x['step'], x['evaluate/error']) for x in evaluations] == [
    (4, 1.0),
    (8, 0.0),
    (12, 1.0),
    (16, 2.0),
    (20, 3.0),
  ]


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_with_a_checkpoint(tmp_path, caplog, number):
  class Signalling(toy_task.Data):
    def __next__(self):
      if self.index == 4:
        signal.raise_signal(number)
      return super().__next__()

  before = signal.getsignal(number)
  state = toy_task.run(tmp_path / 'stopped', Signalling())
  assert state.step == 5
  assert signal.getsignal(number) == before
  assert checkpoint.steps(tmp_path / 'stopped') == [4, 5]
  assert 'start the same command again' in caplog.text
  same(toy_task.run(tmp_path / 'stopped'), toy_task.run(tmp_path / 'whole'))
  assert lines(tmp_path / 'stopped') == lines(tmp_path / 'whole')


def test_a_second_interrupt_aborts(tmp_path):
  class Impatient(toy_task.Data):
    def __next__(self):
      if self.index == 3:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
      return super().__next__()

  with pytest.raises(KeyboardInterrupt):
    toy_task.run(tmp_path, Impatient())
  assert checkpoint.steps(tmp_path) == [2]


def test_bad_steps_are_counted_and_survived(tmp_path):
  toy_task.run(tmp_path, toy_task.Data(bad=[1, 4, 5]), max_skipped=3)
  assert [x['train/skipped'] for x in lines(tmp_path) if 'train/loss' in x] == [
    1,
    2,
    0,
    0,
  ]
  assert all(np.isfinite(x.get('train/loss', 0)) for x in lines(tmp_path))


def test_too_many_bad_steps_end_the_run(tmp_path):
  # The row of bad steps goes on over a restart.
  with pytest.raises(toy_task.Killed):
    toy_task.run(tmp_path, DyingBad(), checkpoint_every=1)
  data = toy_task.Data(bad=range(3, 10))
  with pytest.raises(errors.UserError, match='3 steps in a row') as error:
    toy_task.run(tmp_path, data, checkpoint_every=1)
  assert 'optimizer.learning_rate' in str(error.value)
  assert checkpoint.steps(tmp_path)[-1] == 5


class DyingBad(toy_task.Dying):
  def __init__(self):
    super().__init__(5)
    self.bad = range(3, 10)


def test_first_compilation_is_announced(tmp_path, caplog):
  with caplog.at_level(logging.INFO):
    toy_task.run(tmp_path, steps=3)
  text = caplog.text
  assert text.count('compiling the training step') == 1
  assert text.count('compiled and took the first step in') == 1
  assert 'encoder' in text
  assert re.search(r'step 3/3  loss \S+  .*noise .* tokens/s  ETA 0:00', text)


@pytest.mark.slow
def test_what_cannot_work_is_said_first(tmp_path):
  with pytest.raises(errors.UserError, match='multiple of 24'):
    toy_task.run(tmp_path / 'a', parallel='pmap', accumulate=3)
  with pytest.raises(errors.UserError, match="best_metric 'error' is not"):
    toy_task.run(tmp_path / 'b', evaluate=lambda params: {'other': 1.0})
  with pytest.raises(errors.UserError, match='training.ema'):
    toy_task.run(tmp_path / 'c', steps=2)
    toy_task.run(tmp_path / 'c', steps=2, ema=0.5)

  class Short(toy_task.Data):
    def __next__(self):
      if self.index == 4:
        raise StopIteration
      return super().__next__()

  with pytest.raises(errors.UserError, match='data ended after 4 of 10'):
    toy_task.run(tmp_path / 'd', Short())


@pytest.mark.parametrize(
  'change, named',
  [
    ({'steps': 0}, 'training.steps'),
    ({'accumulate': 0}, 'training.accumulate'),
    ({'keep': 0}, 'training.keep is'),
    ({'log_every': 0}, 'training.log_every'),
    ({'checkpoint_every': 0}, 'training.checkpoint_every'),
    ({'max_skipped': 0}, 'training.max_skipped'),
    ({'evaluate_every': -1}, 'training.evaluate_every'),
    ({'keep_period': -2}, 'training.keep_period'),
    ({'keep_period': 3}, 'training.keep_period 3 is not a multiple'),
    ({'evaluate_every': 3}, 'training.evaluate_every 3 is not a multiple'),
    ({'ema': 1.0}, 'training.ema'),
    ({'parallel': 'telepathy'}, 'training.parallel'),
    ({'micro_batch': -1}, 'training.micro_batch'),
    ({'micro_batch': 4, 'accumulate': 2}, 'training.micro_batch 4 and'),
    ({'model_axis': 0}, 'training.model_axis'),
    ({'model_axis': 2}, 'training.model_axis splits the state'),
    ({'sharding': (('.*', ('data',)),)}, 'training.sharding splits the state'),
    (
      {'parallel': 'fsdp', 'sharding': (('(', ('data',)),)},
      'not a regular expression',
    ),
    (
      {'parallel': 'fsdp', 'sharding': (('.*', ('date',)),)},
      "did you mean 'data'",
    ),
    (
      {'parallel': 'fsdp', 'sharding': (('.*', ('data', 'data')),)},
      'two dimensions',
    ),
    ({'encoder_updates': 0}, 'training.encoder_updates'),
    (
      {'encoder_updates': 2, 'evaluate_every': 0},
      'training.encoder_updates is 2 and training.evaluate_every 0',
    ),
    (
      {'encoder_updates': 2, 'evaluate_every': 12, 'steps': 12},
      'training.encoder_updates is 2 until .* evaluate more often',
    ),
  ],
)
def test_mistakes_are_named(change, named):
  with pytest.raises(errors.UserError, match=named):
    toy_task.training_settings(**change)


def test_one_evaluation_before_the_end_may_end_aggression():
  """With the one at step 0 of a run that begins with given weights."""
  toy_task.training_settings(encoder_updates=2, evaluate_every=6, steps=12)


def test_evaluations_need_no_checkpoint_when_none_is_best():
  toy_task.training_settings(evaluate_every=3, best_metric='')


@pytest.mark.slow
@pytest.mark.parametrize(
  'kind', ['jit', pytest.param('pmap', marks=pytest.mark.long)]
)
def test_sigkill_at_random_steps(tmp_path, kind):
  """The same command, killed over and over, ends in the same bits."""
  script = pathlib.Path(toy_task.__file__)
  root = script.parents[2]
  environment = os.environ | {'PYTHONPATH': str(root), 'NPROC': '32'}

  def command(name):
    return [sys.executable, str(script), str(tmp_path / name), '60', kind]

  subprocess.run(command('whole'), env=environment, check=True, timeout=300)
  pick = random.Random(0)
  kills = 0
  metrics = tmp_path / 'killed' / 'metrics.jsonl'
  for target in sorted(pick.sample(range(4, 58), 3)):
    process = subprocess.Popen(command('killed'), env=environment)
    while process.poll() is None:
      last = lines_seen(metrics)
      if last >= target - 3:
        time.sleep(pick.random() * 0.1)
        process.kill()
        kills += 1
        break
      time.sleep(0.01)
    process.wait(timeout=300)
  assert kills == 3
  subprocess.run(command('killed'), env=environment, check=True, timeout=300)
  assert lines(tmp_path / 'killed') == lines(tmp_path / 'whole')
  whole, killed = (final(tmp_path / name, kind) for name in ('whole', 'killed'))
  same(whole, killed)


def lines_seen(path):
  """The last step with a whole line, 0 when there is none."""
  if not path.exists():
    return 0
  whole = [x for x in path.read_text().splitlines(True) if x.endswith('\n')]
  return json.loads(whole[-1])['step'] if whole else 0


def final(workdir, kind):
  """The finished run's state: running it again trains nothing."""
  toy = toy_task.COMMANDED
  return toy_task.run(workdir, toy=toy, steps=60, parallel=kind)


@pytest.mark.slow
def test_a_run_begins_with_what_it_is_given_and_says_how_good_that_is(tmp_path):
  def begin(params):
    return jax.tree.map(lambda x: x + 1, params)

  options = dict(begin=begin, steps=4)
  toy_task.run(tmp_path / 'given', **options)
  text = (tmp_path / 'given' / 'metrics.jsonl').read_text()
  first = json.loads(text.splitlines()[0])
  shapes = toy_task.Toy().init(jax.random.split(jax.random.key(0))[0])
  assert first['step'] == 0
  assert first['evaluate/error'] == pytest.approx(
    toy_task.evaluate(begin(shapes))['error']
  )
  # Killed after its first checkpoint, it does not begin again.
  with pytest.raises(toy_task.Killed):
    toy_task.run(tmp_path / 'killed', toy_task.Dying(3), **options)
  toy_task.run(tmp_path / 'killed', **options)
  again = (tmp_path / 'killed' / 'metrics.jsonl').read_text()
  assert [json.loads(line)['step'] for line in again.splitlines()].count(0) == 1
