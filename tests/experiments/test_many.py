"""The command as several processes, as if each were a host."""

import house
import jax
import many
import numpy as np
import pytest

from configs import base
from experiments import run
import lvdecode
from lvdecode import settings

CHANGES = {
  'model.decoder.layers': 1,
  'model.encoder.layers': 1,
  'pipeline.lengths': (24,),
  'training.steps': 4,
  'training.evaluate_every': 4,
  'training.checkpoint_every': 4,
  'objective.beta.duration': '4 steps',
}


def start(workdir, count, *flags, seeds=(0, 0)):
  def command(coordinator, process):
    return [
      '-m',
      'experiments.run',
      f'--config={house.ROOT}/configs/base.py:quick',
      f'--workdir={workdir}',
      *(f'--config.{key}={value}' for key, value in CHANGES.items()),
      f'--config.seed={seeds[process]}',
      f'--coordinator={coordinator}',
      f'--process_id={process}',
      f'--num_processes={count}',
      '--heartbeat_seconds=30',
      *flags,
    ]

  return many.start(count, command, devices=2)


@pytest.mark.slow
@pytest.mark.long
def test_two_processes_end_as_one(tmp_path):
  config = base.get_config('quick')
  config.training.parallel = 'jit'
  with config.unlocked():
    config.update_from_flattened_dict(CHANGES)
  run.train(settings.from_dict(config.to_dict()), tmp_path / 'one')
  ended = many.finish(
    start(tmp_path / 'two', 2, '--config.training.parallel=fsdp'), 500
  )
  for code, _, said in ended:
    assert code == 0, said
  one, two = (lvdecode.load(tmp_path / name) for name in ('one', 'two'))
  pairs = zip(
    jax.tree.leaves(one.params), jax.tree.leaves(two.params), strict=True
  )
  for a, b in pairs:
    np.testing.assert_allclose(a, b, atol=1e-5)
  there = {path.name for path in (tmp_path / 'two').iterdir()}
  assert there == {path.name for path in (tmp_path / 'one').iterdir()}
  for words in ('training texts', 'curves   '):  # one speaks
    assert [words in out for _, out, _ in ended] == [True, False]


@pytest.mark.slow
@pytest.mark.long
def test_processes_that_were_started_differently_say_so(tmp_path):
  ended = many.finish(start(tmp_path / 'run', 2, seeds=(0, 1)))
  for code, _, said in ended:
    assert code == 2, said
    line = said.strip().splitlines()[-1]
    assert line.startswith('error: seed is 1 on process 1 and 0 on process 0')
  assert not (tmp_path / 'run').exists()
