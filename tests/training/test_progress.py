"""What a run says and writes."""

import json
import logging
import math
import resource

import jax
import pytest
from tensorboardX.proto import event_pb2
import toy_task

from lvdecode import errors
from lvdecode.training import progress


def written(path):
  return [
    json.loads(line)
    for line in (path / 'metrics.jsonl').read_text().splitlines()
  ]


def test_table_counts_shapes_and_frozen():
  params = jax.eval_shape(toy_task.Toy().init, jax.random.key(0))
  trainable = jax.tree.map(lambda _: True, params)
  trainable['decoder']['bias'] = False
  rows = {
    row[0]: row[1:]
    for row in map(
      str.split, progress.parameter_table(params, trainable).splitlines()
    )
    if row
  }
  assert rows['encoder'] == ['kernel', '5x4', '20', '20']
  assert rows['decoder'] == ['bias', '3,', 'kernel', '4x3', '15', '12']
  assert rows['total'] == ['35', '32']


def test_table_stops_at_two_levels():
  leaf = jax.ShapeDtypeStruct((2,), 'float32')
  params = {'a': {'b': {f'h_{i}': {'k': leaf} for i in range(6)}}}
  text = progress.parameter_table(params, jax.tree.map(lambda _: True, params))
  assert 'a/b' in text and 'h_0/k 2' in text
  assert 'and 2 more' in text and 'h_5' not in text


def test_line():
  assert progress.line(
    20, 100, {'loss': 3.21456, 'beta': 0.5}, 1234.5, 62.0
  ) == ('step 20/100  loss 3.215  beta 0.5  1,234 tokens/s  ETA 0:01:02')
  assert progress.line(1, 2, {}, math.nan, math.nan) == 'step 1/2'


def test_not_finite_is_valid_json(tmp_path):
  with progress.Writer(tmp_path, 0) as writer:
    writer.write(1, {'a': math.nan, 'b': math.inf, 'c': 1.5})
  assert written(tmp_path) == [{'step': 1, 'a': None, 'b': None, 'c': 1.5}]


def test_lines_after_the_checkpoint_are_dropped(tmp_path):
  with progress.Writer(tmp_path, 0) as writer:
    for step in range(1, 6):
      writer.write(step, {'a': float(step)})
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 3, "a"')
  with progress.Writer(tmp_path, 3) as writer:
    writer.write(4, {'a': 40.0})
  assert [(x['step'], x['a']) for x in written(tmp_path)] == [
    (1, 1.0),
    (2, 2.0),
    (3, 3.0),
    (4, 40.0),
  ]


def board_events(folder):
  """Length (8 bytes), checksum (4), event, checksum (4), and so on."""
  events = []
  for path in sorted(folder.iterdir()):
    data = path.read_bytes()
    while data:
      size = int.from_bytes(data[:8], 'little')
      events.append(event_pb2.Event.FromString(data[12 : 12 + size]))
      data = data[12 + size + 4 :]
  return events


def test_a_run_that_begins_anew_writes_its_first_line_once(tmp_path):
  for nll in (5.0, 6.0):  # killed before its first checkpoint
    with progress.Writer(tmp_path, 0) as writer:
      writer.write(0, {'nll': nll})
  (line,) = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  assert json.loads(line)['nll'] == 6.0


def test_tensorboard_is_told_to_forget_what_is_taken_again(tmp_path):
  with progress.Writer(tmp_path, 0) as writer:
    writer.write(5, {'a': 1.0, 'b': math.nan})
    writer.flush()
    first = board_events(tmp_path / 'tensorboard')
  assert [v.tag for e in first for v in e.summary.value] == ['a']
  # The first is no restart: without it, the second would be taken for that.
  assert [e.step for e in first if e.HasField('session_log')] == [0]
  with progress.Writer(tmp_path, 3):
    pass
  both = board_events(tmp_path / 'tensorboard')
  assert [e.step for e in both if e.HasField('session_log')] == [0, 4]
  # Within the same second, and the older file is still there.
  assert [v.tag for e in both for v in e.summary.value] == ['a']


def test_a_run_that_begins_anew_takes_back_its_first_evaluation(
  tmp_path, monkeypatch
):
  for process in (1, 2):
    monkeypatch.setattr('os.getpid', lambda process=process: process)
    with progress.Writer(tmp_path, 0):
      pass
  both = board_events(tmp_path / 'tensorboard')
  assert [e.step for e in both if e.HasField('session_log')] == [0, 0]


def test_a_full_disk_is_one_line(tmp_path):
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  try:
    # Files above 4 kB cannot be written: as good as a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    with pytest.raises(errors.UserError, match='metrics.jsonl .*too large'):
      with progress.Writer(tmp_path, 0) as writer:
        writer.write(1, {f'figure {n}': 1.0 for n in range(400)})
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_clock_leaves_pauses_out(monkeypatch):
  now = [0.0]
  monkeypatch.setattr(progress.time, 'perf_counter', lambda: now[0])
  clock = progress.Clock()
  assert all(map(math.isnan, clock.lap()))
  for _ in range(2):
    clock.start()
    clock.count(30.0)
    now[0] += 3
    clock.pause()
    now[0] += 100
  assert clock.lap() == (10.0, 3.0)
  assert all(map(math.isnan, clock.lap()))


def test_without_a_terminal_the_line_is_logged(caplog):
  with caplog.at_level(logging.INFO):
    with progress.Display(0, 10, '') as display:
      display.advance(1)
      display.show('step 1/10')
  assert caplog.messages == ['step 1/10']


def test_on_a_terminal_the_line_is_kept_in_place(monkeypatch, capsys, caplog):
  monkeypatch.setenv('FORCE_COLOR', '1')
  monkeypatch.setenv('TERM', 'xterm')
  with caplog.at_level(logging.INFO):
    with progress.Display(0, 10, '') as display:
      display.advance(1)
      display.show('step 1/10  loss 3')
  assert caplog.messages == []
  assert 'loss 3' in capsys.readouterr().err


@pytest.mark.parametrize('text', ['', '{\n', '\n'])
def test_a_damaged_file_is_begun_anew(tmp_path, text):
  (tmp_path / 'metrics.jsonl').write_text(text)
  with progress.Writer(tmp_path, 3) as writer:
    writer.write(4, {'a': 1.0})
  assert written(tmp_path) == [{'step': 4, 'a': 1.0}]
