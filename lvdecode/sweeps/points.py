"""The points of a sweep: runs that differ in a few keys, and their names."""

from collections.abc import Callable, Iterable, Iterator, Mapping
import contextlib
import copy
import dataclasses
import fnmatch
import functools
import hashlib
import json
import operator
import pathlib
import re
from typing import Any

from lvdecode import beginning
from lvdecode import errors
from lvdecode import settings as settings_lib
from lvdecode.training import schedules

# Where the data lie (their content is compared), how often a line is printed,
# and what moves parameters by rounding alone, make no other run; but see
# `may_change`.
NO_PART_OF_A_RUN = (
  'data.path',
  'training.log_every',
  'training.micro_batch',
  'training.model_axis',
  'training.parallel',
  'training.sharding',
)
# May change as well, and yet names a point of a sweep.
_NO_PART_OF_A_FIGURE = ('evaluation.batch_size',)
_LONGEST_SLUG = 120  # a file name has at most 255 bytes
# Keys that say nothing without their section.
_VAGUE = ('kind', 'start', 'end', 'nats', 'target', 'duration', 'weight')

Overrides = dict[str, Any]
Add = Callable[[Overrides], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
  """One run of a sweep.

  Attributes:
    overrides: dotted key -> value, as the sweep gave them.
    settings: all settings of the run.
    slug: the overrides in which the points differ, readable.
    digest: of all settings but those that make no other run.
  """

  overrides: Overrides
  settings: settings_lib.Settings
  slug: str
  digest: str

  @property
  def name(self) -> str:
    """Of the run's folder."""
    return f'{self.slug}-{self.digest[:8]}'

  @property
  def in_epochs(self) -> bool:
    """Whether the number of training texts says how long its schedule is.

    Not where some are left out or come more often: that is for a run to see.
    """
    chosen = self.settings
    if chosen.pipeline.overlong == 'drop' or chosen.semi_supervised.labels:
      return False
    duration = chosen.objective.beta.duration
    return schedules.parse_duration('', duration).unit == 'epochs'

  def check_schedules(self, texts: int) -> None:
    """Raises UserError if one does not end within a run on so many texts."""
    epoch = max(1, texts // self.settings.pipeline.batch_size)
    with _named(self.overrides):
      settings_lib.in_steps(self.settings, epoch)

  def value(self, key: str) -> Any:
    """The setting that a dotted key names."""
    return value(self.settings, key)


def expand(
  base: Mapping[str, Any], sweep: Callable[[Add], None]
) -> list[Point]:
  """All points that `sweep(add)` adds to the settings `base`.

  Args:
    base: nested dictionaries, as `settings.from_dict` takes them.
    sweep: calls add({'dotted.key': value, ...}) once a point.

  Raises:
    UserError: a key that does not exist, a value that cannot be, the same
      point twice, or no point at all; nothing has been trained then.
  """
  added: list[Overrides] = []

  def add(overrides):
    if not isinstance(overrides, Mapping) or not all(
      isinstance(key, str) for key in overrides
    ):
      raise errors.UserError(
        f"the sweep adds {overrides!r}: give {{'dotted.key': value, ...}}"
      )
    added.append(dict(overrides))

  sweep(add)
  if not added:
    raise errors.UserError('the sweep has no point: call add(...) in sweep')
  keys = dict.fromkeys(key for overrides in added for key in overrides)
  short = _short_names(keys)
  varied = [
    key
    for key in keys
    if len({repr(overrides.get(key)) for overrides in added}) > 1
  ]
  points: dict[str, Point] = {}
  for overrides in added:
    point = _point(base, overrides, varied, short)
    if point.digest in points:
      raise errors.UserError(
        f'the sweep has a point twice: {_plain(overrides)} and '
        f'{_plain(points[point.digest].overrides)} are the same run'
      )
    points[point.digest] = point
  return list(points.values())


def settled(point: Point, folder: pathlib.Path) -> Point:
  """The same with the name of the folder that it has already.

  What a slug says depends on what else is swept: a run that is there under
  another one is not trained again.
  """
  ending = f'-{point.digest[:8]}'
  names = sorted(path.name for path in folder.glob(f'*{ending}'))
  if not names or point.name in names:
    return point
  return dataclasses.replace(point, slug=names[0].removesuffix(ending))


def value(settings: settings_lib.Settings, key: str) -> Any:
  """The setting that a dotted key names."""
  return functools.reduce(getattr, key.split('.'), settings)


def text_without(settings: settings_lib.Settings, keys: Iterable[str]) -> str:
  """All settings but those that dotted keys name; equal text, equal settings."""
  tree = settings_lib.to_dict(settings)
  for key in keys:
    *path, last = key.split('.')
    del functools.reduce(operator.getitem, path, tree)[last]
  return json.dumps(tree, sort_keys=True)


def select(points: list[Point], pattern: str) -> list[Point]:
  """Those whose name holds `pattern`, or matches it where it has a * or ?.

  Raises:
    UserError: there are none.
  """
  whole = pattern if set(pattern) & set('*?') else f'*{pattern}*'
  found = [p for p in points if fnmatch.fnmatchcase(p.name, whole)]
  if not found:
    raise errors.UserError(
      f'--only={pattern} matches none of {len(points)} points, such as '
      f'{points[0].name}: see them with --list'
    )
  return found


def varied_keys(points: list[Point]) -> list[str]:
  """The dotted keys in whose value the points differ; the seed last."""
  keys = dict.fromkeys(key for point in points for key in point.overrides)
  varied = [k for k in keys if len({repr(p.value(k)) for p in points}) > 1]
  return sorted(varied, key='seed'.__eq__)


def short_names(keys: list[str]) -> list[str]:
  """The ends of dotted keys, as short as they stay apart."""
  short = _short_names(keys)
  return [short[key] for key in keys]


def describe(value: Any) -> str:
  """A setting in few characters: 'input+memory', '0.001', 'none'."""
  if value is None or value == ():
    return 'none'
  if isinstance(value, tuple | list):
    return '+'.join(describe(item) for item in value)
  if not isinstance(value, float):
    return str(value)
  short = f'{value:g}'  # unless other values would read the same
  return short if float(short) == value else str(value)


def overridden(base: Mapping[str, Any], overrides: Overrides) -> dict:
  """A copy of nested dictionaries with dotted keys set."""
  tree = copy.deepcopy(dict(base))
  for key, value in overrides.items():
    _set(tree, key, value)
  return tree


def _point(base, overrides, varied, short) -> Point:
  tree = overridden(base, overrides)
  with _named(overrides):
    settings = beginning.settings(tree)
  told = [key for key in varied if key in overrides]
  words = [f'{short[key]}={describe(overrides[key])}' for key in told]
  slug = re.sub(r'[^\w.+=-]+', '-', '_'.join(words) or 'base')
  return Point(
    overrides=overrides,
    settings=settings,
    slug=slug[:_LONGEST_SLUG],
    digest=_digest(settings, overrides),
  )


def _set(tree: dict, key: str, value: Any) -> None:
  *path, last = key.split('.')
  known: Any = tree
  parent: Any = tree
  done = ''
  for part in [*path, last]:
    if not isinstance(known, Mapping) or part not in known:
      there = tuple(known) if isinstance(known, Mapping) else ()
      raise errors.UserError(
        f'the sweep sets {key!r}, and {done or "the config"} has no {part!r}: '
        + (errors.did_you_mean(part, there) if there else 'it is one value')
      )
    parent, known = known, known[part]
    done = f'{done}.{part}'.lstrip('.')
  if isinstance(known, Mapping):
    raise errors.UserError(
      f'the sweep sets {key!r}, which is a section: set its keys '
      + ', '.join(f'{key}.{part}' for part in known)
    )
  if value is None and known is not None:
    raise errors.UserError(
      f'the sweep sets {key!r} to None, which no flag can say, and the config '
      f"has {known!r}: make None the config's, and let other points set it"
    )
  parent[last] = value


def may_change(settings: settings_lib.Settings) -> tuple[str, ...]:
  """The keys in which a run that goes on may differ from what it was.

  Where a loss couples the texts of a micro-batch, which those are is part of
  the run.
  """
  training = settings.training
  kept = set()
  if settings.coupled:
    kept.add('training.micro_batch')
    if training.micro_batch or training.accumulate > 1:
      kept.add('training.parallel')
  found = (*NO_PART_OF_A_RUN, *_NO_PART_OF_A_FIGURE, *_derived(settings))
  return tuple(key for key in found if key not in kept)


def _derived(settings: settings_lib.Settings) -> tuple[str, ...]:
  """Where a hub has put the decoder's tokenizer, of which a run has its own."""
  decoder = settings.pretrained.decoder
  if decoder and settings.tokenizer.path != str(errors.path(decoder)):
    return ('tokenizer.path',)
  return ()


def _digest(settings: settings_lib.Settings, overrides: Overrides) -> str:
  # A sweep over corpora has other data in each point.
  left_out = {key for key in NO_PART_OF_A_RUN if key not in overrides}
  # Without micro-batches there are none to tell apart, and names stay.
  if settings.training.micro_batch or settings.training.accumulate > 1:
    left_out &= {*may_change(settings)}
  left_out.update(_derived(settings))
  return hashlib.sha256(text_without(settings, left_out).encode()).hexdigest()


def _short_names(keys: Iterable[str]) -> dict[str, str]:
  def ends(key):
    parts = key.split('.')
    last = len(parts) - 1 - (parts[-1] in _VAGUE)
    return ['.'.join(parts[i:]) for i in range(last, -1, -1)]

  counts: dict[str, int] = {}
  for key in keys:
    for end in ends(key):
      counts[end] = counts.get(end, 0) + 1
  return {
    key: next((end for end in ends(key) if counts[end] == 1), key)
    for key in keys
  }


@contextlib.contextmanager
def _named(overrides: Overrides) -> Iterator[None]:
  """Says of a mistake whose it is."""
  try:
    yield
  except errors.UserError as error:
    raise errors.UserError(
      f'point {_plain(overrides)} of the sweep: {error}'
    ) from error


def _plain(overrides: Overrides) -> str:
  words = (f'{key} = {value!r}' for key, value in overrides.items())
  return '{' + ', '.join(words) + '}'
