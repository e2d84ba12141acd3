"""What is timed beside ours does the same work, on the same kind of device."""

import dataclasses
import sys
import types

import jax
import pytest

from configs import base
from lvdecode import errors
from lvdecode import settings as settings_lib
from lvdecode.bench import peer
from lvdecode.bench import training
from lvdecode.sweeps import points

QUICK = base.get_config('quick').to_dict()
QUICK['model']['injection']['points'] = ('input', 'memory', 'softmax')


def settings(**changes):
  changes = {key.replace('__', '.'): value for key, value in changes.items()}
  return settings_lib.from_dict(points.overridden(QUICK, changes))


@pytest.mark.parametrize(
  ('backend', 'cuda', 'there'),
  [
    ('cpu', False, True),
    ('cpu', True, True),  # and is not used
    ('gpu', True, True),
    ('gpu', False, False),
    ('tpu', True, False),
  ],
)
def test_there_is_no_peer_on_another_kind_of_device(
  monkeypatch, backend, cuda, there
):
  chosen = []
  torch = types.SimpleNamespace(
    cuda=types.SimpleNamespace(is_available=lambda: cuda),
    set_float32_matmul_precision=chosen.append,
  )
  monkeypatch.setitem(sys.modules, 'torch', torch)
  monkeypatch.setitem(sys.modules, 'transformers', types.SimpleNamespace())
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  assert (peer.missing() == '') == there
  if there:
    assert peer._device() == {'cpu': 'cpu', 'gpu': 'cuda'}[backend]
    assert chosen == ['high'] * (backend == 'gpu')


@pytest.mark.parametrize(
  'changes',
  [
    {'objective__samples': 4},
    {'model__injection__points': ('memory',)},
    {'model__injection__memory_tied': True},
    {'training__accumulate': 2},
    {'training__ema': 0.9},
  ],
)
def test_a_peer_that_does_other_work_is_left_out(changes):
  assert peer.unlike(settings()) == ''
  (key,) = changes
  assert key.replace('__', '.') in peer.unlike(settings(**changes))


@pytest.mark.parametrize(
  ('changes', 'parts'),
  [({'micro_batch': 4}, 2), ({'accumulate': 4}, 4), ({'accumulate': 3}, None)],
)
def test_a_step_takes_the_micro_batches_of_a_run(monkeypatch, changes, parts):
  class Enough(Exception):
    pass

  def train_step(*args, accumulate, **rest):
    raise Enough(accumulate)

  monkeypatch.setattr(training.drive, 'train_step', train_step)
  chosen = settings(pipeline__batch_size=8, training__parallel='jit')
  chosen = dataclasses.replace(
    chosen, training=dataclasses.replace(chosen.training, **changes)
  )
  task = training.variants(chosen, 50)['ours']
  with pytest.raises((Enough, errors.UserError)) as raised:
    training.subject(chosen, task)
  assert raised.value.args == (parts,) or parts is None
  assert parts or 'does not divide' in str(raised.value)
