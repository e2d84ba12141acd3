"""From the command to the first step: with a cold compilation cache, and warm."""

import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

from lvdecode import errors
from lvdecode.bench import machine

_CONFIG = 'configs/quickstart.py'
_FIRST_STEP = 'took the first step'  # of training/drive.py
TARGET = 15.0  # seconds, warm, on a CPU


def measure() -> dict[str, Any]:
  """Runs the quickstart twice, until its first step.

  Raises:
    UserError: started elsewhere than in the repository, or a run that fails.
  """
  if not pathlib.Path(_CONFIG).exists():
    raise errors.UserError(
      f'{_CONFIG} is not here: start the measurement in the repository'
    )
  with tempfile.TemporaryDirectory() as folder:
    seconds = [
      _first_step(pathlib.Path(folder), name) for name in ('cold', 'warm')
    ]
  rows = [
    {
      'name': f'{name} compilation cache',
      'seconds': taken,
      'rounds': [taken],
      'unit': 'start to first step',
    }
    for name, taken in zip(('cold', 'warm'), seconds, strict=True)
  ]
  return {
    'kind': 'startup',
    'size': 'quickstart',
    'shape': f'{_CONFIG}, a fresh process each',
    'rows': rows,
    'limits': {},
    'ratios': [],
    'notes': [f'target with a warm cache: at most {TARGET:g} s'],
    'peak_bytes': machine.peak_bytes(),
  }


def _first_step(folder: pathlib.Path, name: str) -> float:
  words = [
    sys.executable,
    '-m',
    'experiments.run',
    f'--config={_CONFIG}',
    f'--workdir={folder / name}',
  ]
  environment = os.environ | {'XDG_CACHE_HOME': str(folder / 'cache')}
  begin = time.perf_counter()
  process = subprocess.Popen(
    words,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    env=environment,
    text=True,
  )
  said = []
  try:
    assert process.stdout is not None
    for line in process.stdout:
      said.append(line)
      if _FIRST_STEP in line:
        return time.perf_counter() - begin
  finally:
    process.kill()
    process.communicate()
  raise errors.UserError(
    f'{" ".join(words[1:])} took no step: {said[-1] if said else "no output"}'
  )
