"""Members of a group end as runs of their own do."""

import contextlib
import dataclasses
import json

import jax
import numpy as np
import pytest
import toy_task

from lvdecode import errors
from lvdecode.training import checkpoint
from lvdecode.training import loop
from lvdecode.training import together
from lvdecode.training import workdir as workdir_lib

RATES = (0.05, 0.02, 0.01, 0.1)
NOISES = (0.1, 0.0, 0.3, 0.2)


class Killed(Exception):
  """Ends the process, as far as a test can."""


class Dying(toy_task.Data):
  """Raises instead of giving batch `at`."""

  def __init__(self, at, **options):
    super().__init__(**options)
    self.at = at

  def __next__(self):
    if self.index == self.at:
      raise Killed
    return super().__next__()


def group(folder, data=None, count=4, built=None, **changes):
  """Trains members that differ in seed, data, learning rate and noise."""
  settings = toy_task.training_settings(**changes)
  data = data or [toy_task.Data(first=100 * i) for i in range(count)]
  numbers = [
    {'rate': rate, 'noise': noise}
    for rate, noise in zip(RATES * 2, NOISES * 2, strict=True)
  ][:count]

  def build(own):
    if built is not None:
      built.append(own)
    optimizer = toy_task.optimizer_settings()
    object.__setattr__(optimizer, 'learning_rate', own['rate'])
    return toy_task.Toy(own['noise'], remembers=True), optimizer

  runs = [
    loop.Run(
      task=toy_task.Toy(own['noise'], remembers=True),
      data=data[i],
      evaluate=toy_task.evaluate,
      settings=settings,
      optimizer_settings=toy_task.optimizer_settings(
        learning_rate=own['rate']
      ),
      seed=i,
      reset_at=0,
      workdir=folder / f'm{i}',
      name=f'm{i}',
    )
    for i, own in enumerate(numbers)
  ]
  with contextlib.ExitStack() as stack:
    for spec in runs:
      stack.enter_context(workdir_lib.claim(spec.workdir, {}))
    return together.run(runs, numbers, build)


def one_by_one(folder, count=4, **changes):
  for i in range(count):
    rate, noise = (RATES * 2)[i], (NOISES * 2)[i]
    toy_task.run(
      folder / f'm{i}',
      data=toy_task.Data(first=100 * i),
      optimizer=toy_task.optimizer_settings(learning_rate=rate),
      toy=toy_task.Toy(noise, remembers=True),
      seed=i,
      **changes,
    )


def last(folder, member):
  """The arrays of a member's last checkpoint."""
  spec = toy_task.Toy(remembers=True)
  del spec
  found = checkpoint.restore_raw(folder / f'm{member}')
  return found


def lines(folder, member):
  """metrics.jsonl without what measures time."""
  found = []
  text = (folder / f'm{member}' / 'metrics.jsonl').read_text()
  for line in text.splitlines():
    entry = json.loads(line)
    entry.pop('train/tokens_per_second', None)
    found.append(entry)
  return found
