"""Memory that a step frees is there for the next one."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from lvdecode.training import allocator
kept = allocator.keep() if sys.argv[1] == 'keep' else False
import jax, jax.numpy as jnp

@jax.jit
def step(x):
  # Two temporary values of 64 MiB, of which none is an argument or a result.
  y = jax.lax.optimization_barrier(x[:, None] * x[None, :])
  y = jax.lax.optimization_barrier(jnp.cos(y))
  return jnp.sum(y, axis=0)

x = jnp.linspace(0.0, 1.0, 4096)
for _ in range(20):
  step(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
  step(x).block_until_ready()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(kept, faults // 4)
"""


def faults(how, **environment):
  """Whether memory was kept, and pages that a step asks the kernel for."""
  theirs = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith('MALLOC_') and name != 'GLIBC_TUNABLES'
  }
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM, how],
    env=theirs | {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': ''} | environment,
    capture_output=True,
    text=True,
    timeout=300,
    check=True,
  )
  kept, count = done.stdout.split()
  return kept == 'True', int(count)


@pytest.mark.slow
def test_a_step_asks_the_kernel_for_no_memory_that_the_last_one_had():
  usual, kept = faults('usual'), faults('keep')
  assert usual[0] is False and usual[1] > 16_000  # 64 MiB of 4 KiB each
  assert kept[0] is True and kept[1] < usual[1] / 20
  # Who has chosen keeps the choice.
  chosen, _ = faults('keep', MALLOC_ARENA_MAX='4')
  assert chosen is False
