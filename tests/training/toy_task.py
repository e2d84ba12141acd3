"""A two-layer linear model with latent noise, and data to train it on.

Run as a command it trains in a folder, for tests that kill it, as the only
process or as one of many:
  python toy_task.py WORKDIR STEPS PARALLEL [COORDINATOR PROCESS_ID COUNT [AT]]
where it gives up before step AT.
"""

import dataclasses
import pathlib
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lvdecode import errors
from lvdecode.training import hosts
from lvdecode.training import loop
from lvdecode.training import metrics
from lvdecode.training import optimizer
from lvdecode.training import settings as settings_lib
from lvdecode.training import spec
from lvdecode.training import workdir as workdir_lib

IN, HIDDEN, OUT, BATCH = 5, 4, 3, 32
# Splits of what is too small to be split by its shape.
RULES = (
  ('encoder/kernel', ('', 'data')),
  ('decoder/kernel', ('model', '')),
)


class Batch(NamedTuple):
  x: np.ndarray  # [B, IN]
  y: np.ndarray  # [B, OUT]
  weights: np.ndarray  # [B], 0 for filler rows


@dataclasses.dataclass(frozen=True)
class Toy:
  """Squared error of W2 (W1 x + noise), summed over real examples."""

  noise: float = 0.1
  # Couples the examples of all devices, as free bits per dimension do.
  coupled: bool = False
  # Weighs the error by the losses of the steps before, as rate control does.
  remembers: bool = False

  def init(self, rng):
    first, second = jax.random.split(rng)
    return {
      'encoder': {'kernel': jax.random.normal(first, (IN, HIDDEN))},
      'decoder': {
        'kernel': jax.random.normal(second, (HIDDEN, OUT)),
        'bias': jnp.zeros((OUT,)),
      },
    }

  def init_carry(self):
    return jnp.zeros(()) if self.remembers else None

  def next_carry(self, carry, metrics):
    if carry is None:
      return None
    return 0.9 * carry + 0.1 * metrics['loss'].value()

  def loss(self, params, batch, streams, axis_name, carry):
    keys = streams.per_example('latent')
    noise = jax.vmap(lambda key: jax.random.normal(key, (HIDDEN,)))(keys)
    hidden = batch.x @ params['encoder']['kernel'] + self.noise * noise
    out = hidden @ params['decoder']['kernel'] + params['decoder']['bias'][None]
    error = jnp.sum((out - batch.y) ** 2, axis=-1)
    if carry is not None:
      error *= 1 + 0.1 * carry
    real = jnp.sum(batch.weights)
    total = jnp.sum(batch.weights * error)
    if self.coupled:
      mean = jnp.sum(batch.weights[:, None] * hidden, axis=0), real
      if axis_name is not None:
        mean = jax.lax.psum(mean, axis_name)
      total += real * jnp.sum(jnp.square(mean[0] / mean[1]))
    return total, {
      'loss': metrics.Mean(total, real),
      'noise': metrics.Mean(jnp.sum(batch.weights * noise[:, 0]), real),
    }

  def part(self, path):
    return path.partition('/')[0]

  def evaluate(self, params, batch, rng):
    del rng
    out = batch.x @ params['encoder']['kernel'] @ params['decoder']['kernel']
    return {'error': jnp.sum((out - batch.y) ** 2, axis=-1)}


class Data:
  """Batch i is a function of i alone; from grain only the protocol."""

  def __init__(self, bad=(), delay=0.0, batch=BATCH, first=0, part=(0, 1)):
    """`part`: of these rows this process has the p-th of P parts."""
    self.index = first
    self.part = part
    self.bad = bad
    self.delay = delay
    self.batch = batch

  def __iter__(self):
    return self

  def __next__(self):
    time.sleep(self.delay)
    batch = make_batch(self.index, self.batch)
    if self.index in self.bad:
      batch.x[0, 0] = np.nan
    self.index += 1
    part, parts = self.part
    rows = slice(part * self.batch // parts, (part + 1) * self.batch // parts)
    return Batch(*(x[rows] for x in batch))

  def get_state(self):
    return {'index': self.index}

  def set_state(self, state):
    self.index = state['index']


def make_batch(index, size=BATCH):
  rng = np.random.default_rng(index)
  x = rng.normal(size=(size, IN)).astype(np.float32)
  y = (x[:, :OUT] * 2 + 1).astype(np.float32)
  # Ragged: the filler rows of different devices differ in number.
  weights = (np.arange(size) < size - 5).astype(np.float32)
  return Batch(x, y, weights)


def optimizer_settings(**changes):
  settings = optimizer.OptimizerSettings(
    learning_rate=0.05,
    warmup_steps=2,
    decay='cosine',
    end_fraction=0.1,
    b1=0.9,
    b2=0.99,
    eps=1e-8,
    clip_norm=1.0,
    weight_decay=(('.*/bias', 0.0), ('.*', 0.1)),
    multipliers=(('.*', 1.0),),
    stages=(),
  )
  return dataclasses.replace(settings, **changes)


def training_settings(**changes):
  settings = settings_lib.TrainingSettings(
    steps=10,
    accumulate=1,
    micro_batch=0,
    ema=0.9,
    encoder_updates=1,
    parallel='jit',
    model_axis=1,
    sharding=(),
    log_every=3,
    evaluate_every=4,
    checkpoint_every=2,
    keep=2,
    keep_period=0,
    best_metric='error',
    max_skipped=3,
  )
  return dataclasses.replace(settings, **changes)


def evaluate(params):
  batch = make_batch(1000)
  per_example = Toy().evaluate(params, batch, jax.random.key(0))
  return {'error': float(jnp.mean(per_example['error']))}


def run(
  workdir,
  data=None,
  evaluate=evaluate,
  optimizer=None,
  toy=Toy(),
  seed=0,
  reset_at=0,
  begin=None,
  **changes,
):
  """Trains the toy in `workdir`, as a command would."""
  settings = training_settings(**changes)
  optimizer = optimizer or optimizer_settings()
  values = {
    'training': dataclasses.asdict(settings),
    'optimizer': dataclasses.asdict(optimizer),
  }
  may_change = tuple(
    f'training.{key}' for key in 'steps parallel model_axis sharding'.split()
  )
  with workdir_lib.claim(workdir, values, may_change):
    return loop.run(
      spec.Run(
        task=toy,
        data=data or Data(),
        evaluate=evaluate,
        settings=settings,
        optimizer_settings=optimizer,
        seed=seed,
        begin=begin,
        reset_at=reset_at,
        workdir=workdir,
        name='',
      )
    )


class Killed(Exception):
  """Ends a run without a word, as far as one process can."""


class Dying(Data):
  """Raises instead of giving batch `at`."""

  def __init__(self, at):
    super().__init__()
    self.at = at

  def __next__(self):
    if self.index == self.at:
      raise Killed
    return super().__next__()


# What the command trains.
COMMANDED = Toy(coupled=True, remembers=True)
# How the command splits the state, by kind.
SPLIT = {'fsdp': dict(model_axis=2, sharding=RULES)}


class GivingUp(Data):
  """Cannot give batch `at`."""

  def __init__(self, at, **options):
    super().__init__(**options)
    self.at = at

  def __next__(self):
    if self.index == self.at:
      raise errors.UserError('this host gives up')
    return super().__next__()


def main(
  workdir, steps, kind, coordinator='', process_id=None, count=None, at=-1
):
  hosts.join(
    coordinator,
    process_id if process_id is None else int(process_id),
    count if count is None else int(count),
    join_seconds=60,
    heartbeat_seconds=10,
  )
  state = run(
    pathlib.Path(workdir),
    GivingUp(
      int(at),
      delay=0.01,
      part=(jax.process_index(), jax.process_count()),
    ),
    toy=COMMANDED,
    steps=int(steps),
    parallel=kind,
    **SPLIT.get(kind, {}),
  )
  sys.stdout.write(f'ended at {int(state.step)}\n')


if __name__ == '__main__':
  try:
    main(*sys.argv[1:])
  except errors.UserError as error:
    sys.stderr.write(f'error: {error}\n')
    hosts.leave(2)
