"""Steps in which the encoder and the decoder are treated differently."""

from collections.abc import Callable, Mapping
import logging
from typing import Any

import jax
import jax.numpy as jnp

from lvdecode import errors
from lvdecode.training import flat
from lvdecode.training import optimizer as optimizer_lib
from lvdecode.training import randomness
from lvdecode.training import step as step_lib
from lvdecode.training import trees

_FIGURE = 'mutual_information'


def of(part: Callable[[str], str], trainable: Any, which: str) -> Any:
  """Tree of bools: the trainable parameters of one part.

  Args:
    part: path of a parameter -> 'encoder', 'decoder' or 'both'.
    trainable: tree of bools like the parameters.
    which: 'encoder' or 'decoder'; what both share is in neither.

  Raises:
    UserError: there are none.
  """
  leaves = [
    free and part(path) == which
    for path, free in zip(
      flat.names(trainable), jax.tree.leaves(trainable), strict=True
    )
  ]
  if not any(leaves):
    raise errors.UserError(
      f"optimizer.multipliers freezes all that is the {which}'s alone: leave "
      'one above 0, or turn off what treats it apart'
    )
  return jax.tree.unflatten(jax.tree.structure(trainable), leaves)


def check(
  part: Callable[[str], str],
  trainable: Any,
  *,
  reset_at: int,
  encoder_updates: int,
) -> None:
  """Refuses a part that is frozen, and is to be treated apart."""
  if reset_at > 0:
    of(part, trainable, 'decoder')
  if encoder_updates > 1:
    of(part, trainable, 'encoder')


def reset(
  state: step_lib.TrainState,
  task: step_lib.Task,
  optimizer: optimizer_lib.Optimizer,
) -> step_lib.TrainState:
  """The state with a decoder that begins anew (Li et al. 2019).

  Its parameters are drawn again, from a stream of their own, its moments are
  0 and of age 0, and its running average begins there; everything else, the
  learning rate too, goes on.
  """
  decoder = of(task.part, optimizer.trainable, 'decoder')
  kept = jax.tree.map(lambda chosen: not chosen, decoder)
  streams = randomness.Streams(state.rng, state.step, jnp.arange(0))
  begun = task.init(streams.key('decoder_reset'))
  params = trees.overlay(decoder, begun, state.params)
  opt_state = trees.overlay_moments(
    trees.select(optimizer.trainable, kept),
    state.opt_state,
    optimizer.tx.init(params),
  )
  ema = state.ema
  if ema is not None:
    ema = trees.overlay(decoder, jax.tree.map(jnp.copy, params), ema)
  return state._replace(params=params, opt_state=opt_state, ema=ema)


class Aggressive:
  """Whether the encoder still learns more often than the decoder.

  He et al. 2019: while the mutual information of texts and latents rises,
  every decoder update is preceded by updates of the encoder alone, here a
  fixed number. It ends at the first evaluation of the validation split whose
  estimate is not above the one before. It is part of a checkpoint.
  """

  def __init__(self, updates: int):
    """`updates` of the encoder for one of the decoder; 1: never aggressive."""
    self._updates = updates
    self.on = updates > 1
    self._last: float | None = None

  def encoder_alone(self, step: int) -> bool:
    """Whether step `step` is one that leaves the decoder as it is."""
    return self.on and (step + 1) % self._updates != 0

  def note(self, figures: Mapping[str, float]) -> None:
    """Takes in an evaluation."""
    if not self.on:
      return
    if _FIGURE not in figures:
      raise errors.UserError(
        f'training.encoder_updates = {self._updates} needs {_FIGURE!r} among '
        f'the figures of the evaluation; there are {", ".join(figures)}'
      )
    now = figures[_FIGURE]
    if self._last is not None and not now > self._last:
      self.on = False
      logging.info(
        'mutual information %.3g after %.3g: from here on the decoder learns '
        'with the encoder in every step',
        now,
        self._last,
      )
    self._last = now

  def get_state(self) -> dict[str, Any]:
    return {'on': self.on, 'last': self._last}

  def set_state(self, state: dict[str, Any]) -> None:
    self.on, self._last = state['on'], state['last']
