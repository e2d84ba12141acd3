"""A folder like the repository's, in which commands run as a user's do."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
QUICKSTART = 'runs/quickstart'
# Two thirds of the tests' time is compilation, of programs that run once.
QUICK_COMPILATION = (
  '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true'
)
_SHOWN = ('configs', 'docs', 'experiments', 'lvdecode', 'Makefile', 'README.md')


def build(folder: pathlib.Path) -> pathlib.Path:
  """The repository with a quick run of the quickstart in its place."""
  for name in _SHOWN:
    (folder / name).symlink_to(ROOT / name)
  config = '--config=configs/quickstart.py:quick'
  python(folder, '-m', 'experiments.run', config, f'--workdir={QUICKSTART}')
  return folder


def environment() -> dict[str, str]:
  """A user's: real devices, data in the workdir; but the tests' own cache."""
  theirs = dict(os.environ)
  for name in ('NPROC', 'PYTHONPATH', 'TFDS_DATA_DIR'):
    theirs.pop(name, None)
  return theirs | {
    'XDG_CACHE_HOME': str(ROOT / '.pytest_cache' / 'commands'),
    'XLA_FLAGS': QUICK_COMPILATION,
  }


def call(folder: pathlib.Path, *arguments: str) -> tuple[int, str, str]:
  """The exit code of Python run in `folder`, what it writes, and its errors."""
  done = subprocess.run(
    [sys.executable, *arguments],
    cwd=folder,
    env=environment(),
    capture_output=True,
    text=True,
    timeout=900,
    check=False,
  )
  return done.returncode, done.stdout, done.stderr


def python(folder: pathlib.Path, *arguments: str) -> str:
  """What Python writes, run in `folder`; it must end well."""
  code, out, err = call(folder, *arguments)
  assert code == 0, f'{arguments}: {err[-3000:]}'
  return out
