"""What the C library does with memory that is freed."""

import ctypes
import os

# Of glibc's malloc.h, and of Linux' mman.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
_MADV_HUGEPAGE = 14
_HUGE = 2**21
_ROOM = 2**31 - _HUGE  # bytes in huge pages; addresses, until they are used


def keep() -> bool:
  """Keeps freed memory in this process, for the next step to use.

  By itself glibc maps every large array anew and unmaps it when it is freed. A
  step on a CPU frees all of its temporary values, so that the kernel has to
  find, clear and map hundreds of megabytes for the next one, page by page. It
  has to be called before JAX makes its threads, which get their memory from the
  one place that is kept (docs/performance.md has what that saves).

  The first 2 GiB are asked for in huge pages, which the processor finds faster.
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
  libc = ctypes.CDLL(None)
  if chosen or not hasattr(libc, 'mallopt'):
    return False
  options = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1))
  kept = all([libc.mallopt(*option) == 1 for option in options])
  if kept:
    _in_huge_pages(libc)
  return kept


def _in_huge_pages(libc: ctypes.CDLL) -> None:
  """Makes room at the end of the heap, and asks for huge pages there.

  Where the kernel has none, or the heap cannot grow, it is as it was.
  """
  libc.sbrk.restype = libc.malloc.restype = ctypes.c_void_p
  begin = libc.sbrk(ctypes.c_ssize_t(0))
  libc.mallopt(_TOP_PAD, _ROOM)
  block = libc.malloc(ctypes.c_size_t(_HUGE))
  libc.free(ctypes.c_void_p(block))
  libc.mallopt(_TOP_PAD, _HUGE)
  end = libc.sbrk(ctypes.c_ssize_t(0))
  begin = -(-begin // _HUGE) * _HUGE
  if end > begin:
    libc.madvise(
      ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _MADV_HUGEPAGE
    )
