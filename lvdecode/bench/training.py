"""Training steps: ours, and the same with less of what z costs."""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from lvdecode import settings as settings_lib
from lvdecode.bench import timing
from lvdecode.latent import vae
from lvdecode.nn import gpt
from lvdecode.tasks import latent
from lvdecode.text import pipeline
from lvdecode.training import drive
from lvdecode.training import optimizer as optimizer_lib
from lvdecode.training import parallel
from lvdecode.training import step as step_lib

BOS, HIDDEN, FIRST = 1, 3, 4  # of made-up tokens; FIRST is a word


class Untold(vae.VAE):
  """The same encoder and decoder, which is told nothing of z."""

  def inject(self, z: jax.Array) -> gpt.Injected:
    del z
    return gpt.Injected()


def variants(settings: settings_lib.Settings, vocab_size: int):
  """Name -> task: ours; told at one point, at none; and without an encoder."""
  model = settings.model
  plain = dataclasses.replace(
    model, injection=dataclasses.replace(model.injection, points=())
  )
  memory = dataclasses.replace(
    model, injection=dataclasses.replace(model.injection, points=('memory',))
  )
  models = {
    'ours': vae.VAE(model, vocab_size, vocab_size),
    'memory alone': vae.VAE(memory, vocab_size, vocab_size),
    'encoder + plain decoder': Untold(model, vocab_size, vocab_size),
    'plain decoder': vae.VAE(plain, vocab_size, vocab_size),
  }
  objective = settings_lib.in_steps(settings, 1).objective
  return {
    name: latent.LatentTask(model, objective, HIDDEN)
    for name, model in models.items()
  }


def batch(size: int, length: int, vocab_size: int) -> pipeline.Batch:
  """Texts without padding, on the host."""
  rng = np.random.default_rng(0)
  tokens = rng.integers(FIRST, vocab_size, (size, length), np.int32)
  tokens[:, 0] = BOS
  weights = np.ones((size, length), np.float32)
  weights[:, 0] = 0
  return pipeline.Batch(tokens, weights)


def subject(
  settings: settings_lib.Settings, task: latent.LatentTask
) -> timing.Subject:
  """A task's training step as a run takes it, compiled, its state donated."""
  training, data = settings.training, settings.pipeline
  shapes = jax.eval_shape(task.init, jax.random.key(0))
  optimizer = optimizer_lib.make(settings.optimizer, training.steps, shapes)
  devices = parallel.make(training.parallel)
  step = drive.train_step(
    task,
    optimizer,
    moving=optimizer.trainable,
    axis_name=devices.axis_name,
    accumulate=parallel.micro_batches(
      data.batch_size,
      devices.count,
      training.accumulate,
      training.micro_batch,
    ),
    spread=devices.spread,
    ema=training.ema,
  )
  initial = functools.partial(
    step_lib.init_state, task, optimizer.tx, settings.seed, training.ema
  )
  state = devices.create(initial)
  examples = devices.shard(
    batch(data.batch_size, data.lengths[-1], task.model.vocab_size)
  )
  program, seconds, size = timing.compiled(
    _jitted(devices, step, state), state, examples
  )
  return timing.Subject(_stepping(program, state, examples), seconds, size)


def _jitted(devices: parallel.Devices, step: Callable, state: Any) -> Any:
  """As `Devices.compile`, but what can be compiled apart from being called."""
  if devices.axis_name is not None:
    return devices.compile(step)
  places = devices.shardings(state)
  return jax.jit(step, donate_argnums=0, out_shardings=(places, None))


def _stepping(program: Any, state: Any, examples: Any) -> Callable[[int], None]:
  def run(units: int) -> None:
    nonlocal state
    for _ in range(units):
      state, metrics = program(state, examples)
    jax.block_until_ready((state, metrics))

  return run
