"""Who may use a folder."""

import json
import resource

import pytest

from lvdecode import errors
from lvdecode.training import workdir

SETTINGS = {
  'training': {'steps': 10, 'ema': 0.0},
  'seed': 1,
  'rules': (('a', 1),),
}


def claim(path, settings, may_change=()):
  with workdir.claim(path, settings, may_change):
    return workdir.read_settings(path)


def test_settings_are_written_and_found_again(tmp_path):
  folder = tmp_path / 'deep' / 'run'
  assert claim(folder, SETTINGS)['training'] == {'steps': 10, 'ema': 0.0}
  # A tuple comes back as a list and is no difference.
  assert claim(folder, SETTINGS)['rules'] == [['a', 1]]


def test_other_settings_are_named_with_both_values(tmp_path):
  claim(tmp_path, SETTINGS)
  other = {'training': {'steps': 20, 'ema': 0.5}, 'rules': [['a', 1]], 'new': 3}
  with pytest.raises(errors.UserError) as error:
    claim(tmp_path, other, ('training.steps',))
  message = str(error.value)
  assert 'training.ema (there 0.0, now 0.5)' in message
  assert 'seed (there 1, now absent)' in message
  assert 'new (there absent, now 3)' in message
  assert 'steps' not in message and 'rules' not in message
  assert '\n' not in message
  assert workdir.read_settings(tmp_path)['seed'] == 1


def test_a_key_that_may_change_is_brought_up_to_date(tmp_path):
  claim(tmp_path, SETTINGS)
  longer = SETTINGS | {'training': {'steps': 20, 'ema': 0.0}}
  assert claim(tmp_path, longer, ('training.steps',))['training']['steps'] == 20


def fail(path, settings=SETTINGS):
  """A run that finds a mistake when it has written its tokenizer."""
  with pytest.raises(errors.UserError, match='no such token'):
    with workdir.claim(path, settings):
      (path / 'tokenizer').mkdir(exist_ok=True)
      (path / 'tokenizer' / 'tokenizer.json').write_text('{}')
      (path / 'labels.json').write_text('[]')
      (path / 'data').mkdir(exist_ok=True)
      raise errors.UserError('no such token')


def test_a_mistake_leaves_a_new_folder_to_the_corrected_run(tmp_path):
  (tmp_path / 'notes.txt').write_text('mine')
  fail(tmp_path)
  left = {path.name for path in tmp_path.iterdir()}
  assert left == {'.lock', 'data', 'notes.txt'}
  assert claim(tmp_path, SETTINGS | {'seed': 2})['seed'] == 2


@pytest.mark.parametrize('begun', ['checkpoints', 'metrics.jsonl'])
def test_what_was_trained_stays_whatever_happens(begun, tmp_path):
  with pytest.raises(errors.UserError, match='lost'):
    with workdir.claim(tmp_path, SETTINGS):
      if begun == 'checkpoints':
        (tmp_path / begun).mkdir()
      else:
        (tmp_path / begun).write_text('{"step": 1}\n')
      raise errors.UserError('lost')
  assert workdir.read_settings(tmp_path)['seed'] == 1
  # Nor does a mistake in going on, which may be in what lies there.
  claim(tmp_path / 'other', SETTINGS)
  fail(tmp_path / 'other')
  assert (tmp_path / 'other' / 'settings.json').exists()


def test_two_runs_cannot_share_a_folder(tmp_path):
  with workdir.claim(tmp_path, SETTINGS):
    with pytest.raises(errors.UserError, match='another run is using'):
      claim(tmp_path, SETTINGS)
  claim(tmp_path, SETTINGS)


def test_unreadable_settings_are_one_line(tmp_path):
  with pytest.raises(errors.UserError, match='not the folder of a run'):
    workdir.read_settings(tmp_path)
  (tmp_path / 'settings.json').write_text('{')
  with pytest.raises(errors.UserError, match='cannot be read') as error:
    claim(tmp_path, SETTINGS)
  assert '\n' not in str(error.value)
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.UserError, match='cannot be made'):
    claim(tmp_path / 'file' / 'run', SETTINGS)


def test_what_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path):
  path = tmp_path / 'x.json'
  path.write_text('old')
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  try:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    with pytest.raises(errors.UserError, match='x.json cannot be written'):
      workdir.write_text(path, 'a' * 5000)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert path.read_text() == 'old'
  assert [p.name for p in tmp_path.iterdir()] == ['x.json']


def test_writing_replaces_the_file_as_a_whole(tmp_path):
  path = tmp_path / 'x.json'
  path.write_text('old')
  with path.open() as old:
    workdir.write_text(path, json.dumps([1]))
    assert old.read() == 'old'
  assert path.read_text() == '[1]'
  assert [p.name for p in tmp_path.iterdir()] == ['x.json']
