"""Training from the first step, or the last checkpoint, to the end."""

from collections.abc import Callable, Iterator
import contextlib
import functools
import logging

import jax
import jax.numpy as jnp

from lvdecode.training import checkpoint
from lvdecode.training import drive
from lvdecode.training import hosts
from lvdecode.training import interrupt
from lvdecode.training import optimizer as optimizer_lib
from lvdecode.training import parallel
from lvdecode.training import parts
from lvdecode.training import progress
from lvdecode.training import spec as spec_lib
from lvdecode.training import step as step_lib
from lvdecode.training import tally as tally_lib
from lvdecode.training import trainer as trainer_lib

Initial = Callable[[], step_lib.TrainState]


def run(spec: spec_lib.Run) -> step_lib.TrainState:
  """Trains, going on from the last checkpoint in its folder if there is one.

  SIGTERM and the first SIGINT end the run after the step it is in, with a
  checkpoint; the state returned then has a step below `settings.steps`.

  Returns:
    The last state, on the devices.

  Raises:
    UserError: a batch that does not divide over the devices, data that ends, a
      checkpoint that is damaged or of another model, a full disk, or
      `max_skipped` steps without a finite gradient.
  """
  settings = spec.settings
  devices = parallel.make(
    settings.parallel, settings.model_axis, settings.sharding
  )
  # The signals are given back last: the last write is not to be cut off.
  with (
    interrupt.Interrupt() as stop,
    opened(spec, devices.create) as (trainer, state),
  ):
    log_parameters(trainer, state)
    steps = drive.Steps(
      spec.task,
      trainer.optimizer,
      settings=settings,
      devices=devices,
      state=devices.place(state),
    )
    del state  # the first step gives it away
    requests = trainer.train(stop, steps.read, steps.whole)
    try:
      request = drive.next_request(requests, None)
      while request is not None:
        request = drive.next_request(requests, steps.take(request))
    except jax.errors.JaxRuntimeError as error:
      if hosts.count() > 1:
        # Now: what is left of a checkpoint would wait for the dead.
        hosts.lost(error)
      raise
    return steps.state


@contextlib.contextmanager
def opened(
  spec: spec_lib.Run, create: Callable[[Initial], step_lib.TrainState]
) -> Iterator[tuple[trainer_lib.Trainer, step_lib.TrainState]]:
  """A run with its files open, and the state that it begins with.

  The initial state is what `create` makes by the function it is given; one
  from a checkpoint is of NumPy arrays.
  """
  settings = spec.settings
  shapes = jax.eval_shape(spec.task.init, jax.random.key(spec.seed))
  optimizer = optimizer_lib.make(
    spec.optimizer_settings,
    settings.steps,
    shapes,
    parts_wait=spec.reset_at > 0 or settings.encoder_updates > 1,
  )
  parts.check(
    spec.task.part,
    optimizer.trainable,
    reset_at=spec.reset_at,
    encoder_updates=settings.encoder_updates,
  )
  initial = functools.partial(
    step_lib.init_state, spec.task, optimizer.tx, spec.seed, settings.ema
  )
  tally = tally_lib.Tally(settings.max_skipped)
  aggressive = parts.Aggressive(settings.encoder_updates)
  with checkpoint.Checkpoints(
    spec.workdir,
    keep=settings.keep,
    keep_period=settings.keep_period,
    best_metric=settings.best_metric,
  ) as checkpoints:
    state = _start(spec, checkpoints, initial, create, tally, aggressive)
    step = int(state.step)
    # This frame lives as long as the run, which gives the state away.
    held = [state]
    del state
    with contextlib.ExitStack() as stack:
      writer: progress.Writer | progress.Silent = progress.Silent()
      display: progress.Display | progress.Silent = progress.Silent()
      if hosts.first():
        writer = stack.enter_context(progress.Writer(spec.workdir, step))
        display = stack.enter_context(
          progress.Display(step, settings.steps, spec.name)
        )
      trainer = trainer_lib.Trainer(
        spec=spec,
        optimizer=optimizer,
        aggressive=aggressive,
        checkpoints=checkpoints,
        writer=writer,
        display=display,
        tally=tally,
        step=step,
      )
      yield trainer, held.pop()


def log_parameters(
  trainer: trainer_lib.Trainer, state: step_lib.TrainState
) -> None:
  """Logs what is trained."""
  table = progress.parameter_table(state.params, trainer.optimizer.trainable)
  logging.info('parameters:\n%s', table)


def _start(
  spec, checkpoints, initial, create, tally, aggressive
) -> step_lib.TrainState:
  """The last checkpoint's state, or the initial one."""
  if not checkpoints.steps():
    return _begun(create(initial), spec.begin)
  # Shapes are enough: the initial parameters need not exist.
  state, loop = checkpoints.restore(jax.eval_shape(initial))
  spec.data.set_state(loop['data'])
  tally.set_state(loop['tally'])
  aggressive.set_state(loop['aggressive'])
  logging.info(
    '%sgoing on from the checkpoint of step %d', spec.prefix, state.step
  )
  return state


def _begun(state, begin) -> step_lib.TrainState:
  """The initial state with the parameters that the run begins with."""
  if begin is None:
    return state
  params = begin(state.params)
  ema = None if state.ema is None else jax.tree.map(jnp.copy, params)
  return state._replace(params=params, ema=ema)
