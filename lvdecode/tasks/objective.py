"""What training minimises, as settings; tasks/latent.py computes it."""

import dataclasses

import jax

from lvdecode import errors
from lvdecode.latent import bounds
from lvdecode.latent import mmd
from lvdecode.latent import rate as rate_lib
from lvdecode.training import schedules


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectiveSettings:
  """What is minimised: nll + what is charged for the KL + added terms.

  Attributes:
    beta: the weight of the KL, a schedule of the step.
    free_bits: the rate that costs nothing.
    rate: a target for the KL.
    estimator: 'elbo'; 'iwae' (Burda et al. 2016), the importance-weighted bound
      of `samples` draws; or 'dreg' (Tucker et al. 2019), the same bound with a
      gradient of less variance for the encoder.
    samples: draws of z for each sequence; 'elbo' takes their mean.
    pretraining_steps: N steps without a KL, after which the decoder begins
      anew and the schedule of beta begins (Li et al. 2019); 0: off.
    autoencode_every: every so many steps one has no KL, an auto-encoder's among
      those of the VAE (Fang et al. 2021 take turns, 2); 0: off.
    mmd: a distance of the batch's latents from the prior.
    bag_of_words: weight of -log p(words of y | z) (Zhao et al. 2017); 0: off.
    latent_dropout: share of z's numbers that what reads z is not told while
      training (Srivastava et al. 2014, on z).
    word_dropout: share of the decoder's input tokens that are hidden from it
      (Bowman et al. 2016); BOS never is.
    logits_mib: the vocabulary loss goes in chunks where float32 logits of a
      device's batch would exceed this many MiB; 0: 32 on a CPU, where a chunk
      that stays in the cache is faster, 128 elsewhere.
  """

  beta: schedules.ScheduleSettings
  free_bits: bounds.FreeBitsSettings
  rate: rate_lib.RateSettings
  estimator: str
  samples: int
  pretraining_steps: int
  autoencode_every: int
  mmd: mmd.MmdSettings
  bag_of_words: float
  latent_dropout: float
  word_dropout: float
  logits_mib: int

  def __post_init__(self):
    errors.at_least('objective.pretraining_steps', self.pretraining_steps, 0)
    errors.at_least('objective.autoencode_every', self.autoencode_every, 0)
    if self.autoencode_every == 1:
      raise errors.UserError(
        'objective.autoencode_every = 1 leaves no step with a KL: give 2 or '
        'more, 0 for off'
      )
    errors.at_least('objective.bag_of_words', self.bag_of_words, 0.0)
    errors.between('objective.latent_dropout', self.latent_dropout, 0.0, 1.0)
    errors.between('objective.word_dropout', self.word_dropout, 0.0, 1.0)
    errors.at_least('objective.logits_mib', self.logits_mib, 0)
    errors.one_of('objective.estimator', self.estimator, bounds.ESTIMATORS)
    errors.at_least('objective.samples', self.samples, 1)
    plain = (
      self.rate.kind in ('none', 'dual')
      and self.free_bits.kind == 'none'
      and self.beta.kind == 'constant'
      and isinstance(self.beta.end, int | float)
      and self.beta.end == 1.0
      and not self.pretraining_steps
      and not self.autoencode_every
    )
    if self.estimator != 'elbo' and not plain:
      raise errors.UserError(
        f'objective.estimator = {self.estimator!r} has no KL to weigh: it needs '
        "objective.beta.kind = 'constant', beta.end = 1, free_bits.kind = "
        "'none', rate.kind = 'none' or 'dual', pretraining_steps = 0 and "
        'autoencode_every = 0'
      )
    if self.rate.kind in ('dual', 'pi') and self.pretraining_steps:
      raise errors.UserError(
        f'objective.rate.kind = {self.rate.kind!r}, objective.pretraining_steps'
        f' = {self.pretraining_steps}: the control would learn from a KL that '
        "is not charged, make one 'none' or 0"
      )
    if self.rate.kind != 'none' and self.autoencode_every:
      raise errors.UserError(
        f'objective.rate.kind = {self.rate.kind!r} charges every step for the '
        "KL: make it 'none', or objective.autoencode_every 0"
      )
    if self.rate.kind != 'none' and self.free_bits.kind != 'none':
      raise errors.UserError(
        f'objective.rate.kind = {self.rate.kind!r}, objective.free_bits.kind = '
        f"{self.free_bits.kind!r}: both hold the KL up, make one of them 'none'"
      )

  @property
  def logits_bytes(self) -> int:
    here = 32 if jax.default_backend() == 'cpu' else 128
    return (self.logits_mib or here) * 2**20
