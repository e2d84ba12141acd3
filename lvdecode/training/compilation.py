"""Compiled steps kept between runs, where no other user can put any."""

import logging
import os
import pathlib
import stat

import jax


def enable_cache() -> pathlib.Path | None:
  """Keeps compiled programs in the user's cache folder.

  That is $XDG_CACHE_HOME/lvdecode/jax, or ~/.cache/lvdecode/jax. What lies
  there is executed, so the folder must be ours and ours alone; otherwise, and
  where none can be made, this warns and returns None.
  """
  # The standard wants relative paths ignored.
  base = pathlib.Path(os.environ.get('XDG_CACHE_HOME', ''))
  if not base.is_absolute():
    base = pathlib.Path.home() / '.cache'
  path = base / 'lvdecode' / 'jax'
  try:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
      logging.warning('no compilation cache: %s is not our own folder', path)
      return None
    path.chmod(0o700)
  except OSError as error:
    logging.warning('no compilation cache at %s: %s', path, error.strerror)
    return None
  jax.config.update('jax_compilation_cache_dir', str(path))
  # A start compiles dozens of small programs: together they take seconds.
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)
  return path
