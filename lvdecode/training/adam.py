"""Adam with an age of its own for every parameter."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class AgedState(NamedTuple):
  """Trees like the parameters.

  Attributes:
    age: how often each one's moments were updated.
    mu: averages of the gradient.
    nu: averages of its square.
  """

  age: Any
  mu: Any
  nu: Any


def scale_by_aged_adam(
  b1: float, b2: float, eps: float
) -> optax.GradientTransformation:
  """`optax.scale_by_adam` for parameters that do not move all the time.

  Moments begin at 0, for which Adam makes up by the number of updates (Kingma
  and Ba 2015, section 3). By the number of steps of the run, as optax has it, a
  parameter that has waited would begin with steps up to
  (1 - b1^t) / (1 - b2^t)^(1/2) times too long: 2 at b2 = 0.99, 6 at 0.999.
  Whoever holds the moments of a parameter must hold its age too.
  """

  def init(params):
    zeros = jax.tree.map(jnp.zeros_like, params)
    age = jax.tree.map(lambda x: jnp.zeros((), jnp.int32), params)
    return AgedState(age, zeros, jax.tree.map(jnp.copy, zeros))

  def update(updates, state, params=None):
    del params
    age = jax.tree.map(lambda n: n + 1, state.age)
    mu = jax.tree.map(lambda g, m: b1 * m + (1 - b1) * g, updates, state.mu)
    nu = jax.tree.map(lambda g, v: b2 * v + (1 - b2) * g**2, updates, state.nu)

    def scaled(n, m, v):
      n = n.astype(jnp.float32)
      return (m / (1 - b1**n)) / (jnp.sqrt(v / (1 - b2**n)) + eps)

    return jax.tree.map(scaled, age, mu, nu), AgedState(age, mu, nu)

  return optax.GradientTransformation(init, update)
