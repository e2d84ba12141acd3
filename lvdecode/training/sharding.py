"""Which dimension of an array of the state is split over which axis."""

from collections.abc import Mapping
import math
import re

import jax

from lvdecode import errors
from lvdecode.training import flat
from lvdecode.training import step as step_lib

DATA, MODEL = 'data', 'model'
AXES = (DATA, MODEL)

Spec = jax.sharding.PartitionSpec
Rules = tuple[tuple[str, tuple[str, ...]], ...]

# The dimension of a layer's parameter that the `model` axis splits: attention
# heads, hidden units of an MLP, rows of the vocabulary (Shoeybi et al. 2019,
# Megatron-LM, section 3). Every transformer here has GPT-2's names.
_MODEL_DIMENSIONS = (
  ('.*(c_attn|c_fc)/kernel', 1),
  ('.*(c_attn|c_fc)/bias', 0),
  ('.*c_proj/kernel', 0),
  ('.*wte/embedding', 0),
)
# Arrays of fewer numbers stay whole where no rule says otherwise: to gather
# one takes longer than it saves memory.
_LEAST = 1024


def check(rules: Rules) -> None:
  """Refuses what cannot be a rule, whatever the parameters."""
  for pattern, axes in rules:
    try:
      re.compile(pattern)
    except re.error as error:
      raise errors.UserError(
        f'training.sharding: {pattern!r} is not a regular expression: {error}'
      ) from error
    named = [axis for axis in axes if axis]
    for axis in named:
      errors.one_of(f'training.sharding: axis of {pattern!r}', axis, AXES)
    if len(set(named)) < len(named):
      raise errors.UserError(
        f'training.sharding: {pattern!r} splits two dimensions over one axis: '
        f'{axes}'
      )


def of_state(
  state: step_lib.TrainState, rules: Rules, sizes: Mapping[str, int]
) -> step_lib.TrainState:
  """A tree of `PartitionSpec`s like `state`, of arrays or of shapes.

  An array of the optimiser, and the running average, is split as the
  parameter it belongs to; all else is whole everywhere.

  Args:
    state: the state.
    rules: (pattern, axis of each dimension or ''); the first pattern that
      matches a parameter's whole path decides. What none matches is split by
      its shape: over `data` along its longest dimension that divides, beside
      the one that is the `model` axis'.
    sizes: of the axes.

  Raises:
    UserError: a pattern that matches no parameter, or axes that do not fit.
  """
  names = flat.names(state.params)
  shapes = dict(
    zip(names, (x.shape for x in jax.tree.leaves(state.params)), strict=True)
  )
  specs = _of_params(shapes, rules, sizes)
  longest = sorted(names, key=len, reverse=True)

  def spec(path, leaf):
    for name in longest:
      if f'/{path}'.endswith(f'/{name}') and leaf.shape == shapes[name]:
        return specs[name]
    return Spec()

  leaves, treedef = jax.tree.flatten(state)
  return jax.tree.unflatten(
    treedef,
    [spec(*item) for item in zip(flat.names(state), leaves, strict=True)],
  )


def _of_params(shapes, rules, sizes) -> dict[str, Spec]:
  used = set()
  specs = {}
  for name, shape in shapes.items():
    rule = next((r for r in rules if re.fullmatch(r[0], name)), None)
    if rule is None:
      specs[name] = _by_shape(name, shape, sizes)
    else:
      used.add(rule)
      specs[name] = _by_rule(name, shape, rule, sizes)
  for rule in rules:
    if rule not in used:
      raise errors.UserError(
        f'training.sharding: pattern {rule[0]!r} matches no parameter; it '
        f'must match a whole path such as {next(iter(shapes))!r}'
      )
  return specs


def _by_rule(name, shape, rule, sizes) -> Spec:
  pattern, axes = rule
  if len(axes) != len(shape):
    raise errors.UserError(
      f'training.sharding: {pattern!r} has {len(axes)} axes, and {name!r} has '
      f"the shape {list(shape)}: give one for each dimension, '' for whole"
    )
  for size, axis in zip(shape, axes, strict=True):
    if axis and size % sizes[axis]:
      raise errors.UserError(
        f'training.sharding: {name!r} of shape {list(shape)} cannot be split '
        f'over {sizes[axis]} devices of the axis {axis!r} as {pattern!r} says'
      )
  return Spec(*(axis or None for axis in axes))


def _by_shape(name, shape, sizes) -> Spec:
  axes: list[str | None] = [None] * len(shape)
  for pattern, dimension in _MODEL_DIMENSIONS:
    if re.fullmatch(pattern, name) and shape[dimension] % sizes[MODEL] == 0:
      axes[dimension] = MODEL
      break
  if math.prod(shape) >= _LEAST:
    free = [
      i
      for i, size in enumerate(shape)
      if axes[i] is None and size % sizes[DATA] == 0
    ]
    if free:
      axes[max(free, key=lambda i: shape[i])] = DATA
  return Spec(*axes)
