"""How a stack of equal layers is run: unrolled or scanned, and what is kept."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from lvdecode.nn import kernels

# What the backward pass finds ready, the rest of a layer being computed again:
# 'block' nothing but the layer's input, 'dots' the products with its weights,
# 'all_dots' also those of the attention; 'none' computes nothing again.
REMAT: dict[str, Callable[..., Any] | None] = {
  'none': None,
  'block': jax.checkpoint_policies.nothing_saveable,
  'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  'all_dots': jax.checkpoint_policies.dots_saveable,
}


class Execution(NamedTuple):
  """Choices that change speed and memory, and no result.

  Attributes:
    attention: of kernels.ATTENTION.
    scan_layers: one program for all layers, run so many times: compile time
      does not grow with depth. Their parameters are then copied side by side
      in each step.
    remat: of REMAT.
  """

  attention: str
  scan_layers: bool
  remat: str

  @property
  def plain(self) -> bool:
    """Whether each layer is called as it stands."""
    return not self.scan_layers and self.remat == 'none'


PLAIN = Execution('auto', False, 'none')


def through(
  stack: nn.Module,
  blocks: Sequence[nn.Module],
  h: Float[Array, 'B T D'],
  mask: kernels.Mask,
  told: Any,
  deterministic: bool,
  execution: Execution,
) -> Float[Array, 'B T D']:
  """h through the blocks `h_0`, `h_1`, … of a stack, called as its settings say.

  Args:
    stack: the module whose blocks they are, bound.
    blocks: of it.
    h: what the first is given.
    mask: of all.
    told: memory and context, with the layers as first axis, or None.
    deterministic: whether there is no dropout.
    execution: how.
  """
  # What is sown, or made, has its place in a module of each layer.
  modules = stack.is_initializing() or stack.is_mutable_collection(
    'intermediates'
  )
  if execution.plain or modules:
    for index, block in enumerate(blocks):
      memory, context = _at(index, told)
      h = block(h, mask, memory, deterministic, context)
    return h
  params = stack.variables['params']
  return run(
    blocks[0].clone(parent=None),
    [params[f'h_{index}'] for index in range(len(blocks))],
    h,
    mask,
    told,
    None if deterministic else stack.make_rng('dropout'),
    execution,
  )


def run(
  block: nn.Module,
  params: Sequence[Any],
  h: Float[Array, 'B T D'],
  mask: kernels.Mask,
  told: tuple[Any, Any],
  dropout: Key[Array, ''] | None,
  execution: Execution,
) -> Float[Array, 'B T D']:
  """h through a layer for each of `params`.

  Args:
    block: called as `transformer.Block`.
    params: of each layer.
    h: what the first is given.
    mask: of all.
    told: memory and context, with the layers as first axis, or None.
    dropout: a key from which each layer has its own; None: no dropout. The
      draws are the same scanned and unrolled, but others than those of the
      layers called as modules.
    execution: how.
  """
  count = len(params)
  keys = None if dropout is None else jax.random.split(dropout, count)

  def layer(h, own):
    values, part, key = own
    rngs = None if key is None else {'dropout': key}
    memory, context = part
    out = block.apply(
      {'params': values}, h, mask, memory, key is None, context, rngs=rngs
    )
    return out, None

  if execution.remat != 'none':
    # A scan keeps the compiler from sharing what is to be computed again.
    layer = jax.checkpoint(
      layer,
      policy=REMAT[execution.remat],
      prevent_cse=not execution.scan_layers,
    )
  if execution.scan_layers:
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
    return lax.scan(layer, h, (stacked, told, keys))[0]
  for index in range(count):
    h, _ = layer(h, (params[index], *_at(index, (told, keys))))
  return h


def _at(index: int, tree):
  return jax.tree.map(lambda leaf: leaf[index], tree)
