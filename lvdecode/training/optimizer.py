"""AdamW whose decay, learning rate and freezing are chosen by name."""

from collections.abc import Callable
import dataclasses
import math
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import optax

from lvdecode import errors
from lvdecode.training import adam
from lvdecode.training import flat
from lvdecode.training import running
from lvdecode.training import trees

Rules = tuple[tuple[str, float], ...]
Stages = tuple[tuple[int, Rules], ...]
_ALL = '.*'  # may close a list for what is not there yet
Schedule = Callable[[Int[Array, ''] | int], Float[Array, '']]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
  """AdamW with warm-up, decay and clipping.

  `weight_decay` and `multipliers` are lists of (pattern, value), and so are the
  rules of a stage. A pattern is
  a regular expression that must match a parameter's whole '/'-joined path
  (`re.fullmatch`); the first that does gives the value.

  Attributes:
    learning_rate: the peak.
    warmup_steps: steps to the peak; the first step has peak / warmup_steps.
    decay: 'cosine' or 'constant', after the warm-up.
    end_fraction: the cosine's last value / peak.
    b1: decay of the gradient's average.
    b2: decay of its square's average.
    eps: added to the root of the latter.
    clip_norm: largest global norm of the gradient; 0 for no clipping.
    weight_decay: decoupled, multiplied by the learning rate.
    multipliers: factors on the learning rate; 0.0 freezes. Running statistics
      follow the data whatever theirs is.
    stages: (steps, rules) one after the other from the first step of the run,
      each with rules in the place of `multipliers`, which hold after the last.
      The learning rate does not begin anew.
  """

  learning_rate: float
  warmup_steps: int
  decay: str
  end_fraction: float
  b1: float
  b2: float
  eps: float
  clip_norm: float
  weight_decay: Rules
  multipliers: Rules
  stages: Stages

  def __post_init__(self):
    for key, holds, rule in (
      ('learning_rate', 0 < self.learning_rate < math.inf, 'above 0'),
      ('warmup_steps', self.warmup_steps >= 0, '0 or more'),
      ('decay', self.decay in ('cosine', 'constant'), 'cosine or constant'),
      ('end_fraction', 0 <= self.end_fraction <= 1, 'in [0, 1]'),
      ('b1', 0 <= self.b1 < 1, 'in [0, 1)'),
      ('b2', 0 <= self.b2 < 1, 'in [0, 1)'),
      ('eps', self.eps > 0, 'above 0'),
      ('clip_norm', self.clip_norm >= 0, '0 (off) or more'),
    ):
      if not holds:
        raise errors.UserError(
          f'optimizer.{key} is {getattr(self, key)!r}, must be {rule}'
        )
    _compiled('weight_decay', self.weight_decay)
    _compiled('multipliers', self.multipliers)
    for i, (steps, rules) in enumerate(self.stages):
      errors.at_least(f'optimizer.stages[{i}][0]', steps, 1)
      _compiled(f'stages[{i}]', rules)


class Stage(NamedTuple):
  """What moves, and how fast, from one step of the run on.

  Attributes:
    name: the key of the settings that says so.
    begin: the first step, counted from 0.
    multipliers: tree of factors on the learning rate.
    moving: tree of bools, False where frozen or a running statistic.
    parameters: how many numbers move.
  """

  name: str
  begin: int
  multipliers: Any
  moving: Any
  parameters: int

  def line(self) -> str:
    """What a log says of it."""
    return (
      f'from step {self.begin} on {self.name}: '
      f'{self.parameters:,} parameters move'
    )


class Optimizer(NamedTuple):
  """An optimiser made for one tree of parameters.

  Attributes:
    tx: takes and gives trees with None in place of what never moves; wants the
      step as an extra argument of `update`.
    learning_rate: the rate at a step, before multipliers.
    trainable: tree of bools, True for what moves in any stage.
    stages: at least one, in order; the first begins at step 0.
  """

  tx: optax.GradientTransformationExtraArgs
  learning_rate: Schedule
  trainable: Any
  stages: tuple[Stage, ...]

  def stage_at(self, step: int) -> Stage:
    """The stage in which the step after so many falls."""
    return [stage for stage in self.stages if stage.begin <= step][-1]


def make(
  settings: OptimizerSettings,
  total_steps: int,
  params: Any,
  *,
  parts_wait: bool = False,
) -> Optimizer:
  """The optimiser for `params` (arrays or shapes) over `total_steps`.

  `parts_wait` says that moments will be held or begin anew for some of them.

  Raises:
    UserError: a parameter no pattern covers, a pattern that matches nothing,
      or a stage with nothing left to train.
  """
  decay = assign('weight_decay', settings.weight_decay, params)
  stages = _stages(settings, params)
  trainable = jax.tree.map(
    lambda *moving: any(moving), *(stage.moving for stage in stages)
  )
  learning_rate = _schedule(settings, total_steps)
  # optax's where it is enough: one count, not one a parameter.
  aged = parts_wait or len(stages) > 1
  scale_by_adam = adam.scale_by_aged_adam if aged else optax.scale_by_adam
  parts = [
    scale_by_adam(b1=settings.b1, b2=settings.b2, eps=settings.eps),
    _decay_and_scale(
      trees.select(trainable, decay),
      stages,
      trainable,
      learning_rate,
    ),
  ]
  if settings.clip_norm:
    parts.insert(0, optax.clip_by_global_norm(settings.clip_norm))
  tx = _without_frozen(trainable, optax.chain(*parts))
  return Optimizer(tx, learning_rate, trainable, stages)


def _stages(settings: OptimizerSettings, params: Any) -> tuple[Stage, ...]:
  """Those of the settings, and what comes after."""
  stages, begin = [], 0
  for i, (steps, rules) in enumerate(settings.stages):
    stages.append(_stage(f'stages[{i}]', begin, rules, params))
    begin += steps
  stages.append(_stage('multipliers', begin, settings.multipliers, params))
  return tuple(stages)


def _stage(key: str, begin: int, rules: Rules, params: Any) -> Stage:
  multipliers = assign(key, rules, params)
  leaves, treedef = jax.tree.flatten(params)
  moving = [
    multiplier != 0.0 and not running.is_statistic(path)
    for path, multiplier in zip(
      flat.names(params), jax.tree.leaves(multipliers), strict=True
    )
  ]
  if not any(moving):
    raise errors.UserError(
      f'optimizer.{key} freezes every parameter: leave one above 0'
    )
  count = sum(
    math.prod(leaf.shape)
    for leaf, moves in zip(leaves, moving, strict=True)
    if moves
  )
  moving = jax.tree.unflatten(treedef, moving)
  return Stage(f'optimizer.{key}', begin, multipliers, moving, count)


def assign(key: str, rules: Rules, params: Any) -> Any:
  """A tree like `params` with the value of the first pattern that matches."""
  compiled = _compiled(key, rules)
  names = flat.names(params)
  used = set()
  values = []
  for name in names:
    matches = (i for i, (p, _) in enumerate(compiled) if p.fullmatch(name))
    first = next(matches, None)
    if first is None:
      raise errors.UserError(
        f'optimizer.{key} has no pattern for parameter {name!r}: '
        "add ('.*', value) at the end"
      )
    used.add(first)
    values.append(compiled[first][1])
  for i, (pattern, _) in enumerate(rules):
    last = pattern == _ALL and _ALL not in dict(rules[:i])
    if i in used or last:
      continue
    found = [name for name in names if compiled[i][0].fullmatch(name)]
    if found:
      raise errors.UserError(
        f'optimizer.{key}: pattern {pattern!r} decides nothing, an earlier one '
        f'matches {found[0]!r}: move it up'
      )
    raise errors.UserError(
      f'optimizer.{key}: pattern {pattern!r} matches no parameter; '
      f'it must match a whole path such as {names[0]!r}'
    )
  return jax.tree.unflatten(jax.tree.structure(params), values)


def _compiled(key: str, rules: Rules):
  compiled = []
  for pattern, value in rules:
    if not 0 <= value < math.inf:
      raise errors.UserError(
        f'optimizer.{key}: {value} for {pattern!r} is negative or not a number'
      )
    try:
      compiled.append((re.compile(pattern), float(value)))
    except re.error as error:
      raise errors.UserError(
        f'optimizer.{key}: {pattern!r} is not a regular expression: {error}'
      ) from error
  return compiled


def _schedule(settings: OptimizerSettings, total_steps: int) -> Schedule:
  """Linear warm-up, then the decay, reaching its end at `total_steps`."""
  warmup = settings.warmup_steps
  rest = max(total_steps - warmup, 1)

  def learning_rate(step):
    step = jnp.asarray(step)
    # The first step counts 1: a rate of 0 would waste it.
    rise = jnp.minimum((step + 1) / max(warmup, 1), 1.0)
    if settings.decay == 'constant':
      return (settings.learning_rate * rise).astype(jnp.float32)
    done = jnp.clip((step - warmup) / rest, 0.0, 1.0)
    cosine = 0.5 * (1 + jnp.cos(jnp.pi * done))
    low = settings.end_fraction
    fall = low + (1 - low) * cosine
    return (settings.learning_rate * rise * fall).astype(jnp.float32)

  return learning_rate


def _decay_and_scale(decay, stages, trainable, learning_rate):
  """The rate follows the run's step, not the count of steps not skipped."""
  multipliers = [trees.select(trainable, s.multipliers) for s in stages]

  def update(updates, state, params=None, *, step):
    rate = learning_rate(step)
    begins = jnp.asarray([stage.begin for stage in stages])
    stage = jnp.sum(step >= begins) - 1

    def scaled(u, p, d, *m):
      m = m[0] if len(set(m)) == 1 else jnp.asarray(m, jnp.float32)[stage]
      return -rate * m * (u + d * p)

    return jax.tree.map(scaled, updates, params, decay, *multipliers), state

  return optax.GradientTransformationExtraArgs(
    lambda params: optax.EmptyState(), update
  )


def _without_frozen(trainable, inner):
  """`inner` on the trainable part: no state, no update for the rest."""

  def init(params):
    return inner.init(trees.select(trainable, params))

  def update(updates, state, params=None, *, step):
    return inner.update(
      trees.select(trainable, updates),
      state,
      trees.select(trainable, params),
      step=step,
    )

  return optax.GradientTransformationExtraArgs(init, update)
