"""Many processes are one run: on this machine, over its loopback."""

import json
import shutil
import signal
import time

import jax
import many
import numpy as np
import pytest
import toy_task

from lvdecode import errors
from lvdecode.training import checkpoint
from lvdecode.training import hosts

STEPS = 10


def start(count, workdir, kind, devices=2, steps=STEPS, gives_up=None):
  """Processes that train the toy together; one alone is as any command."""

  def command(coordinator, process):
    rest = (coordinator, str(process), str(count)) if count > 1 else ()
    rest += ('6',) if process == gives_up else ()
    return [toy_task.__file__, str(workdir), str(steps), kind, *rest]

  return many.start(count, command, devices)


def params(workdir, step=STEPS, item='params'):
  shapes = jax.eval_shape(toy_task.Toy().init, jax.random.key(0))
  found = checkpoint.restore_params(workdir, step, shapes, item)
  return jax.tree.leaves(found)


def lines(workdir):
  text = (workdir / 'metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(name='alone', scope='module')
def _alone(tmp_path_factory):
  """The folder of one process on one device."""
  folder = tmp_path_factory.mktemp('alone')
  toy_task.run(
    folder, toy=toy_task.Toy(coupled=True, remembers=True), steps=STEPS
  )
  return folder


def check_same(folder, alone):
  for item in ('params', 'ema'):
    for a, b in zip(
      params(folder, item=item), params(alone, item=item), strict=True
    ):
      np.testing.assert_allclose(a, b, atol=1e-5)
  for a, b in zip(lines(folder), lines(alone), strict=True):
    for key in a.keys() - {'train/tokens_per_second'}:
      np.testing.assert_allclose(a[key], b[key], rtol=1e-4, err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize(
  'count, kind',
  [
    pytest.param(2, 'pmap', marks=pytest.mark.long),
    pytest.param(2, 'mesh', marks=pytest.mark.long),
    (2, 'fsdp'),
    pytest.param(4, 'fsdp', marks=pytest.mark.long),
  ],
)
def test_many_processes_end_as_one(tmp_path, alone, count, kind):
  for code, _, said in many.finish(start(count, tmp_path, kind)):
    assert code == 0, said
  check_same(tmp_path, alone)
  assert checkpoint.best_step(tmp_path) == checkpoint.best_step(alone)


@pytest.mark.slow
@pytest.mark.long
def test_other_processes_go_on_where_some_stopped(tmp_path, alone):
  """From one process to two, and from two to one."""
  shutil.copytree(alone, tmp_path / 'run')
  for count, kind in ((2, 'fsdp'), (1, 'mesh')):
    shutil.rmtree(tmp_path / 'run' / 'checkpoints' / str(STEPS))
    assert checkpoint.latest_step(tmp_path / 'run') == STEPS - 2
    for code, _, said in many.finish(start(count, tmp_path / 'run', kind)):
      assert code == 0, said
    check_same(tmp_path / 'run', alone)


@pytest.mark.slow
def test_a_signal_to_one_stops_all_before_the_same_step(tmp_path):
  processes = start(2, tmp_path, 'pmap', steps=100_000)
  wait_for_a_line(tmp_path, processes)
  processes[1].send_signal(signal.SIGTERM)
  ended = many.finish(processes)
  for code, _, said in ended:
    assert code == 0, said
  last = checkpoint.latest_step(tmp_path)
  assert {out.split()[-1] for _, out, _ in ended} == {str(last)}
  assert last % 10 == 0


def wait_for_a_line(workdir, processes):
  end = time.monotonic() + 120
  path = workdir / 'metrics.jsonl'
  while not (path.exists() and path.read_text()):
    assert time.monotonic() < end
    assert all(process.poll() is None for process in processes)
    time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
  'victim, number',
  [
    pytest.param(0, signal.SIGKILL, marks=pytest.mark.long),
    (1, signal.SIGKILL),
    pytest.param(1, signal.SIGSTOP, marks=pytest.mark.long),
  ],
)
def test_a_process_that_dies_ends_the_others(tmp_path, victim, number):
  processes = start(3, tmp_path, 'pmap', devices=1, steps=100_000)
  wait_for_a_line(tmp_path, processes)
  processes[victim].send_signal(number)
  begin = time.monotonic()
  rest = [p for i, p in enumerate(processes) if i != victim]
  try:
    ended = many.finish(rest, seconds=60)  # the heartbeat's 10 s, and some
  finally:
    processes[victim].kill()
    processes[victim].communicate()
  assert time.monotonic() - begin < 45
  for code, _, said in ended:
    assert code not in (0, None)
    assert 'another one may have died' in said or 'another task died' in said


@pytest.mark.slow
@pytest.mark.long
def test_a_mistake_of_one_ends_all(tmp_path):
  processes = start(2, tmp_path, 'pmap', steps=100_000, gives_up=1)
  (code, _, said), (mistaken, _, why) = many.finish(processes)
  assert mistaken == 2 and why.endswith('error: this host gives up\n')
  assert code not in (0, 2)
  assert 'another one may have died' in said or 'another task died' in said


@pytest.mark.slow
@pytest.mark.long
def test_processes_that_do_not_come_are_waited_for_in_vain(tmp_path):
  script = tmp_path / 'join.py'
  script.write_text(
    'from lvdecode.training import hosts\n'
    "hosts.join('127.0.0.1:9', 1, 2, join_seconds=2, heartbeat_seconds=10)\n"
  )
  ((code, _, said),) = many.finish(
    many.start(1, lambda *_: [str(script)], devices=1)
  )
  assert code == 2
  last = said.splitlines()[-1]
  assert 'error: process 1 waited 2 s for the 2 processes' in last


@pytest.mark.parametrize(
  'given, named',
  [
    (('here:1', None, 2), '--process_id missing'),
    (('', 0, None), '--coordinator, --num_processes missing'),
    (('here:1', 2, 2), '--process_id 2 is not one of --num_processes 2'),
    (('here:1', -1, 2), '--process_id -1'),
    (('here:1', 0, 0), '--num_processes = 0'),
    (('here', 0, 2), "--coordinator 'here' is not HOST:PORT"),
    (('here:port', 0, 2), "--coordinator 'here:port'"),
  ],
)
def test_numbers_that_do_not_fit_are_refused(given, named):
  with pytest.raises(errors.UserError, match=named):
    hosts.join(*given, join_seconds=1, heartbeat_seconds=10)


def test_one_process_stays_alone(monkeypatch):
  monkeypatch.setenv('SLURM_PROCID', '0')
  monkeypatch.setenv('SLURM_STEP_NUM_TASKS', '1')
  hosts.join('', None, None, join_seconds=1, heartbeat_seconds=10)
  hosts.join('here:1', 0, 1, join_seconds=1, heartbeat_seconds=10)
  assert hosts.count() == 1 and hosts.first()
  assert hosts.everyone({'a': 1}) == [{'a': 1}]


def said_by(monkeypatch, *rows):
  monkeypatch.setattr(hosts, 'everyone', lambda value: list(rows))


def test_a_key_in_which_processes_differ_is_named(monkeypatch):
  said_by(monkeypatch, {'a': 1, 'b.c': [2]}, {'a': 1, 'b.c': [3]})
  with pytest.raises(errors.UserError, match=r'b\.c is \[3\] on process 1'):
    hosts.compare({})
  said_by(monkeypatch, {'a': 1}, {})
  with pytest.raises(errors.UserError, match='a is null on process 1'):
    hosts.compare({})


def test_the_mistake_of_one_process_ends_all(monkeypatch):
  monkeypatch.setattr(hosts, 'count', lambda: 2)
  said_by(monkeypatch, '', 'no space')
  with pytest.raises(errors.UserError, match='process 1: no space'):
    hosts.agreed(lambda: 3)
  said_by(monkeypatch, '', '')
  assert hosts.agreed(lambda: 3) == 3


def test_the_code_has_a_digest():
  code = hosts.code()
  assert len(code['code.source']) == 16
  assert code['code.jax'] == jax.__version__
