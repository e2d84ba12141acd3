"""Processes on several hosts that train one model: who they are, what they say.

Every function is called by all processes in the same order, and does nothing
that costs time where there is one.
"""

from collections.abc import Callable, Mapping
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import sys
import threading
from typing import Any, TypeVar

import jax
from jax.experimental import multihost_utils
import numpy as np

from lvdecode import errors

T = TypeVar('T')

_PATIENCE = 10.0  # seconds that a process which ends waits for the others


def join(
  coordinator: str,
  process_id: int | None,
  count: int | None,
  *,
  join_seconds: int,
  heartbeat_seconds: int,
) -> None:
  """Makes this process one of many, before JAX looks for devices.

  By the three addresses and numbers, or else by what a TPU pod or Slurm puts
  into the environment; otherwise it stays alone.

  Args:
    coordinator: HOST:PORT of process 0; '' for none.
    process_id: of this one, from 0.
    count: of all processes.
    join_seconds: after which a process that still waits for others ends.
    heartbeat_seconds: after which one that is not heard of counts as dead and
      all end.

  Raises:
    UserError: numbers that are not all given or do not fit.
  """
  found = _asked_for(coordinator, process_id, count)
  if found is None:
    return
  # `interrupt` does this; Orbax asks JAX's service for it as well, from a
  # thread of its own, and the steps two of them agree on need not be one.
  jax.config.update('jax_enable_preemption_service', False)
  # JAX aborts with a stack trace when its own time is over.
  alarm = threading.Timer(join_seconds, _give_up, (found, join_seconds))
  alarm.daemon = True
  alarm.start()
  try:
    jax.distributed.initialize(
      **found,
      initialization_timeout=2 * join_seconds + 60,
      heartbeat_timeout_seconds=heartbeat_seconds,
    )
  except (RuntimeError, ValueError) as error:
    reason = ' '.join(str(error).split())[:200]
    raise errors.UserError(
      f'the processes of this run did not find each other: {reason}'
    ) from error
  finally:
    alarm.cancel()


def _asked_for(coordinator, process_id, count) -> dict[str, Any] | None:
  """What `jax.distributed.initialize` is to be told; None to stay alone."""
  given = {
    '--coordinator': coordinator or None,
    '--process_id': process_id,
    '--num_processes': count,
  }
  missing = [flag for flag, value in given.items() if value is None]
  if len(missing) == len(given):
    return {} if _in_slurm(os.environ) or _in_tpu_pod(os.environ) else None
  if missing:
    raise errors.UserError(
      f'{", ".join(missing)} missing: give all of {", ".join(given)}, or none'
    )
  errors.at_least('--num_processes', count, 1)
  if not 0 <= process_id < count:
    raise errors.UserError(
      f'--process_id {process_id} is not one of --num_processes {count}: give '
      f'0 to {count - 1}'
    )
  host, _, port = coordinator.rpartition(':')
  if not host or not port.isdecimal():
    raise errors.UserError(
      f'--coordinator {coordinator!r} is not HOST:PORT of process 0'
    )
  if count == 1:
    return None
  return {
    'coordinator_address': coordinator,
    'process_id': process_id,
    'num_processes': count,
  }


def _in_slurm(environment: Mapping[str, str]) -> bool:
  """Whether srun started this process as one of several."""
  tasks = environment.get('SLURM_STEP_NUM_TASKS', '1')
  return 'SLURM_PROCID' in environment and int(tasks) > 1


def _in_tpu_pod(environment: Mapping[str, str]) -> bool:
  """Whether this is a worker of a TPU slice with several."""
  if 'cpu' in environment.get('JAX_PLATFORMS', ''):
    return False
  if 'MEGASCALE_COORDINATOR_ADDRESS' in environment:
    return True
  if ',' in environment.get('TPU_WORKER_HOSTNAMES', ''):  # GKE sets it
    return True
  # On a plain TPU machine the metadata server knows, and JAX asks it.
  # Up to v4 a chip is /dev/accel0, later /dev/vfio/0.
  tpus = any(
    any(pathlib.Path('/dev').glob(name))
    for name in ('accel[0-9]*', 'vfio/[0-9]*')
  )
  return tpus and importlib.util.find_spec('libtpu') is not None


def _give_up(found, seconds) -> None:
  process = found.get('process_id', 'this')
  whom = found.get('coordinator_address', 'the address in the environment')
  _end(
    2,
    f'error: process {process} waited {seconds} s for the '
    f'{found.get("num_processes", "other")} processes at {whom}: are all '
    'started, and can they reach it?',
  )


def _end(code: int, line: str) -> None:
  """Ends this process now, whatever its other threads wait for."""
  sys.stdout.flush()
  sys.stderr.write(f'{line}\n')
  sys.stderr.flush()
  os._exit(code)


def lost(error: Exception) -> None:
  """Ends this process because a step failed that others take part in."""
  reason = ' '.join(str(error).split())[:200]
  _end(
    1,
    f'error: a step of process {jax.process_index()} failed, which is one of '
    f'{jax.process_count()} ({reason}): another one may have died, see what '
    'each said last; the same commands go on from the last checkpoint',
  )


def leave(code: int) -> None:
  """Ends this process after its last word, and soon whatever others do.

  If all have come to the same end they leave together; if not, the others
  find out by its death.
  """
  if count() > 1:
    alarm = threading.Timer(_PATIENCE, os._exit, (code,))
    alarm.daemon = True
    alarm.start()
    with contextlib.suppress(Exception):  # the word is said, the code stands
      jax.distributed.shutdown()
    alarm.cancel()
  sys.exit(code)


def count() -> int:
  """How many processes train together; looks for no device."""
  return jax.process_count() if jax.distributed.is_initialized() else 1


def first() -> bool:
  """Whether this is process 0, which alone writes."""
  return count() == 1 or jax.process_index() == 0


def everyone(value: Any) -> list[Any]:
  """What each process says, plain JSON, by the number of the process."""
  if count() == 1:
    return [value]
  data = np.frombuffer(json.dumps(value).encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.int32(len(data)))
  padded = np.zeros(int(sizes.max()), np.uint8)
  padded[: len(data)] = data
  rows = multihost_utils.process_allgather(padded)
  return [
    json.loads(row[:size].tobytes())
    for row, size in zip(rows, sizes, strict=True)
  ]


def anyone(value: bool) -> bool:
  """Whether it is so on any process; waits for the devices."""
  if count() == 1:
    return value
  return bool(multihost_utils.process_allgather(np.asarray(value)).any())


def agreed(act: Callable[[], T]) -> T:
  """`act()`, which all processes do; a UserError of one is one of all."""
  if count() == 1:
    return act()
  value, problem = None, ''
  try:
    value = act()
  except errors.UserError as error:
    problem = str(error)
  for process, said in enumerate(everyone(problem)):
    if said:
      raise errors.UserError(said if problem else f'process {process}: {said}')
  return value  # type: ignore[return-value]


def in_turn(act: Callable[[], T]) -> T:
  """`act()` on process 0, then on the others, which find what it made."""
  if count() == 1:
    return act()
  made = agreed(lambda: act() if first() else None)
  rest = agreed(lambda: None if first() else act())
  return made if first() else rest  # type: ignore[return-value]


def compare(what: Mapping[str, Any]) -> None:
  """Raises UserError, everywhere, where processes differ in one of `what`."""
  rows = everyone(dict(what))
  for key in sorted({key for row in rows for key in row}):
    for process, row in enumerate(rows):
      if row.get(key) != rows[0].get(key):
        raise errors.UserError(
          f'{key} is {json.dumps(row.get(key))} on process {process} and '
          f'{json.dumps(rows[0].get(key))} on process 0: start all processes '
          'of a run with the same settings, code and data'
        )


def code() -> dict[str, str]:
  """What the same settings can mean different things under."""
  folder = pathlib.Path(errors.__file__).parent
  digest = hashlib.sha256()
  for path in sorted(folder.rglob('*.py')):
    digest.update(str(path.relative_to(folder)).encode() + b'\0')
    digest.update(path.read_bytes() + b'\0')
  return {'code.source': digest.hexdigest()[:16]} | {
    f'code.{name}': _version(name)
    for name in ('lvdecode', 'jax', 'jaxlib', 'flax', 'optax', 'numpy')
  }


def _version(name: str) -> str:
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return 'not installed'
