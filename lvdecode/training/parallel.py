"""How a step is spread over the devices: one place to choose, few functions."""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from lvdecode import errors

_AXIS = 'batch'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Devices:
  """What the loop needs to know about devices.

  Attributes:
    count: how many share a batch.
    axis_name: the mapped axis, None on one device.
    place: a tree of arrays -> the same on every device. Arrays that are there
      already are not copied, and the compiled step gives them away.
    gather: a placed tree -> on one device, without a copy: it is gone after
      the next step.
    shard: a host batch [B, ...] -> as the compiled step wants it.
    compile: step(state, batch) -> compiled step(placed state, sharded batch),
      which gives the old state's memory to the new one.
  """

  count: int
  axis_name: str | None
  place: Callable[[Any], Any]
  gather: Callable[[Any], Any]
  shard: Callable[[Any], Any]
  compile: Callable[[Callable], Callable]


def _pmap() -> Devices:
  """Data parallel over all local devices, the state replicated."""
  devices = jax.local_devices()
  mesh = jax.sharding.Mesh(np.array(devices), (_AXIS,))
  replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

  def shard(batch):
    return jax.tree.map(
      lambda x: x.reshape(len(devices), -1, *x.shape[1:]), batch
    )

  def compile_step(step):
    # None: state and metrics have no device axis, so that they are stored,
    # read and printed as on one device.
    return jax.pmap(
      step,
      axis_name=_AXIS,
      in_axes=(None, 0),
      out_axes=(None, None),
      donate_argnums=0,
    )

  return Devices(
    count=len(devices),
    axis_name=_AXIS,
    place=functools.partial(jax.device_put, device=replicated),
    gather=_first_copy,
    shard=shard,
    compile=compile_step,
  )


def _jit() -> Devices:
  """One device."""
  device = jax.local_devices()[0]
  return Devices(
    count=1,
    axis_name=None,
    place=functools.partial(jax.device_put, device=device),
    gather=_first_copy,
    shard=functools.partial(jax.device_put, device=device),
    compile=functools.partial(jax.jit, donate_argnums=0),
  )


def _first_copy(tree):
  return jax.tree.map(lambda x: x.addressable_data(0), tree)


KINDS = {'pmap': _pmap, 'jit': _jit}


def make(kind: str) -> Devices:
  """The devices as `training.parallel` names them."""
  if kind not in KINDS:
    raise errors.UserError(
      f'training.parallel {kind!r} is not one of {", ".join(KINDS)}'
    )
  return KINDS[kind]()


def check_batch(batch_size: int, devices: int, accumulate: int) -> None:
  """Raises UserError unless every micro-batch has the same size."""
  if batch_size % (devices * accumulate):
    raise errors.UserError(
      f'a batch of {batch_size} examples does not divide by {devices} devices '
      f'x training.accumulate {accumulate}: make the batch size a multiple of '
      f'{devices * accumulate}, or use training.parallel jit'
    )
