"""Checkpoints: all that a run needs to go on, bit for bit.

Orbax stores flat dictionaries of arrays under their '/'-joined names, in three
items (params, ema, optimizer) so that a reader takes only what it wants, and
one JSON item (loop). Orbax casts and reshapes silently and does not notice a
flipped byte, so names, shapes, types and checksums are compared here.

Of many processes each writes its parts of the arrays, in one folder that all
see, and reads them whole: how many there are may change between two starts.
"""

from collections.abc import Mapping
import logging
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from lvdecode import errors
from lvdecode.training import flat as flat_lib
from lvdecode.training import hosts
from lvdecode.training import step as step_lib

FOLDER = 'checkpoints'
_LOOP = 'loop'
_BEST = 'best'


class Checkpoints:
  """The checkpoints of one run; a context manager that waits for the last.

  Kept are the latest `keep`, the one with the least `best_metric` ('' for
  none) and every one whose step divides by `keep_period` (0 for none).
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    *,
    keep: int,
    keep_period: int,
    best_metric: str,
  ):
    self._workdir = workdir
    self._best_metric = best_metric
    managers = ocp.checkpoint_managers
    policies: list[Any] = [managers.LatestN(keep)]
    if keep_period:
      policies.append(managers.EveryNSteps(keep_period))
    if best_metric:
      policies.append(
        managers.BestN(
          get_metric_fn=_badness,
          reverse=True,
          n=1,
          # Else one that a kill left half deleted would be kept for ever.
          keep_checkpoints_without_metrics=False,
        )
      )
    self._manager = _manager(
      workdir,
      ocp.CheckpointManagerOptions(
        preservation_policy=managers.AnyPreservationPolicy(policies),
        # The policy decides, but without this Orbax writes no metrics and the
        # best is forgotten, and deleted, after a restart.
        best_fn=_badness if best_metric else None,
        best_mode='min',
        cleanup_tmp_directories=True,
      ),
    )

  def __enter__(self):
    return self

  def __exit__(self, kind, error, trace):
    try:
      self.wait()
    except errors.UserError as failure:
      if error is None:
        raise
      # What stopped the run matters more.
      logging.error('%s', failure)
    finally:
      self._manager.close()

  def steps(self) -> list[int]:
    """The steps there are checkpoints of, ascending."""
    return sorted(self._manager.all_steps())

  def save(
    self,
    state: step_lib.TrainState,
    loop: dict[str, Any],
    metrics: Mapping[str, float],
  ) -> None:
    """Copies the state to the host and writes it in the background.

    All processes do so together.

    Args:
      state: on any devices.
      loop: what else the run needs; plain JSON.
      metrics: figures at this step; only `best_metric` is looked at.

    Raises:
      UserError: this or the previous checkpoint could not be written.
    """
    items = {
      name: flat_lib.on_host(tree) for name, tree in _items(state).items()
    }
    own = {name: flat_lib.checksums(flat) for name, flat in items.items()}
    found = hosts.everyone(own)
    checksums = {
      name: flat_lib.merged([one[name] for one in found]) for name in own
    }
    composite = {name: ocp.args.StandardSave(v) for name, v in items.items()}
    composite[_LOOP] = ocp.args.JsonSave(dict(loop, checksums=checksums))
    best = metrics.get(self._best_metric, math.nan)
    try:
      self._manager.save(
        int(state.step),
        args=ocp.args.Composite(**composite),
        # None, as JSON knows no infinity; nothing at all makes Orbax warn.
        metrics={_BEST: best if math.isfinite(best) else None},
        force=True,
      )
      self._manager.check_for_errors()
    except Exception as error:
      raise self._unwritten(error) from error

  def wait(self) -> None:
    """Returns when the last save is on disk; raises UserError if it failed."""
    try:
      self._manager.wait_until_finished()
      self._manager.check_for_errors()
    except Exception as error:
      raise self._unwritten(error) from error

  def restore(
    self, like: step_lib.TrainState, step: int | None = None
  ) -> tuple[step_lib.TrainState, dict[str, Any]]:
    """The state, NumPy arrays but for the key, and what `loop` was.

    Args:
      like: a state of arrays or of shapes.
      step: which checkpoint; None for the latest.

    Raises:
      UserError: no such checkpoint, one that is damaged, or one whose arrays
        differ from those of `like` in name, shape or type.
    """
    step = _existing(self._workdir, self.steps(), step)
    wanted = jax.eval_shape(_items, like)
    flats, loop = _read(self._manager, self._workdir, step, tuple(wanted))
    trees = {
      name: flat_lib.unflatten(flats[name], tree, f'checkpoint {step}: {name}')
      for name, tree in wanted.items()
    }
    rest = trees['optimizer']
    state = step_lib.TrainState(
      step=rest['step'],
      params=trees['params'],
      opt_state=rest['opt_state'],
      rng=jax.random.wrap_key_data(jnp.asarray(rest['rng'])),
      ema=trees.get('ema'),
      carry=rest['carry'],
    )
    return state, loop

  def _unwritten(self, error: Exception) -> errors.UserError:
    return errors.UserError(
      f'a checkpoint could not be written to {self._workdir / FOLDER}: '
      f'{_one_line(error)}'
    )


def steps(workdir: pathlib.Path) -> list[int]:
  """The steps a run's folder has checkpoints of, ascending."""
  if not (workdir / FOLDER).is_dir():
    return []
  with _reader(workdir) as manager:
    return sorted(manager.all_steps())


def best_step(workdir: pathlib.Path) -> int | None:
  """The step whose `best_metric` is least among those kept.

  None where no checkpoint has that figure: a run that was stopped before its
  first evaluation, or one without a best metric.
  """
  found = {}
  if steps(workdir):
    with _reader(workdir) as manager:
      for step in manager.all_steps():
        found[step] = _badness(manager.metrics(step) or {})
  if not found or math.isinf(min(found.values())):
    return None
  return min(found, key=lambda step: (found[step], -step))


def latest_step(workdir: pathlib.Path) -> int:
  """The step of the last checkpoint; raises UserError if there is none."""
  return _existing(workdir, steps(workdir), None)


def restore_params(
  workdir: pathlib.Path,
  step: int | None,
  abstract: Any,
  item: str = 'params',
) -> Any:
  """The parameters alone, as NumPy arrays, without an optimiser.

  Args:
    workdir: the folder of a run.
    step: which checkpoint; None for the latest.
    abstract: tree of arrays or shapes the parameters must agree with.
    item: 'params', or 'ema' for their running average.

  Raises:
    UserError: as `Checkpoints.restore`, or a run without an average.
  """
  step = _existing(workdir, steps(workdir), step)
  with _reader(workdir) as manager:
    if not (workdir / FOLDER / str(step) / item).is_dir():
      raise errors.UserError(
        f'checkpoint {step} in {workdir} has no {item}: it was trained without'
      )
    flats, _ = _read(manager, workdir, step, (item,))
  return flat_lib.unflatten(flats[item], abstract, f'checkpoint {step}: {item}')


def _badness(metrics: Mapping[str, float | None]) -> float:
  """What was not evaluated, or not finite, is never the best."""
  value = metrics.get(_BEST)
  return math.inf if value is None else value


def _items(state: step_lib.TrainState) -> dict[str, Any]:
  items = {
    'params': state.params,
    'optimizer': {
      'step': state.step,
      'rng': jax.random.key_data(state.rng),
      'opt_state': state.opt_state,
      'carry': state.carry,
    },
  }
  if state.ema is not None:
    items['ema'] = state.ema
  return items


def _manager(workdir, options) -> ocp.CheckpointManager:
  try:
    return ocp.CheckpointManager((workdir / FOLDER).absolute(), options=options)
  except Exception as error:
    raise errors.UserError(
      f'{workdir / FOLDER} cannot be opened: {_one_line(error)}'
    ) from error


def _reader(workdir) -> ocp.CheckpointManager:
  # Without a save nothing is written; `read_only` only adds warnings.
  return _manager(workdir, ocp.CheckpointManagerOptions(create=False))


def _existing(workdir, there: list[int], step: int | None) -> int:
  if not there:
    raise errors.UserError(f'{workdir} has no checkpoint')
  if step is None:
    return there[-1]
  if step not in there:
    raise errors.UserError(
      f'{workdir} has no checkpoint of step {step}; there are '
      f'{", ".join(map(str, there))}'
    )
  return step


def _read(manager, workdir, step: int, names: tuple[str, ...]):
  """The items as flat dictionaries, checksums compared, and the loop's."""
  folder = (workdir / FOLDER / str(step)).absolute()
  try:
    args: dict[str, Any] = {
      name: ocp.args.StandardRestore(_as_numpy(folder / name)) for name in names
    }
    args[_LOOP] = ocp.args.JsonRestore()
    found = manager.restore(step, args=ocp.args.Composite(**args))
    loop = dict(found[_LOOP])
    checksums = loop.pop('checksums')
    flats = {name: dict(found[name]) for name in names}
    damaged = [
      f'{name}/{array}'
      for name in names
      for array, value in flats[name].items()
      if not flat_lib.intact(value, checksums[name].get(array))
    ]
  except Exception as error:
    raise _damaged(workdir, step, _one_line(error)) from error
  if damaged:
    raise _damaged(workdir, step, f'checksum of {damaged[0]} differs')
  return flats, loop


def _as_numpy(folder: pathlib.Path) -> dict[str, np.ndarray]:
  """Tells Orbax to give arrays whole, whatever devices they were on."""
  stored = ocp.StandardCheckpointHandler().metadata(folder)
  return {
    # Takes no memory, whatever its shape.
    name: np.broadcast_to(np.zeros((), array.dtype), array.shape)
    for name, array in dict(stored).items()
  }


def _damaged(workdir, step: int, reason: str) -> errors.UserError:
  return errors.UserError(
    f'checkpoint {workdir / FOLDER / str(step)} cannot be read ({reason}): '
    'remove that folder to go on from the one before'
  )


def _one_line(error: Exception) -> str:
  """Orbax's and TensorStore's messages are paragraphs with a source."""
  text = ' '.join(str(error).split()) or type(error).__name__
  for cause in ('No space left on device', 'File too large'):
    if cause in text:
      return cause
  return text[:200]
