"""LoRA: a change of low rank beside kernels of the decoder."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from lvdecode import errors

ADAPTERS = 'adapters'  # the parameters' name, beside 'decoder'
_KERNEL = 'kernel'


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdapterSettings:
  """Which kernels get a change of low rank (Hu et al. 2021).

  With a kernel W [I, O] the decoder computes with W + alpha / rank · down up,
  where down is [I, rank] and up [rank, O]. A pretrained decoder that is frozen
  but for adapters and told z is what AdaVAE has (Tu et al. 2022).

  Attributes:
    rank: of the change; 0: off.
    alpha: its scale, times rank.
    targets: regular expressions, each for whole paths of modules in the
      decoder (`re.fullmatch`), as 'h_0/attn/c_attn'.
  """

  rank: int
  alpha: float
  targets: tuple[str, ...]

  def __post_init__(self):
    errors.at_least('model.adapters.rank', self.rank, 0)
    if not 0 < self.alpha < math.inf:
      raise errors.UserError(
        f'model.adapters.alpha = {self.alpha}: it must be above 0'
      )
    if self.rank and not self.targets:
      raise errors.UserError(
        f'model.adapters.rank = {self.rank}, model.adapters.targets = (): name '
        'modules of the decoder, or make the rank 0'
      )
    for pattern in self.targets:
      try:
        re.compile(pattern)
      except re.error as error:
        raise errors.UserError(
          f'model.adapters.targets: {pattern!r} is not a regular expression: '
          f'{error}'
        ) from error


def init(settings: AdapterSettings, rng: Key[Array, ''], decoder: dict) -> dict:
  """Fresh adapters for a decoder's parameters, as a tree like theirs.

  `up` is 0, so that nothing changes before the first step; `down` is drawn so
  that it keeps the variance of what it reads.

  Raises:
    UserError: a target that matches no kernel.
  """
  kernels = _kernels(decoder)
  patterns = [re.compile(pattern) for pattern in settings.targets]
  for pattern in patterns:
    if not any(map(pattern.fullmatch, kernels)):
      raise errors.UserError(
        f'model.adapters.targets: {pattern.pattern!r} matches no kernel of the '
        f'decoder; it must match a whole path such as {min(kernels)!r}'
      )
  adapters: dict = {}
  for place, (path, kernel) in enumerate(sorted(kernels.items())):
    if not any(pattern.fullmatch(path) for pattern in patterns):
      continue
    node = adapters
    for name in path.split('/'):
      node = node.setdefault(name, {})
    width, out = kernel.shape
    # A key by place: a target more or less leaves the others' draws alone.
    draw = jax.random.normal(
      jax.random.fold_in(rng, place), (width, settings.rank)
    )
    node['down'] = draw * width**-0.5
    node['up'] = jnp.zeros((settings.rank, out))
  return adapters


def merge(params: dict, settings: AdapterSettings) -> dict:
  """The parameters of the plain model that computes the same."""
  if not settings.rank:
    return params
  rest = {name: tree for name, tree in params.items() if name != ADAPTERS}
  scale = settings.alpha / settings.rank
  rest['decoder'] = _merged(rest['decoder'], params[ADAPTERS], scale)
  return rest


def _merged(decoder: dict, adapters: dict, scale: float) -> dict:
  if 'up' in adapters:
    change = scale * (adapters['down'] @ adapters['up'])
    return decoder | {_KERNEL: decoder[_KERNEL] + change}
  return decoder | {
    name: _merged(decoder[name], child, scale)
    for name, child in adapters.items()
  }


def _kernels(decoder: dict, path: str = '') -> dict:
  """Path of a module -> its kernel [I, O]."""
  found = {}
  for name, child in decoder.items():
    if name == _KERNEL:
      found[path] = child
    elif isinstance(child, dict):
      found |= _kernels(child, f'{path}/{name}' if path else name)
  return found
