"""Runs that differ in numbers alone, trained in one program.

The states lie stacked on a leading axis of members, and one step of all is one
call of the compiled step mapped over it. Each run keeps its own files: they
are those of a run on its own.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import functools
import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lvdecode import errors
from lvdecode.training import drive
from lvdecode.training import interrupt
from lvdecode.training import loop
from lvdecode.training import optimizer as optimizer_lib
from lvdecode.training import parallel
from lvdecode.training import spec as spec_lib
from lvdecode.training import step as step_lib
from lvdecode.training import trees

Numbers = Mapping[str, Any]  # floats on the host, traced in the program
Build = Callable[
  [Numbers], tuple[step_lib.Task, optimizer_lib.OptimizerSettings]
]

_MEMBERS = 'members'
_AXIS = jax.sharding.PartitionSpec(_MEMBERS)


def run(
  runs: Sequence[spec_lib.Run], numbers: Sequence[Numbers], build: Build
) -> dict[str, errors.UserError]:
  """Trains all runs to their end, as `loop.run` would one after the other.

  The first SIGINT and SIGTERM end them with a checkpoint each. Members may
  stand at different steps after a kill: those behind catch up, while nothing
  comes of the steps of the others.

  Args:
    runs: with different names, and all else equal but what `numbers` hold, the
      seed, and where the data are read and figures written.
    numbers: of each run.
    build: the task and the optimiser's settings under a member's numbers.

  Returns:
    Name of a run -> what ended it before its time; the others went on.
  """
  failed: dict[str, errors.UserError] = {}
  with contextlib.ExitStack() as stack:
    # First, so that it is left last: a signal during the last write waits.
    stop = stack.enter_context(interrupt.Interrupt())
    trainers, states, chosen = [], [], []
    for spec, own in zip(runs, numbers, strict=True):
      files = contextlib.ExitStack()
      try:
        trainer, state = files.enter_context(
          loop.opened(spec, lambda initial: initial())
        )
      except errors.UserError as error:
        failed[spec.name] = error
        continue
      stack.push(functools.partial(_left, files, spec.name, failed))
      trainers.append(trainer)
      states.append(state)
      chosen.append((spec, own))
    if not chosen:
      return failed
    loop.log_parameters(trainers[0], states[0])
    group = _Group([own for _, own in chosen], states, chosen[0][0], build)
    del states, state
    names = [spec.name for spec, _ in chosen]
    _drive(group, trainers, names, stop, failed)
  return failed


def _left(files, name, failed, *error) -> None:
  """Closes a member's files; that it cannot stops no other."""
  try:
    files.__exit__(*error)
  except errors.UserError as failure:
    failed.setdefault(name, failure)


def _drive(group, trainers, names, stop, failed) -> None:
  """Takes the steps the trainers ask for, the lowest first."""
  reads = [functools.partial(group.read, i) for i in range(len(trainers))]
  asking = [
    trainer.train(stop, read, lambda params: params)
    for trainer, read in zip(trainers, reads, strict=True)
  ]
  wanted: dict[int, drive.Request] = {}

  def answer(member, metrics):
    wanted.pop(member, None)
    try:
      request = drive.next_request(asking[member], metrics)
    except errors.UserError as error:
      logging.error('%s: %s', names[member], error)
      failed[names[member]] = error
      return
    if request is not None:
      wanted[member] = request

  for member in range(len(trainers)):
    answer(member, None)
  while wanted:
    for member, metrics in group.take(_next(wanted)).items():
      answer(member, metrics)


def _next(wanted: Mapping[int, drive.Request]) -> dict[int, drive.Request]:
  """The requests of the lowest step that one program can take."""
  first = min(wanted.values(), key=lambda request: request.step)
  shapes = drive.batch_shapes(first.batch)
  return {
    member: request
    for member, request in wanted.items()
    if request.step == first.step
    and drive.batch_shapes(request.batch) == shapes
  }


class _Group:
  """The states of all members on the devices."""

  def __init__(
    self,
    numbers: Sequence[Numbers],
    states: Sequence[step_lib.TrainState],
    spec: spec_lib.Run,
    build: Build,
  ):
    self._count = len(states)
    mesh = jax.sharding.Mesh(
      np.array(_devices(spec.settings.parallel, self._count)), (_MEMBERS,)
    )
    self._place = functools.partial(
      jax.device_put, device=jax.sharding.NamedSharding(mesh, _AXIS)
    )
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    self._member = jax.jit(
      lambda states, i: jax.tree.map(lambda x: x[i], states),
      out_shardings=everywhere,
    )
    self._states = self._place(jax.tree.map(lambda *x: jnp.stack(x), *states))
    for leaf in jax.tree.leaves(states):
      if isinstance(leaf, jax.Array):  # restored ones are NumPy's
        leaf.delete()  # twice the memory, otherwise
    self._numbers = self._place(
      {
        k: np.asarray([own[k] for own in numbers], np.float32)
        for k in numbers[0]
      }
    )
    self._pace = drive.Pace()
    self._step = _compiled(spec, build, mesh, self._count)

  def take(
    self, requests: Mapping[int, drive.Request]
  ) -> dict[int, step_lib.Metrics]:
    """One step of these members; the others stay where they are."""
    some = next(iter(requests.values())).batch
    batches = [
      requests[i].batch if i in requests else some for i in range(self._count)
    ]
    batch = jax.tree.map(lambda *x: np.stack(x), *batches)
    moving = np.array([i in requests for i in range(self._count)])
    self._states, metrics = self._pace.call(
      self._step,
      self._states,
      some,
      *self._place((batch, moving)),
      self._numbers,
    )
    return {i: metrics[i] for i in requests}

  def read(self, member: int) -> step_lib.TrainState:
    """A copy of a member's state on one device."""
    state = self._member(self._states, member)
    return jax.tree.map(lambda x: x.addressable_data(0), state)


def _devices(kind: str, count: int) -> list[jax.Device]:
  """All that are there if they share the members evenly, or else one."""
  devices = jax.local_devices()
  if kind != 'jit' and count % len(devices) == 0:
    return devices
  return devices[:1]


def _compiled(spec, build, mesh, count):
  """step(states, batches, moving, numbers) -> (states, metrics of each)."""

  settings = spec.settings

  def member(state, batch, moving, numbers):
    task, own = build(numbers)
    optimizer = optimizer_lib.make(own, settings.steps, state.params)
    axis_name = 'batch' if settings.parallel == 'pmap' else None
    # Each has a device to itself.
    accumulate = parallel.micro_batches(
      drive.batch_shapes(batch)[0][0],
      1,
      settings.accumulate,
      settings.micro_batch,
    )
    step = drive.train_step(
      task,
      optimizer,
      moving=optimizer.trainable,
      axis_name=axis_name,
      accumulate=accumulate,
      spread=None,
      ema=settings.ema,
    )
    if axis_name is not None:
      # An axis of one: the noise of a run of its own on one device.
      step = jax.vmap(
        step, in_axes=(None, 0), out_axes=None, axis_name=axis_name
      )
      batch = jax.tree.map(lambda x: x[None], batch)
    new, metrics = step(state, batch)
    return trees.where(moving, new, state), metrics

  # By shard_map, so that no device waits for another within a step.
  every = jax.shard_map(
    jax.vmap(member),
    mesh=mesh,
    in_specs=_AXIS,
    out_specs=_AXIS,
    check_vma=False,  # it trips over a sum over an axis of vmap
  )

  def step(states, batches, moving, numbers):
    states, metrics = every(states, batches, moving, numbers)
    # Cut here: outside, every number would be a call of its own.
    return states, [
      jax.tree.map(lambda x, i=i: x[i], metrics) for i in range(count)
    ]

  return jax.jit(step, donate_argnums=0)
