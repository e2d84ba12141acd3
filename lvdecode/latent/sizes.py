"""Everything that decides the shape of the parameters, as settings."""

import dataclasses

import jax
import jax.numpy as jnp

from lvdecode import errors
from lvdecode.latent import adapters
from lvdecode.latent import condition as conditions
from lvdecode.latent import injection as injections
from lvdecode.latent import posterior
from lvdecode.latent import prior as priors
from lvdecode.nn import kernels
from lvdecode.nn import layers as layers_lib
from lvdecode.nn import transformer

DTYPES = ('auto', 'float32', 'bfloat16')
ENCODERS = ('own', 'shared_embeddings', 'decoder', 'bert')


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderSettings:
  """The sizes of a GPT; width is heads times an even head width.

  Attributes:
    vocab_multiple: rows of the embedding are rounded up to a multiple of it;
      rows that are no token have no probability.
    inner: width of the MLPs; 0 for 4 width.
    activation: 'gelu_tanh' (GPT-2's), 'gelu' (exact), 'relu' or 'silu'.
    epsilon: added to the variances by the layer norms.
  """

  vocab_multiple: int
  layers: int
  heads: int
  width: int
  inner: int
  positions: int
  dropout: float
  activation: str
  epsilon: float

  def __post_init__(self):
    for key in ('vocab_multiple', 'layers', 'heads', 'width', 'positions'):
      errors.at_least(f'model.decoder.{key}', getattr(self, key), 1)
    _divides('model.decoder', self.heads, self.width)
    errors.at_least('model.decoder.inner', self.inner, 0)
    errors.between('model.decoder.dropout', self.dropout, 0.0, 1.0)
    _activated('model.decoder', self.activation, self.epsilon)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderSettings:
  """The network behind q(z | y), and whatever else reads a text.

  Attributes:
    kind: 'own' (a bidirectional Transformer of its own), 'shared_embeddings'
      (its own blocks on the decoder's embeddings), 'decoder' (the decoder's
      blocks without the causal mask; the sizes below then go unused) or 'bert'
      (with a tokenizer of its own).
    inner: width of the MLPs; 0 for 4 width.
    positions: the longest text it reads; 0 for as many as the decoder.
    activation: as of the decoder.
    epsilon: added to the variances by the layer norms.
    pooling: 'attention', 'mean' or 'first'.
  """

  kind: str
  layers: int
  heads: int
  width: int
  inner: int
  positions: int
  activation: str
  epsilon: float
  dropout: float
  pooling: str

  def __post_init__(self):
    errors.one_of('model.encoder.kind', self.kind, ENCODERS)
    for key in ('layers', 'heads', 'width'):
      errors.at_least(f'model.encoder.{key}', getattr(self, key), 1)
    for key in ('inner', 'positions'):
      errors.at_least(f'model.encoder.{key}', getattr(self, key), 0)
    _activated('model.encoder', self.activation, self.epsilon)
    _divides('model.encoder', self.heads, self.width)
    errors.between('model.encoder.dropout', self.dropout, 0.0, 1.0)
    errors.one_of('model.encoder.pooling', self.pooling, posterior.POOLINGS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSettings:
  """Everything that decides the shape of the parameters.

  Attributes:
    prior: of z; learned, it is given the condition.
    condition: how a condition reaches the decoder.
    adapters: changes of low rank, whose parameters are beside the network's:
      `VAE` is given them merged.
    latent_size: Z.
    attention: 'auto', 'xla', or 'cudnn': fused, on GPUs in bfloat16.
    scan_layers: compiles one layer for all: see nn/layers.py.
    remat: what of a layer the backward pass computes again.
    dtype: of the computation, 'float32', 'bfloat16', or 'auto' for what the
      device is fast at; parameters, softmax and losses are float32 always.
  """

  decoder: DecoderSettings
  adapters: adapters.AdapterSettings
  encoder: EncoderSettings
  posterior: posterior.PosteriorSettings
  prior: priors.PriorSettings
  condition: conditions.ConditionSettings
  injection: injections.InjectionSettings
  latent_size: int
  attention: str
  scan_layers: bool
  remat: str
  dtype: str

  @property
  def compute_dtype(self) -> jnp.dtype:
    """'auto' is bfloat16 on accelerators and float32 on CPUs."""
    if self.dtype != 'auto':
      return jnp.dtype(self.dtype)
    on_cpu = jax.default_backend() == 'cpu'
    return jnp.dtype('float32' if on_cpu else 'bfloat16')

  @property
  def execution(self) -> layers_lib.Execution:
    """How stacks of layers are run."""
    return layers_lib.Execution(self.attention, self.scan_layers, self.remat)

  @property
  def conditional(self) -> bool:
    """Whether it is a model of p(y | x): something reads the condition x."""
    return bool(self.condition.routes) or self.prior.kind == 'learned'

  @property
  def reads_condition_apart(self) -> bool:
    """Whether a condition is read by a network beside the posterior's."""
    of_prior = self.prior.kind == 'learned' and not self.prior.share
    return of_prior or (self.condition.encoded and not self.condition.share)

  @property
  def reads_apart(self) -> bool:
    """Whether the encoder has a tokenizer of its own."""
    return bool(self.injection.points) and self.encoder.kind == 'bert'

  def __post_init__(self):
    errors.at_least('model.latent_size', self.latent_size, 1)
    rate = self.posterior.min_rate / self.latent_size
    if posterior.max_logvar(rate) <= -posterior.LOGVAR_LIMIT:
      raise errors.UserError(
        f'model.posterior.min_rate = {self.posterior.min_rate}: at most 4.5 nats '
        f'for each of the {self.latent_size} dimensions of model.latent_size'
      )
    self._check_conditional()
    errors.one_of('model.dtype', self.dtype, DTYPES)
    errors.one_of('model.attention', self.attention, kernels.ATTENTION)
    errors.one_of('model.remat', self.remat, tuple(layers_lib.REMAT))
    width = self.decoder.width // self.decoder.heads
    # No device is asked for what settings may be.
    of_gpu = jnp.dtype('bfloat16' if self.dtype == 'auto' else self.dtype)
    obstacle = kernels.fused_obstacle('gpu', of_gpu, width)
    if self.attention == 'cudnn' and obstacle:
      raise errors.UserError(
        f"model.attention = 'cudnn': {obstacle}; 'auto' takes it where it can"
      )
    if (
      self.encoder.kind == 'shared_embeddings'
      and self.encoder.width != self.decoder.width
    ):
      raise errors.UserError(
        f'model.encoder.width = {self.encoder.width}, model.decoder.width = '
        f'{self.decoder.width}: shared_embeddings needs the same width'
      )
    for layer in self.injection.memory_layers:
      if not 0 <= layer < self.decoder.layers:
        raise errors.UserError(
          f'model.injection.memory_layers names layer {layer}, the decoder has '
          f'layers 0 to {self.decoder.layers - 1}'
        )

  def _check_conditional(self):
    """A learned prior has a latent, and nothing beside it wants N(0, I)."""
    if self.condition.segments and not self.conditional:
      raise errors.UserError(
        f'model.condition.segments = {self.condition.segments}: without '
        'model.condition.routes and a learned prior nothing reads a condition'
      )
    if self.conditional and self.encoder.kind == 'bert':
      raise errors.UserError(
        "model.encoder.kind = 'bert' has a tokenizer of its own, and a "
        "condition is read by the decoder's: choose another kind"
      )
    if self.prior.kind != 'learned':
      return
    if not self.injection.points:
      raise errors.UserError(
        "model.prior.kind = 'learned' needs a latent: model.injection.points "
        'is empty'
      )
    for key in ('batch_norm', 'min_rate'):
      value = getattr(self.posterior, key)
      if value:
        raise errors.UserError(
          f'model.posterior.{key} = {value} holds the KL to N(0, I) up: with '
          "model.prior.kind = 'learned' make it 0"
        )


def _activated(section: str, activation: str, epsilon: float) -> None:
  known = tuple(transformer.ACTIVATIONS)
  errors.one_of(f'{section}.activation', activation, known)
  errors.at_least(f'{section}.epsilon', epsilon, 1e-12)


def _divides(section: str, heads: int, width: int) -> None:
  if width % heads:
    raise errors.UserError(
      f'{section}.heads = {heads} does not divide {section}.width = {width}: '
      'choose a width that is a multiple of the heads'
    )
