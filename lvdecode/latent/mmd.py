"""Maximum mean discrepancy: how far the batch's latents lie from the prior."""

from collections.abc import Callable
import dataclasses

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lvdecode import errors


@dataclasses.dataclass(frozen=True, kw_only=True)
class MmdSettings:
  """weight * MMD^2(q(z), p(z)), beside the KL or (beta 0) in its place.

  With a constant beta this is InfoVAE (Zhao et al. 2019, beta = 1 - alpha,
  weight = alpha + lambda - 1); with beta 0 and 'inverse_multiquadric', WAE
  (Tolstikhin et al. 2018, the MMD-based penalty).

  Attributes:
    weight: nats per sequence that an MMD^2 of 1 costs; 0: off.
    kernel: one of KERNELS.
  """

  weight: float
  kernel: str

  def __post_init__(self):
    errors.at_least('objective.mmd.weight', self.weight, 0.0)
    errors.one_of('objective.mmd.kernel', self.kernel, tuple(KERNELS))


def _inverse_multiquadric(squares, size):
  """C / (C + d^2) with C = 2 Z: the mean d^2 between two draws of p(z)."""
  return 2 * size / (2 * size + squares)


def _gaussian(squares, size):
  """exp(-d^2 / 2 Z)."""
  return jnp.exp(-squares / (2 * size))


# Of squared distances, and of Z, which sets the width.
KERNELS: dict[str, Callable] = {
  'inverse_multiquadric': _inverse_multiquadric,
  'gaussian': _gaussian,
}


def squared(
  z: Float[Array, 'B Z'],
  prior: Float[Array, 'B Z'],
  real: Float[Array, ' B'],
  kernel: str,
  axis_name: str | None,
) -> Float[Array, '']:
  """The unbiased estimate of MMD^2 (Gretton et al. 2012, lemma 6).

  Over the real examples of all devices (of a micro-batch where steps
  accumulate); it can be below 0. `prior` holds as many draws of p(z).
  """
  if axis_name is not None:
    z, prior, real = lax.all_gather((z, prior, real), axis_name, tiled=True)
  count = jnp.sum(real)
  # Not row i of one with row i of the other either: of the same condition, they
  # are no independent pair.
  others = real[:, None] * real[None, :] * (1 - jnp.eye(len(real)))

  def mean(weights, a, b, total):
    values = KERNELS[kernel](_squares(a, b), z.shape[-1])
    return jnp.sum(weights * values) / jnp.maximum(total, 1.0)

  within = count * (count - 1)
  return (
    mean(others, z, z, within)
    + mean(others, prior, prior, within)
    - 2 * mean(others, z, prior, within)
  )


def _squares(a, b):
  """[B, B] squared distances; differences lose nothing to cancellation."""
  return jax.vmap(lambda row: jnp.sum((b - row[None, :]) ** 2, axis=-1))(a)
