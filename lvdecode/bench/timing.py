"""Seconds of several contestants, taken alternately, and their ratios."""

from collections.abc import Callable, Mapping, Sequence
import statistics
import time
from typing import Any, NamedTuple

import jax
from jax.experimental.compilation_cache import compilation_cache


class Subject(NamedTuple):
  """Something to be timed.

  Attributes:
    run: does the work `units` times and waits for it.
    compile_seconds: what the compiler took, its cache off; None: nothing is
      compiled.
    program_bytes: what arguments, results and intermediate values of the
      compiled program take together; None where it is not known.
  """

  run: Callable[[int], None]
  compile_seconds: float | None = None
  program_bytes: int | None = None


def compiled(function: Any, *arguments: Any) -> tuple[Any, float, int]:
  """A jitted function for these arguments, seconds, and bytes it needs.

  The persistent cache is off meanwhile: what is timed is the compiler.
  """
  before = jax.config.jax_enable_compilation_cache
  jax.config.update('jax_enable_compilation_cache', False)
  compilation_cache.reset_cache()  # JAX asks for the flag once, and remembers
  try:
    begin = time.perf_counter()
    program = function.lower(*arguments).compile()
    seconds = time.perf_counter() - begin
  finally:
    jax.config.update('jax_enable_compilation_cache', before)
    compilation_cache.reset_cache()
  found = program.memory_analysis()
  if found is None:
    return program, seconds, 0
  needed = (
    found.argument_size_in_bytes
    + found.output_size_in_bytes
    - found.alias_size_in_bytes
    + found.temp_size_in_bytes
  )
  return program, seconds, int(needed)


def alternately(
  subjects: Mapping[str, Subject],
  limits: Mapping[str, Callable[[], float]],
  rounds: int,
  units: int,
) -> tuple[dict[str, list[float]], dict[str, float]]:
  """Each round times every subject, and the limits between them.

  What disturbs the machine for a while disturbs all of them. Each round begins
  with another subject. Two turns are not timed: in the first, memory is found
  that the second still has to share out.

  Returns:
    Seconds for one unit, by name and round; and the best that each limit was
    seen to reach.
  """
  seconds: dict[str, list[float]] = {name: [] for name in subjects}
  best = {name: 0.0 for name in limits}
  for _ in range(2):
    for subject in subjects.values():
      subject.run(1)
  for index in range(rounds):
    for name, subject in _turned(subjects, index):
      begin = time.perf_counter()
      subject.run(units)
      seconds[name].append((time.perf_counter() - begin) / units)
      for limit, measure in limits.items():
        best[limit] = max(best[limit], *(measure() for _ in range(3)))
  return seconds, best


def _turned(subjects, index):
  """All of them, beginning with another one each time."""
  items = list(subjects.items())
  first = index % len(items)
  return items[first:] + items[:first]


def ratio(
  seconds: Mapping[str, Sequence[float]], name: str, beside: str
) -> dict[str, Any]:
  """How many times as fast as `beside`: the median of the rounds' ratios."""
  each = [b / a for a, b in zip(seconds[name], seconds[beside], strict=True)]
  return {
    'name': f'{name} / {beside}',
    'of': 'speed',
    'value': statistics.median(each),
    'rounds': each,
  }
