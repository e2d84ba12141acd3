"""How long to train, over which devices, and what to keep of it."""

import dataclasses

from lvdecode import errors
from lvdecode.training import parallel
from lvdecode.training import sharding


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSettings:
  """How long to train, over which devices, and what to keep of it.

  Attributes:
    steps: optimiser steps in all.
    accumulate: micro-batches per device and step.
    micro_batch: most examples that a device works on at once; as many
      micro-batches follow from it as the devices that are there make
      necessary. 0: as `accumulate` says.
    ema: decay of the parameters' running average; 0 for none.
    encoder_updates: of the encoder for one of the decoder, as long as the
      mutual information of the evaluations rises (He et al. 2019); 1 for none.
    parallel: one of `parallel.KINDS`.
    model_axis: devices that share a layer, for 'fsdp'; 1: each has whole ones.
    sharding: rules of 'fsdp' in place of the shapes'; see `sharding.of_state`.
    log_every: steps between lines.
    evaluate_every: steps between evaluations; 0 for one at the end only.
    checkpoint_every: steps between checkpoints; one more at the end.
    keep: the latest checkpoints to keep.
    keep_period: every checkpoint whose step divides by it is kept too; 0: off.
    best_metric: figure of the evaluation; the checkpoint with the least is
      kept too; '': off.
    max_skipped: consecutive steps without a finite loss and gradient after
      which the run stops.
  """

  steps: int
  accumulate: int
  micro_batch: int
  ema: float
  encoder_updates: int
  parallel: str
  model_axis: int
  sharding: sharding.Rules
  log_every: int
  evaluate_every: int
  checkpoint_every: int
  keep: int
  keep_period: int
  best_metric: str
  max_skipped: int

  def __post_init__(self):
    for key in (
      'steps accumulate encoder_updates model_axis log_every '
      'checkpoint_every keep max_skipped'
    ).split():
      if getattr(self, key) < 1:
        raise errors.UserError(
          f'training.{key} is {getattr(self, key)}, must be at least 1'
        )
    for key in ('micro_batch', 'evaluate_every', 'keep_period'):
      if getattr(self, key) < 0:
        raise errors.UserError(
          f'training.{key} is {getattr(self, key)}, must be 0 (off) or more'
        )
    if not 0 <= self.ema < 1:
      raise errors.UserError(f'training.ema {self.ema} is not in [0, 1)')
    self._check_devices()
    if self.encoder_updates > 1 and not self.evaluate_every:
      raise errors.UserError(
        f'training.encoder_updates is {self.encoder_updates} and '
        'training.evaluate_every 0: no evaluation would ever end it'
      )
    if self.encoder_updates > 1 and self.evaluate_every >= self.steps:
      raise errors.UserError(
        f'training.encoder_updates is {self.encoder_updates} until an evaluation '
        'is no better than the one before, and training.evaluate_every '
        f'{self.evaluate_every} leaves none before the end of {self.steps} steps: '
        'evaluate more often'
      )
    for key in ('evaluate_every', 'keep_period'):
      needed = key == 'keep_period' or self.best_metric
      if needed and getattr(self, key) % self.checkpoint_every:
        raise errors.UserError(
          f'training.{key} {getattr(self, key)} is not a multiple of '
          f'training.checkpoint_every {self.checkpoint_every}, so there is no '
          'checkpoint to keep'
        )

  def _check_devices(self):
    parallel.check_kind(self.parallel)
    if self.micro_batch and self.accumulate > 1:
      raise errors.UserError(
        f'training.micro_batch {self.micro_batch} and training.accumulate '
        f'{self.accumulate} both divide a batch: make one of them 0 or 1'
      )
    sharding.check(self.sharding)
    for key, given in (
      ('model_axis', self.model_axis > 1),
      ('sharding', bool(self.sharding)),
    ):
      if given and self.parallel != 'fsdp':
        raise errors.UserError(
          f'training.{key} splits the state, and training.parallel '
          f"{self.parallel!r} keeps it whole: make that 'fsdp'"
        )
