"""Eight simulated devices, strict shapes and quick compilation for tests."""

import os
import pathlib
import sys

# Before JAX starts. NPROC: thread pools sized below the device count can
# deadlock a collective (the rendezvous waits for a thread that never comes).
os.environ.setdefault('NPROC', '32')
os.environ['JAX_PLATFORMS'] = os.environ.get('JAX_PLATFORMS', 'cpu')
# Lets tests say `import tiny`.
sys.path.append(str(pathlib.Path(__file__).parent))

import house

os.environ['XLA_FLAGS'] = ' '.join(
  (
    os.environ.get('XLA_FLAGS', ''),
    '--xla_force_host_platform_device_count=8',
    house.QUICK_COMPILATION,
  )
)

import jax
import jaxtyping
import pytest

# Shape annotations are checked in tests and cost nothing elsewhere. Not in
# the grammar, whose small functions run a million times and know no array.
jaxtyping.install_import_hook(
  [
    f'lvdecode.{room}'
    for room in (
      'evaluation',
      'latent',
      'nn',
      'pretrained',
      'report',
      'restore',
      'sampling',
      'settings',
      'tasks',
      'text.batching',
      'text.conditions',
      'text.corpora',
      'text.labels',
      'text.pipeline',
      'text.tokenizers',
      'trained',
      'training',
    )
  ],
  'beartype.beartype',
)

jax.config.update('jax_numpy_rank_promotion', 'raise')
_ROOT = pathlib.Path(__file__).parents[1]
jax.config.update(
  'jax_compilation_cache_dir', str(_ROOT / '.pytest_cache' / 'jax')
)
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)


@pytest.fixture(name='quickstart', scope='session')
def _quickstart(tmp_path_factory):
  """The repository's folder after a quick run of the quickstart."""
  return house.build(tmp_path_factory.mktemp('house'))
