"""What is written beside figures, and what of an older file is kept."""

import dataclasses
import json
import math
import pathlib

import jax
import pytest

from lvdecode import errors
from lvdecode.evaluation import provenance
from lvdecode.training import hosts


def make(workdir, **changes):
  chosen = dict(
    split='test',
    texts=4,
    asked_texts=0,
    step=7,
    batch_size=3,
    samples=10,
    seed=0,
  )
  return provenance.make(workdir, **chosen | changes)


@pytest.fixture(name='workdir')
def _workdir(tmp_path):
  settings = {'data_fingerprint': 'f', 'a': {'b': 1, 'c': 2}}
  (tmp_path / 'settings.json').write_text(json.dumps(settings))
  return tmp_path


def test_the_hash_is_of_the_settings_not_of_their_layout(workdir):
  first = make(workdir)
  other = {'a': {'c': 2, 'b': 1}, 'data_fingerprint': 'f'}
  (workdir / 'settings.json').write_text(json.dumps(other, indent=4))
  assert make(workdir) == first
  other['a']['b'] = 3
  (workdir / 'settings.json').write_text(json.dumps(other))
  assert make(workdir).settings_hash != first.settings_hash


def test_it_names_libraries_devices_and_data(workdir):
  got = make(workdir)
  assert got.libraries['jax'] == jax.__version__
  # What counts words and compares texts, too.
  assert {'jaxlib', 'sacrebleu', 'rapidfuzz'} < set(got.libraries)
  assert all(got.libraries.values())
  assert len(got.code) == 16
  assert (got.device, got.devices) == ('cpu', 8)
  assert got.data_fingerprint == 'f'


def test_who_chose_the_checkpoint_changes_no_figure(workdir):
  path = workdir / 'test.json'
  provenance.write(path, make(workdir), {'use': {}}, {'use': 1.0}, 7)
  assert provenance.read(path)['asked_step'] == 7
  assert set(provenance.measured(path, make(workdir), None)) == {'use'}
  provenance.write(path, make(workdir), {'text': {}}, {'text': 1.0})
  assert provenance.read(path)['asked_step'] is None
  assert set(provenance.measured(path, make(workdir), None)) == {'use', 'text'}


def test_sections_of_other_code_are_not_kept(workdir, monkeypatch):
  written(workdir, {'use': {}})
  monkeypatch.setattr(hosts, 'code', lambda: {'code.source': 'other'})
  assert set(written(workdir, {'text': {}})) == {'provenance', 'text'}


def written(workdir, sections, **changes):
  path = provenance.folder(workdir) / 'test.json'
  seconds = dict.fromkeys(sections, 2.0)
  provenance.write(path, make(workdir, **changes), sections, seconds)
  return json.loads(path.read_text())


def test_what_is_not_finite_is_null(workdir):
  got = written(workdir, {'use': {'x': [math.nan, {'y': -math.inf}], 'z': 1.5}})
  assert got['use'] == {'x': [None, {'y': None}], 'z': 1.5}


def test_sections_of_the_same_provenance_are_kept(workdir):
  first = {'likelihood': {'nll': 1}, 'figures': {'nll': 1}, 'use': {}}
  got = written(workdir, first)
  assert got['provenance']['seconds_per_sample'] == 2.0 / 40
  got = written(workdir, {'use': {'new': 1}}, samples=None)
  assert set(got) == {'provenance', *first}
  assert got['use'] == {'new': 1}
  assert got['provenance']['samples'] == 10
  # With another K, what depends on K goes.
  got = written(workdir, {'likelihood': {'nll': 2}}, samples=20)
  assert set(got) == {'provenance', 'likelihood', 'use'}
  assert got['likelihood'] == {'nll': 2}
  # Under other parameters, everything.
  assert set(written(workdir, {'use': {}}, step=8)) == {'provenance', 'use'}


@pytest.mark.parametrize('text', ['', '[]', '{}', '{"kl": 1.0}', '{"prov'])
def test_a_file_of_another_kind_is_replaced(workdir, text):
  (provenance.folder(workdir) / 'test.json').write_text(text)
  assert set(written(workdir, {'use': {}})) == {'provenance', 'use'}


def test_every_field_is_written(workdir):
  got = written(workdir, {'use': {}})['provenance']
  names = {f.name for f in dataclasses.fields(provenance.Provenance)}
  assert set(got) == names | {'seconds', 'asked_step', 'latest_step'}


def test_another_evaluation_may_try_the_folder_too(tmp_path, monkeypatch):
  touch = pathlib.Path.touch

  def and_the_other_ends(path):
    touch(path)
    path.unlink()

  monkeypatch.setattr(pathlib.Path, 'touch', and_the_other_ends)
  assert provenance.folder(tmp_path).is_dir()


def test_a_folder_in_the_way_is_named(tmp_path):
  (tmp_path / 'evaluation').write_text('')
  with pytest.raises(errors.UserError, match='evaluation cannot be written'):
    provenance.folder(tmp_path)
