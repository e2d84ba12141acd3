"""What the loss over a large vocabulary holds, as the compiler plans it."""

import pytest

from configs import base
from lvdecode import settings as settings_lib
from lvdecode.bench import loss

VOCAB_SIZE = 50_257


@pytest.fixture(name='gpt2', scope='module')
def _gpt2():
  c = base.get_config()
  c.pipeline.batch_size = 16
  c.pipeline.lengths = (1_024,)
  c.model.dtype = 'float32'  # a CPU's compiler widens bfloat16
  c.model.encoder.kind = 'own'
  c.model.decoder.width = 768
  c.model.decoder.heads = 12
  c.model.decoder.positions = 1_024
  return settings_lib.from_dict(c.to_dict())


def _held(settings, max_bytes):
  """Temporary bytes of the program, in logits of the whole batch."""
  found = loss.lowered(settings, VOCAB_SIZE, max_bytes).compile()
  whole = loss.logits_bytes(settings, VOCAB_SIZE)
  return found.memory_analysis().temp_size_in_bytes / whole


def test_chunks_hold_less_than_a_fifth_of_the_logits(gpt2):
  for max_bytes in (gpt2.objective.logits_bytes, 128 * 2**20):
    assert _held(gpt2, max_bytes) < 0.2
  assert _held(gpt2, loss.logits_bytes(gpt2, VOCAB_SIZE)) > 1


def test_the_way_in_chunks_runs():
  c = base.get_config('quick')
  settings = settings_lib.from_dict(c.to_dict())
  found = loss.make(settings, 99, 4 * 99 * settings.pipeline.batch_size)
  found.subject.run(2)
  assert found.temporary_bytes > 0 and found.subject.compile_seconds > 0
