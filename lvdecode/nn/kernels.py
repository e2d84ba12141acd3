"""Matrix products and attention in the form that each machine is fast at."""

from jax import lax
from jaxtyping import Array, Float


def flat_dot(
  lhs: Float[Array, '*rows D'],
  rhs: Float[Array, 'D E'],
  dimension_numbers,
  precision=None,
  preferred_element_type=None,
) -> Float[Array, '*rows E']:
  """`lax.dot_general` of a dense layer, over all rows as one axis.

  With the signature that `linen.Dense` calls. The product is the same; but of
  [B, T, D] the gradient of the weights contracts two axes at once, for which
  XLA on CPU copies a transposed operand and takes a slower product: together
  a third more time for the backward pass of a layer.
  """
  assert dimension_numbers == (((lhs.ndim - 1,), (0,)), ((), ()))
  out = lax.dot_general(
    lhs.reshape(-1, lhs.shape[-1]),
    rhs,
    (((1,), (0,)), ((), ())),
    precision=precision,
    preferred_element_type=preferred_element_type,
  )
  return out.reshape(*lhs.shape[:-1], rhs.shape[1])
