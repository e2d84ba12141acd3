"""What the C library does with memory that is freed."""

import ctypes
import os

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep() -> bool:
  """Keeps freed memory in this process, for the next step to use.

  By itself glibc maps every large array anew and unmaps it when it is freed. A
  step on a CPU frees all of its temporary values, so that the kernel has to
  find, clear and map hundreds of megabytes for the next one, page by page. It
  has to be called before JAX makes its threads, which get their memory from the
  one place that is kept (docs/performance.md has what that saves).

  What a process has held at most it then holds to its end. Nothing is changed
  where the C library is another one, or where the environment says how malloc
  should work (MALLOC_..., GLIBC_TUNABLES).

  Returns:
    Whether it is kept.
  """
  chosen = [
    name
    for name in os.environ
    if name.startswith('MALLOC_') or name == 'GLIBC_TUNABLES'
  ]
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
  if chosen or mallopt is None:
    return False
  options = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1))
  return all([mallopt(*option) == 1 for option in options])
