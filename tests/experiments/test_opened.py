"""A trained model as the commands open it."""

import pathlib
import types

from absl import flags
import pytest

from configs import base
from experiments import opened
from lvdecode import errors
from lvdecode import settings


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
