"""Eight simulated devices, strict shapes and a compilation cache for tests."""

import os
import pathlib
import sys
import tempfile

# Before JAX starts. NPROC: thread pools sized below the device count can
# deadlock a collective (the rendezvous waits for a thread that never comes).
os.environ.setdefault('NPROC', '32')
os.environ['JAX_PLATFORMS'] = os.environ.get('JAX_PLATFORMS', 'cpu')
os.environ['XLA_FLAGS'] = (
  os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'
)

# Lets tests say `import tiny`.
sys.path.append(str(pathlib.Path(__file__).parent))

import jax  # noqa: E402
import jaxtyping  # noqa: E402

# Shape annotations are checked in tests and cost nothing elsewhere.
jaxtyping.install_import_hook('lvdecode', 'beartype.beartype')

jax.config.update('jax_numpy_rank_promotion', 'raise')
_CACHE = pathlib.Path(tempfile.gettempdir()) / f'lvdecode-tests-{os.getuid()}'
_CACHE.mkdir(mode=0o700, exist_ok=True)
jax.config.update('jax_compilation_cache_dir', str(_CACHE))
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)
