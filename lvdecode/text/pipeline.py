"""What a model sees of texts, and the settings of how it is made."""

import dataclasses
from typing import NamedTuple

import jax
from jaxtyping import Bool, Float, Int, Integer
import numpy as np

from lvdecode import errors

_OVERLONG = ('truncate', 'drop', 'refuse')
_MOST_LENGTHS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineSettings:
  batch_size: int  # sequences per step, over all processes together
  lengths: tuple[int, ...]  # static lengths, ascending; BOS and EOS counted
  overlong: str  # what is done with texts beyond lengths[-1], see _OVERLONG
  encoder_length: int  # static, for an encoder with a tokenizer of its own
  condition_length: int  # static, for what is given with a text
  workers: int  # processes that assemble batches; 0: threads of this one

  def __post_init__(self):
    if self.batch_size < 1:
      raise errors.UserError(
        f'pipeline.batch_size is {self.batch_size}: give 1 or more'
      )
    if not 1 <= len(self.lengths) <= _MOST_LENGTHS:
      raise errors.UserError(
        f'pipeline.lengths has {len(self.lengths)} entries: give 1 to '
        f'{_MOST_LENGTHS}, each is one more compiled program'
      )
    if list(self.lengths) != sorted(set(self.lengths)) or self.lengths[0] < 3:
      raise errors.UserError(
        f'pipeline.lengths is {self.lengths}: give ascending lengths of at '
        'least 3 (BOS, one token, EOS)'
      )
    if self.overlong not in _OVERLONG:
      raise errors.UserError(
        f"pipeline.overlong is '{self.overlong}': give one of "
        + ', '.join(_OVERLONG)
      )
    if self.encoder_length < 3:
      raise errors.UserError(
        f'pipeline.encoder_length is {self.encoder_length}: give at least 3 '
        '(a first token, one of the text, a last)'
      )
    if self.condition_length < 1:
      raise errors.UserError(
        f'pipeline.condition_length is {self.condition_length}: give at least 1'
      )
    if self.workers < 0:
      raise errors.UserError(
        f'pipeline.workers is {self.workers}: give 0 (threads) or more'
      )


class EncoderInput(NamedTuple):
  """The same texts for an encoder with a tokenizer of its own."""

  tokens: Integer[jax.Array | np.ndarray, 'B S']  # its BOS (CLS) .. EOS (SEP)
  visible: Bool[jax.Array | np.ndarray, 'B S']  # not the padding


class Condition(NamedTuple):
  """What is given with each text, x, by the decoder's tokenizer."""

  tokens: Integer[jax.Array | np.ndarray, 'B S']  # x_1 .. x_n PAD .., n >= 1
  visible: Bool[jax.Array | np.ndarray, 'B S']  # not the padding
  # Which part of the condition a token is of; 0 where there is one, and at
  # padding.
  segments: Integer[jax.Array | np.ndarray, 'B S']


class Batch(NamedTuple):
  """What a model sees; T is one of `pipeline.lengths`."""

  tokens: Int[jax.Array | np.ndarray, 'B T']  # BOS y_1 .. y_n EOS PAD ..
  # 1 where tokens[b, t] is modelled (y_1 .. y_n and EOS), 0 at BOS, at padding
  # and all over the rows that only complete a ragged last batch.
  weights: Float[jax.Array | np.ndarray, 'B T']
  # None where the encoder reads `tokens`.
  encoder: EncoderInput | None = None
  condition: Condition | None = None  # where the data have one
  label: Int[jax.Array | np.ndarray, ' B'] | None = None  # -1: unknown
