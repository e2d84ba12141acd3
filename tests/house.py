"""A folder like the repository's, in which commands run as a user's do."""

import functools
import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
QUICKSTART = 'runs/quickstart'
# Two thirds of the tests' time is compilation, of programs that run once.
QUICK_COMPILATION = (
  '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true'
)
_SECONDS = 900
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


def run(
  folder: pathlib.Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
  """Python run in `folder` to its end, as by a user."""
  return subprocess.run(
    [sys.executable, *arguments],
    cwd=folder,
    env=environment(),
    capture_output=True,
    text=True,
    timeout=_SECONDS,
    check=False,
  )


def python(folder: pathlib.Path, *arguments: str) -> str:
  """What Python writes, run in `folder` as by a user; it must end well."""
  done = run(folder, *arguments)
  assert done.returncode == 0, f'{arguments}: {done.stderr[-3000:]}'
  return done.stdout


def call(
  folder: pathlib.Path,
  module: str,
  *arguments: str,
  given: dict[str, str] | None = None,
) -> tuple[int, str, str]:
  """The exit code of `python -m module`, what it writes, and its errors.

  It is forked from a process that has imported our libraries, which is half of
  what a small command costs; how they are imported, and what is done at exit, is
  up to `run`. `given` is the environment, in place of our own.
  """
  with tempfile.TemporaryDirectory() as name:
    said = [pathlib.Path(name) / stream for stream in ('out', 'err')]
    for path in said:
      path.touch()
    words = module, *arguments
    process = _warm().Process(
      target=_as_main, args=(folder, words, given or environment(), said)
    )
    process.start()
    try:
      process.join(_SECONDS)
      code = process.exitcode
    finally:
      process.kill()
      process.join()
    out, err = (path.read_text() for path in said)
  assert code is not None, f'{words} takes too long: {err[-3000:]}'
  return code, out, err


@functools.cache
def _warm():
  """Where processes are forked from one that holds our libraries."""
  context = multiprocessing.get_context('forkserver')
  paths = (ROOT / 'lvdecode').rglob('*.py')
  names = [
    '.'.join(path.relative_to(ROOT).with_suffix('').parts) for path in paths
  ]
  # Not PyTorch, which the benchmark's peer and nothing else imports.
  context.set_forkserver_preload(
    [name for name in names if 'torch' not in name]
  )
  return context


def _as_main(folder, words, given, said):
  """`python -m` with these words, in a process that was forked for it."""
  for stream, path in zip((1, 2), said, strict=True):
    os.dup2(os.open(path, os.O_WRONLY), stream)
  os.environ.clear()
  os.environ.update(given)
  os.chdir(folder)
  sys.path[:] = [str(folder)] + [
    path
    for path in sys.path
    if pathlib.Path(path) not in (ROOT, ROOT / 'tests')
  ]
  sys.argv = list(words)
  runpy.run_module(words[0], run_name='__main__', alter_sys=True)
