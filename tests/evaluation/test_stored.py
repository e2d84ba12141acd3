"""Reported figures come back from JSON as they were."""

from collections.abc import Mapping
import dataclasses
import json
import math
from typing import Literal

import pytest

from lvdecode import errors
from lvdecode.evaluation import stored


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
  count: int
  nll: float
  since: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Whole:
  name: Literal['used', 'collapsed']
  flag: bool
  part: Part
  absent: Part | None
  optional: float | None
  numbers: tuple[float, ...]
  pair: tuple[int, str]
  parts: tuple[Part, ...]
  table: tuple[tuple[float, ...], ...] | None
  by_name: Mapping[str, Part]


WHOLE = Whole(
  name='used',
  flag=True,
  part=Part(count=1, nll=2.0),
  absent=None,
  optional=None,
  numbers=(1.0, 2.5),
  pair=(3, 'three'),
  parts=(Part(count=2, nll=0.0), Part(count=3, nll=1.0)),
  table=((1.0, 2.0), (3.0,)),
  by_name={'a': Part(count=4, nll=4.0)},
)


def written(whole):
  return json.loads(json.dumps(dataclasses.asdict(whole)))


def test_what_was_written_comes_back():
  assert stored.rebuild(Whole, written(WHOLE)) == WHOLE


def test_what_was_not_known_then_has_its_default():
  part = stored.rebuild(Part, {'count': 1, 'nll': 2.0})
  assert part == Part(count=1, nll=2.0, since=0)
  assert stored.rebuild(Part, {'count': 1, 'nll': 2.0, 'since': 4}).since == 4


def test_null_is_nan_where_a_number_is_due():
  part = stored.rebuild(Part, {'count': 1, 'nll': None, 'derived': 3})
  assert part.count == 1 and math.isnan(part.nll)


def test_a_missing_field_asks_for_a_new_evaluation():
  tree = written(WHOLE)
  del tree['part']['nll']
  with pytest.raises(errors.UserError, match=r'nll.*evaluate again'):
    stored.rebuild(Whole, tree)
