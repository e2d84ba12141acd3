"""What the machine is, and the most that it can do, measured there and then."""

from collections.abc import Callable
import datetime
import importlib.metadata
import os
import pathlib
import platform
import resource
import sys
import time

import jax
import jax.numpy as jnp

_PACKAGES = ('jax', 'jaxlib', 'flax', 'numpy', 'torch', 'transformers')
# Large enough that nothing but the product is timed.
_SIZES = {'cpu': 1_024}
_SIZE = 8_192
_COPIED = {'cpu': 2**26}
_COPY = 2**30
# An accelerator is given so many at once: a single call is half waiting.
_CALLS = {'cpu': 1}
_MANY = 20


def describe() -> dict[str, object]:
  """The hardware, the versions and the date that absolute times belong to."""
  versions = {}
  for name in _PACKAGES:
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return {
    'date': datetime.date.today().isoformat(),
    'processor': _processor(),
    'cores': len(os.sched_getaffinity(0)),
    'load': os.getloadavg()[0],
    'device': jax.devices()[0].device_kind,
    'devices': jax.local_device_count(),
    'backend': jax.default_backend(),
    'python': platform.python_version(),
    'versions': versions,
  }


def _processor() -> str:
  info = pathlib.Path('/proc/cpuinfo')
  if info.exists():
    for line in info.read_text().splitlines():
      if line.startswith('model name'):
        return line.partition(':')[2].strip()
  return platform.processor() or platform.machine()


def matmul(dtype: str) -> Callable[[], float]:
  """A product of two square matrices: calling it gives its FLOP/s."""
  size = _SIZES.get(jax.default_backend(), _SIZE)
  a, b = (
    jax.random.normal(jax.random.key(seed), (size, size), dtype)
    for seed in (0, 1)
  )
  multiply = jax.jit(jnp.matmul)
  multiply(a, b).block_until_ready()

  return lambda: 2 * size**3 / _seconds(lambda: multiply(a, b))


def bandwidth() -> Callable[[], float]:
  """A sum over a large array: calling it gives bytes read a second."""
  size = _COPIED.get(jax.default_backend(), _COPY)
  numbers = jnp.ones(size // 4, jnp.float32)
  add = jax.jit(jnp.sum)
  add(numbers).block_until_ready()

  return lambda: size / _seconds(lambda: add(numbers))


def _seconds(call: Callable[[], jax.Array]) -> float:
  """Of one call, from as many in a row as keep the device at work."""
  calls = _CALLS.get(jax.default_backend(), _MANY)
  begin = time.perf_counter()
  jax.block_until_ready([call() for _ in range(calls)])
  return (time.perf_counter() - begin) / calls


def peak_bytes() -> int:
  """The most memory so far: of the device, or else of this process."""
  stats = jax.devices()[0].memory_stats()
  if stats and 'peak_bytes_in_use' in stats:
    return int(stats['peak_bytes_in_use'])
  unit = 1 if sys.platform == 'darwin' else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
