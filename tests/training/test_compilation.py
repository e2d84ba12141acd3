"""Where compiled programs are kept."""

import os
import stat

import jax
import pytest

from lvdecode.training import compilation


@pytest.fixture(autouse=True)
def _restore_cache():
  names = (
    'jax_compilation_cache_dir',
    'jax_persistent_cache_min_compile_time_secs',
  )
  before = [(name, getattr(jax.config, name)) for name in names]
  yield
  for name, value in before:
    jax.config.update(name, value)


def test_the_folder_is_ours_alone(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  path = tmp_path / 'lvdecode' / 'jax'
  path.mkdir(parents=True, mode=0o755)
  assert compilation.enable_cache() == path
  assert stat.S_IMODE(path.stat().st_mode) == 0o700
  assert jax.config.jax_compilation_cache_dir == str(path)


def test_without_xdg_it_is_below_home(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  for value in (None, 'relative'):
    if value is None:
      monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    else:
      monkeypatch.setenv('XDG_CACHE_HOME', value)
    assert compilation.enable_cache() == tmp_path / '.cache/lvdecode/jax'


def test_a_folder_of_someone_else_is_not_used(tmp_path, monkeypatch, caplog):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  monkeypatch.setattr(os, 'getuid', lambda: 12345)
  before = jax.config.jax_compilation_cache_dir
  assert compilation.enable_cache() is None
  assert 'not our own' in caplog.text
  assert jax.config.jax_compilation_cache_dir == before


def test_a_link_is_not_followed(tmp_path, monkeypatch, caplog):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  (tmp_path / 'lvdecode').mkdir()
  (tmp_path / 'other').mkdir(mode=0o755)
  (tmp_path / 'lvdecode' / 'jax').symlink_to(tmp_path / 'other')
  assert compilation.enable_cache() is None
  assert stat.S_IMODE((tmp_path / 'other').stat().st_mode) == 0o755


def test_no_folder_is_a_warning(tmp_path, monkeypatch, caplog):
  (tmp_path / 'lvdecode').write_text('a file')
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  assert compilation.enable_cache() is None
  assert 'no compilation cache' in caplog.text
