"""Figures as JSON keeps them, and back: NaN and infinity are null there."""

from collections.abc import Mapping
import dataclasses
import math
import types
import typing
from typing import Any

from lvdecode import errors


def rebuild(kind: Any, value: Any) -> Any:
  """A reported dataclass from the JSON values of its fields.

  Fields that are not asked for are left alone, derived figures for instance;
  those that have a default may be missing.

  Raises:
    UserError: a field is missing.
  """
  origin, options = typing.get_origin(kind), typing.get_args(kind)
  if origin in (types.UnionType, typing.Union):
    if value is None:
      return None
    some = next(option for option in options if option is not type(None))
    return rebuild(some, value)
  if isinstance(kind, type) and dataclasses.is_dataclass(kind):
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    found = value if isinstance(value, dict) else {}
    names = [field.name for field in fields if field.name in found]
    missing = [
      field.name
      for field in fields
      if field.name not in found and field.default is dataclasses.MISSING
    ]
    if missing:
      raise errors.UserError(
        f'stored figures lack {missing[0]}: they are of another version; '
        'evaluate again'
      )
    return kind(**{name: rebuild(hints[name], value[name]) for name in names})
  if origin is tuple:
    if options[-1] is Ellipsis:
      options = options[:1] * len(value)
    return tuple(map(rebuild, options, value))
  if origin in (dict, Mapping):
    return {key: rebuild(options[1], item) for key, item in value.items()}
  if kind is float:
    return math.nan if value is None else float(value)
  return value
