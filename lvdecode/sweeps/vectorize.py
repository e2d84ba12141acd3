"""Which runs can be trained in one program, and what sets them apart."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from lvdecode import errors
from lvdecode import settings as settings_lib
from lvdecode.sweeps import points as points_lib
from lvdecode.tasks import latent
from lvdecode.training import optimizer
from lvdecode.training import spec as spec_lib

# What runs of one program may differ in: numbers that change neither a shape
# nor what is computed, only by what is multiplied or compared with; and the
# seed, of which the program sees nothing but keys and batches. Not rates of
# dropout or weights of added terms: there 0 is another program.
NUMBERS = (
  'optimizer.learning_rate',
  'optimizer.end_fraction',
  'objective.beta.start',
  'objective.beta.end',
  'objective.free_bits.nats',
  'objective.rate.target',
)
KEYS = ('seed', *NUMBERS)


def chunks(
  points: Sequence[points_lib.Point], most: int
) -> list[list[points_lib.Point]]:
  """The points in groups that can be trained together, of at most `most`."""
  alike: dict[str, list[points_lib.Point]] = {}
  for point in points:
    text = points_lib.text_without(point.settings, KEYS)
    if _apart(point.settings):
      text = point.digest
    alike.setdefault(text, []).append(point)
  return [
    group[i : i + most]
    for group in alike.values()
    for i in range(0, len(group), most)
  ]


def differences(
  points: Sequence[points_lib.Point],
) -> dict[str, dict[str, Any]]:
  """Name of each point -> the keys in which the points differ."""
  keys = [k for k in KEYS if len({point.value(k) for point in points}) > 1]
  return {point.name: {k: point.value(k) for k in keys} for point in points}


def check(settings: Sequence[settings_lib.Settings]) -> None:
  """Raises UserError unless runs of these settings can be one program."""
  for one in settings:
    if key := _apart(one):
      raise errors.UserError(
        f'{key} = {points_lib.value(one, key)} needs programs of its own, and '
        'runs trained together have one: train them one by one'
      )
  if len({points_lib.text_without(one, KEYS) for one in settings}) > 1:
    raise errors.UserError(
      'runs trained together may differ in nothing but ' + ', '.join(KEYS)
    )


def _apart(settings: settings_lib.Settings) -> str | None:
  """The key for whose value a run needs programs of its own; None if none."""
  off = {
    'training.encoder_updates': 1,
    'objective.pretraining_steps': 0,
    'optimizer.stages': (),
    # Which labels are kept, and so the batches' shapes, depend on the seed.
    'semi_supervised.labels': (),
  }
  own = (k for k, v in off.items() if points_lib.value(settings, k) != v)
  return next(own, None)


def numbers(settings: settings_lib.Settings) -> dict[str, float]:
  """The values of `NUMBERS`."""
  return {key: points_lib.value(settings, key) for key in NUMBERS}


def rebuilt(
  spec: spec_lib.Run, values: Mapping[str, Any]
) -> tuple[latent.LatentTask, optimizer.OptimizerSettings]:
  """The task and the optimiser's settings of a run, with other `NUMBERS`."""
  task = spec.task
  assert isinstance(task, latent.LatentTask)
  objective = with_numbers(task.objective, 'objective', values)
  return (
    dataclasses.replace(task, objective=objective),
    with_numbers(spec.optimizer_settings, 'optimizer', values),
  )


def with_numbers(section: Any, prefix: str, values: Mapping[str, Any]) -> Any:
  """A section of the settings with some `NUMBERS` put in place.

  They may be traced, so nothing is checked: each has been, as a float.

  Args:
    section: a frozen dataclass.
    prefix: its name in the settings.
    values: dotted key -> number; keys of other sections are left out.
  """
  for key, value in values.items():
    first, *path = key.split('.')
    if first == prefix:
      section = _replaced(section, path, value)
  return section


def _replaced(section, path, value):
  name, *rest = path
  if rest:
    value = _replaced(getattr(section, name), rest, value)
  # Not dataclasses.replace, which runs the checks of __post_init__.
  copy = object.__new__(type(section))
  for field in dataclasses.fields(section):
    new = value if field.name == name else getattr(section, field.name)
    object.__setattr__(copy, field.name, new)
  return copy
