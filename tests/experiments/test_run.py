"""Whole runs in this process, on one device, on eight, and together."""

import json
import shutil

import jax
import numpy as np
import pytest

from configs import base
from experiments import run
import lvdecode
from lvdecode import errors
from lvdecode import settings


@pytest.mark.slow
def test_epochs_are_compared_with_the_run_before_it_begins(tmp_path):
  config = base.get_config('quick')
  config.training.parallel = 'jit'
  config.objective.beta.duration = '1 epoch'
  built = settings.from_dict(config.to_dict())
  # 1,024 texts in batches of 16, and a run of 60 steps.
  with pytest.raises(errors.UserError, match=r"'1 epoch' is 6\d steps, .* 60"):
    run.train(built, tmp_path / 'run')
  assert not (tmp_path / 'run' / 'checkpoints').exists()


@pytest.mark.slow
def test_a_controlled_run_that_stopped_ends_as_one_that_did_not(tmp_path):
  config = base.get_config('quick')
  config.objective.free_bits.kind = 'none'
  config.objective.rate.kind = 'pi'
  config.objective.rate.integral = 0.05
  config.objective.rate.target = 0.1  # below the first steps' KL: beta rises
  config.objective.beta.duration = '4 steps'
  config.training.parallel = 'jit'
  config.training.log_every = 1
  config.training.steps = 4
  config.training.evaluate_every = config.training.checkpoint_every = 2
  built = settings.from_dict(config.to_dict())
  run.train(built, tmp_path / 'whole')
  shutil.copytree(tmp_path / 'whole', tmp_path / 'stopped')
  shutil.rmtree(tmp_path / 'stopped' / 'checkpoints' / '4')
  run.train(built, tmp_path / 'stopped')
  whole, stopped = (
    lvdecode.load(tmp_path / name, 4) for name in ('whole', 'stopped')
  )
  jax.tree.map(np.testing.assert_array_equal, whole.params, stopped.params)
  lines = [
    json.loads(line)
    for line in (tmp_path / 'stopped' / 'metrics.jsonl')
    .read_text()
    .splitlines()
  ]
  assert lines[-1]['step'] == 4
  assert any(line.get('train/beta', 0) > 0 for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize(('kind', 'devices'), [('mesh', 8), ('pmap', 1)])
def test_the_room_for_logits_is_that_of_a_device(tmp_path, kind, devices):
  config = base.get_config('quick')
  config.training.parallel = kind
  config.objective.logits_mib = 3
  built = settings.from_dict(config.to_dict())
  with run._opened(built, tmp_path, '') as spec:
    assert spec.task.objective.logits_bytes == 3 * devices * 2**20
  # It is no part of the run.
  written = json.loads((tmp_path / 'settings.json').read_text())
  assert written['objective']['logits_mib'] == 3


@pytest.mark.slow
def test_a_process_reads_its_own_rows_of_every_batch(tmp_path, monkeypatch):
  config = base.get_config('quick')
  config.training.parallel = 'pmap'
  built = settings.from_dict(config.to_dict())
  with run._opened(built, tmp_path, '') as spec:
    whole = next(spec.data).tokens
  half = len(whole) // 2
  monkeypatch.setattr(run.jax, 'process_count', lambda: 2)
  for process in (0, 1):
    monkeypatch.setattr(
      run.jax, 'process_index', lambda process=process: process
    )
    monkeypatch.setattr(run.hosts, 'count', lambda: 1)  # there is no other
    with run._opened(built, tmp_path, '') as spec:
      part = next(spec.data).tokens
    rows = slice(process * half, (process + 1) * half)
    np.testing.assert_array_equal(part, whole[rows])


@pytest.mark.slow
def test_a_run_trained_with_others_has_a_device_to_itself(tmp_path):
  config = base.get_config('quick')
  config.training.parallel = 'mesh'
  config.objective.logits_mib = 3
  config.pipeline.batch_size = 12  # of which 8 devices could take no part
  built = settings.from_dict(config.to_dict())
  with pytest.raises(errors.UserError, match='12'):
    with run._opened(built, tmp_path / 'alone', ''):
      pass
  with run._opened(built, tmp_path, '', together=True) as spec:
    assert spec.task.objective.logits_bytes == 3 * 2**20


@pytest.mark.slow
@pytest.mark.long
def test_one_device_and_eight_end_in_the_same_parameters(tmp_path):
  assert jax.local_device_count() == 8
  params = {}
  for kind in ('jit', 'pmap', 'mesh', 'fsdp'):
    config = base.get_config('quick')
    config.training.steps = 6
    config.training.evaluate_every = 6
    config.training.checkpoint_every = 6
    config.objective.beta.duration = '6 steps'
    config.objective.word_dropout = 0.2
    config.training.parallel = kind
    config.training.model_axis = 2 if kind == 'fsdp' else 1
    run.train(settings.from_dict(config.to_dict()), tmp_path / kind)
    params[kind] = lvdecode.load(tmp_path / kind).params
  start = jax.tree.leaves(params.pop('jit'))
  # Six Adam steps move a parameter by up to 6e-3; rounding in sums over
  # devices by a thousandth of that.
  for found in params.values():
    for one, many in zip(start, jax.tree.leaves(found), strict=True):
      np.testing.assert_allclose(one, many, atol=1e-5)


@pytest.mark.slow
@pytest.mark.long
def test_runs_trained_together_end_as_one_by_one(tmp_path):
  """Under dropout, with other seeds, rates and weights of the KL."""
  members = {}
  for i, name in enumerate(('first', 'second')):
    config = base.get_config('quick')
    config.seed = i
    config.optimizer.learning_rate = 1e-3 * (1 + i)
    config.objective.beta.end = 1 - 0.5 * i
    config.objective.beta.duration = '6 steps'
    config.objective.word_dropout = 0.2
    config.model.decoder.dropout = 0.1
    config.model.encoder.dropout = 0.1
    config.training.parallel = 'jit'
    config.training.steps = 6
    config.training.evaluate_every = 6
    config.training.checkpoint_every = 6
    members[name] = settings.from_dict(config.to_dict())
  run.train_together(members, tmp_path / 'together')
  for name, own in members.items():
    run.train(own, tmp_path / 'alone' / name)
    alone = lvdecode.load(tmp_path / 'alone' / name).params
    group = lvdecode.load(tmp_path / 'together' / name).params
    pairs = zip(jax.tree.leaves(alone), jax.tree.leaves(group), strict=True)
    for one, other in pairs:
      np.testing.assert_allclose(one, other, atol=1e-5)
    files = {path.name for path in (tmp_path / 'alone' / name).iterdir()}
    there = {path.name for path in (tmp_path / 'together' / name).iterdir()}
    assert files == there


@pytest.mark.slow
def test_a_mistake_of_a_member_leaves_its_folder_as_it_was(tmp_path, capsys):
  config = base.get_config('quick')
  config.optimizer.multipliers = (('nothing', 1.0), ('.*', 1.0))
  config.training.parallel = 'jit'
  built = settings.from_dict(config.to_dict())
  with pytest.raises(SystemExit):
    run.train_together({'one': built}, tmp_path)
  assert "'nothing'" in capsys.readouterr().err
  assert {path.name for path in (tmp_path / 'one').iterdir()} <= {
    'data',
    '.lock',
  }


def test_micro_batches_of_one_text_are_refused_where_texts_are_compared():
  """63 texts in micro-batches of 2 at most are taken one by one."""
  config = base.get_config('quick')
  config.training.parallel = 'jit'
  config.pipeline.batch_size = 63
  config.training.micro_batch = 2
  config.model.posterior.batch_norm = 0.5
  config.objective.free_bits.kind = 'none'
  with pytest.raises(errors.UserError, match='batch_norm compares .* one by'):
    run._devices(settings.from_dict(config.to_dict()))
  config.pipeline.batch_size = 64
  run._devices(settings.from_dict(config.to_dict()))


@pytest.mark.slow
def test_a_dry_run_reads_the_validation_split_too(tmp_path):
  (tmp_path / 'train.txt').write_text('so it was .\n' * 40)
  (tmp_path / 'test.txt').write_text('it was .\n')
  (tmp_path / 'validation.txt').write_text('it was\n' + 'so ' * 90 + '\n')
  config = base.get_config('quick')
  config.training.parallel = 'jit'
  config.data.source, config.data.path = 'files', str(tmp_path)
  config.pipeline.overlong = 'refuse'
  built = settings.from_dict(config.to_dict())
  with pytest.raises(errors.UserError, match='validation.txt:2: .* 90 tokens'):
    run.dry_run(built, str(tmp_path / 'dry'))
