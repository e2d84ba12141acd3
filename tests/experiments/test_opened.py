"""A trained model as the commands open it."""

import dataclasses
import json
import pathlib
import types

from absl import flags
import pytest

from configs import base
from experiments import opened
from lvdecode import errors
from lvdecode import settings
from lvdecode.text import sources


def load(monkeypatch, source, path):
  tree = base.get_config('quick').to_dict()
  tree['data'] |= {'source': source, 'path': '/elsewhere'}
  config = settings.from_dict(tree)
  monkeypatch.setattr(
    opened.restore,
    'load',
    lambda folder, step: types.SimpleNamespace(config=config),
  )
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
  monkeypatch.setattr(flags.FLAGS['data_path'], 'value', path)
  return opened.load(pathlib.Path('runs/mine')).config.data.path


def test_data_that_were_moved_are_found_by_a_flag(monkeypatch):
  assert load(monkeypatch, 'files', None) == '/elsewhere'
  assert load(monkeypatch, 'files', 'here.txt') == 'here.txt'
  with pytest.raises(errors.UserError, match="'embedded'.*leave it out"):
    load(monkeypatch, 'embedded', 'here.txt')


def test_a_split_of_other_data_is_refused(tmp_path):
  lines = [f'the soup {n}\n' for n in range(40)]
  path = tmp_path / 'texts.txt'
  path.write_text(''.join(lines))
  config = settings.from_dict(base.get_config('quick').to_dict())
  data = dataclasses.replace(config.data, source='files', path=str(path))
  model = types.SimpleNamespace(
    config=dataclasses.replace(config, data=data), workdir=tmp_path / 'run'
  )
  model.workdir.mkdir()
  (model.workdir / 'settings.json').write_text(
    json.dumps(
      {'data_fingerprint': sources.fingerprint(data, model.workdir / 'data')}
    )
  )
  assert len(opened.texts(model, 'test').texts) == 2
  path.write_text(''.join(lines[1:]))
  with pytest.raises(errors.UserError, match='the data have changed'):
    opened.texts(model, 'test')
