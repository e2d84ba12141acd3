"""A sweep ends with the same table, whatever happens on the way."""

import json
import random
import shlex
import signal
import subprocess
import sys
import time

import house
import pytest

CONFIG = """
from configs import base


def get_config(arg=''):
  c = base.get_config('quick')
  c.data.limit = 64
  c.training.steps = 4
  c.training.log_every = 2
  c.training.evaluate_every = 2
  c.training.checkpoint_every = 2
  c.objective.beta.duration = '50 %'
  c.optimizer.warmup_steps = 2
  c.evaluation.texts = 16
  c.pipeline.lengths = c.pipeline.lengths[-1:]
  c.model.decoder.dropout = 0.1
  c.model.decoder.layers = c.model.encoder.layers = 1
  c.model.injection.points = ('memory',)
  return base.variants(c, arg, {'broken': lambda c: None})


def sweep(add, arg=''):
  for seed in range(2):
    add({'seed': seed})
  if arg == 'broken':
    add({'optimizer.multipliers': (('nothing', 1.0), ('.*', 1.0))})
"""
# The last digits depend on the number of threads, which is that of a run's cores,
# which `--parallel` decides.
THREADS = {'NPROC': '32'}


def swept(folder, *flags, config='', parallel=1):
  """What `python -m` is given, and the environment."""
  path = folder / 'swept.py'
  path.write_text(CONFIG)
  data = {'TFDS_DATA_DIR': str(folder / 'data')}
  return (
    'experiments.sweep',
    f'--config={path}{config}',
    f'--workdir={folder / "sweep"}',
    '--samples=2',
    f'--parallel={parallel}',
    *flags,
  ), house.environment() | THREADS | data


def start(folder, *flags, **options):
  words, environment = swept(folder, *flags, **options)
  return subprocess.Popen(
    [sys.executable, '-m', *words],
    cwd=house.ROOT,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(folder, *flags, **options):
  words, environment = swept(folder, *flags, **options)
  return house.call(house.ROOT, *words, given=environment)


def by_hand(line):
  program, flag, *words = shlex.split(line)
  assert (program, flag) == ('python', '-m')
  given = house.environment() | THREADS
  code, _, error = house.call(house.ROOT, *words, given=given)
  assert code == 0, error


def table(folder):
  return (folder / 'sweep' / 'table.csv').read_text()


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A sweep that nobody disturbed."""
  folder = tmp_path_factory.mktemp('whole')
  code, out, error = finish(folder)
  assert code == 0, error
  assert 'Traceback' not in error and 'Warning' not in error, error
  return folder, out


@pytest.mark.slow
def test_a_sweep_makes_table_and_pictures(whole):
  folder, out = whole
  assert '[2/2] seed=1  done  KL ' in out
  lines = table(folder).splitlines()
  assert [line.split(',')[1] for line in lines] == ['status'] + ['done'] * 2
  assert '2 of 2 runs.' in (folder / 'sweep' / 'table.md').read_text()
  assert (folder / 'sweep' / 'rate_distortion.png').stat().st_size > 1_000
  for home in (folder / 'sweep').glob('seed=*'):
    written = json.loads((home / 'evaluation' / 'test.json').read_text())
    kl = written.get('figures', written)['kl']
    assert str(kl) in table(folder)


@pytest.mark.slow
def test_finished_points_are_skipped(whole):
  folder, _ = whole
  before = table(folder)
  code, out, _ = finish(folder)
  assert code == 0 and '2 of 2 points are done' in out
  assert table(folder) == before


def wait_for_checkpoint(process, folder):
  deadline = time.monotonic() + 200
  while not list(folder.glob('sweep/*/checkpoints/*')):
    assert time.monotonic() < deadline and process.poll() is None
    time.sleep(0.05)


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on(whole, tmp_path):
  process = start(tmp_path, parallel=2)
  wait_for_checkpoint(process, tmp_path)
  process.send_signal(signal.SIGTERM)
  out, _ = process.communicate(timeout=100)
  assert 'the same command goes on' in out
  assert process.returncode == 128 + signal.SIGTERM
  process = start(tmp_path, parallel=2)
  time.sleep(5)  # somewhere in its second life
  process.send_signal(signal.SIGKILL)
  process.communicate(timeout=100)
  code, _, error = finish(tmp_path)
  assert code == 0, error
  assert table(tmp_path) == table(whole[0])


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize('seed', range(2))
def test_a_sweep_that_is_killed_at_random_ends_with_the_same_table(
  whole, tmp_path, seed
):
  rng = random.Random(seed)
  for _ in range(4):
    process = start(tmp_path, parallel=2)
    # Long enough to train, sometimes to evaluate.
    deadline = time.monotonic() + rng.uniform(3, 40)
    while time.monotonic() < deadline and process.poll() is None:
      time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=100)
  code, _, error = finish(tmp_path)
  assert code == 0, error
  assert table(tmp_path) == table(whole[0])


@pytest.mark.long
@pytest.mark.slow
def test_a_broken_point_does_not_stop_the_others(whole, tmp_path):
  code, _, error = finish(tmp_path, config=':broken', parallel=2)
  assert code == 1
  (line,) = error.strip().splitlines()
  assert line.startswith('failed: multipliers=') and "'nothing'" in line
  rows = table(tmp_path).splitlines()
  assert sum(',done,' in row for row in rows) == 2
  assert sum(',failed,' in row for row in rows) == 1
  # --only leaves the broken one alone; it stays in the table.
  code, out, error = finish(tmp_path, '--only=seed=', config=':broken')
  assert code == 0 and '2 of 2 points are done' in out
  assert not error and table(tmp_path) == '\n'.join(rows) + '\n'


@pytest.mark.long
@pytest.mark.slow
def test_commands_for_a_cluster_make_the_same_table(whole, tmp_path):
  code, out, error = finish(tmp_path, '--print_commands')
  assert code == 0, error
  commands = out.splitlines()
  assert len(commands) == 2
  for line in commands:
    assert line.startswith('python -m experiments.run ')
  by_hand(commands[1])
  code, _, error = finish(tmp_path, '--collect')
  assert code == 0, error
  rows = table(tmp_path).splitlines()
  assert rows[2] == table(whole[0]).splitlines()[2]
  assert ',open,' in rows[1]


def alike(folder, other):
  """Whether two tables hold the same figures to rounding."""
  lines = [table(f).splitlines() for f in (folder, other)]
  for one, two in zip(*lines, strict=True):
    for left, right in zip(one.split(','), two.split(','), strict=True):
      try:
        assert float(left) == pytest.approx(float(right), rel=1e-3, abs=1e-3)
      except ValueError:
        assert left == right


@pytest.mark.long
@pytest.mark.slow
def test_points_trained_together_make_the_same_table(whole, tmp_path):
  process = start(tmp_path, '--vectorize=2')
  wait_for_checkpoint(process, tmp_path)
  process.kill()
  process.communicate(timeout=100)
  code, out, error = finish(tmp_path, '--vectorize=2')
  assert code == 0, error
  assert '[2/2]' in out
  alike(tmp_path, whole[0])


@pytest.mark.long
@pytest.mark.slow
def test_a_cluster_s_line_trains_points_together(whole, tmp_path):
  code, out, error = finish(tmp_path, '--print_commands', '--vectorize=2')
  assert code == 0, error
  (line,) = out.splitlines()
  by_hand(line)
  code, _, error = finish(tmp_path, '--collect')
  assert code == 0, error
  alike(tmp_path, whole[0])


@pytest.mark.slow
@pytest.mark.parametrize(
  'flags, config, words',
  [
    (['--only=nobody'], '', '--only=nobody matches none of 2 points'),
    (['--samples=0'], '', '--samples'),
    ([], ':other', 'other'),
  ],
)
def test_bad_flags_are_one_line(tmp_path, flags, config, words):
  code, _, error = finish(tmp_path, *flags, config=config)
  assert code == 2
  (line,) = error.strip().splitlines()
  assert line.startswith('error: ') and words in line
  assert not (tmp_path / 'sweep').exists()
