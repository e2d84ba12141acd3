"""The latent-variable text decoder: encoder, posterior, injection, GPT."""

import dataclasses

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lvdecode import errors
from lvdecode.latent import adapters
from lvdecode.latent import gaussian
from lvdecode.latent import injection as injections
from lvdecode.latent import posterior
from lvdecode.nn import bert
from lvdecode.nn import gpt
from lvdecode.nn import kernels
from lvdecode.nn import layers as layers_lib
from lvdecode.nn import transformer
from lvdecode.nn import vocabulary

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
  """The network behind q(z | y).

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
    adapters: changes of low rank, whose parameters are beside the network's:
      `VAE` is given them merged.
    latent_size: Z.
    attention: 'auto', 'xla', or 'cudnn': fused, on GPUs in bfloat16.
    scan_layers: compiles one layer for all: see nn/layers.py.
    remat: what of a layer the backward pass computes again.
    dtype: of the computation, 'float32' or 'bfloat16'; parameters, softmax
      and losses are float32 always.
  """

  decoder: DecoderSettings
  adapters: adapters.AdapterSettings
  encoder: EncoderSettings
  posterior: posterior.PosteriorSettings
  injection: injections.InjectionSettings
  latent_size: int
  attention: str
  scan_layers: bool
  remat: str
  dtype: str

  @property
  def execution(self) -> layers_lib.Execution:
    """How stacks of layers are run."""
    return layers_lib.Execution(self.attention, self.scan_layers, self.remat)

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
    errors.one_of('model.dtype', self.dtype, ('float32', 'bfloat16'))
    errors.one_of('model.attention', self.attention, kernels.ATTENTION)
    errors.one_of('model.remat', self.remat, tuple(layers_lib.REMAT))
    width = self.decoder.width // self.decoder.heads
    obstacle = kernels.fused_obstacle('gpu', jnp.dtype(self.dtype), width)
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


class VAE(nn.Module):
  """p(y | z) by a GPT that is told z, q(z | y) by an encoder, p(z) = N(0, I).

  Without injection points nothing can be told: z has no dimension, the KL is
  0, there is no encoder, and what is left is the plain language model.
  """

  settings: ModelSettings
  vocab_size: int
  encoder_vocab_size: int

  def setup(self):
    settings = self.settings
    dtype = jnp.dtype(settings.dtype)
    sizes = settings.decoder
    self.decoder = gpt.GPT(
      vocab_size=self.vocab_size,
      vocab_multiple=sizes.vocab_multiple,
      positions=sizes.positions,
      layers=sizes.layers,
      heads=sizes.heads,
      width=sizes.width,
      inner=sizes.inner or 4 * sizes.width,
      dropout=sizes.dropout,
      activation=sizes.activation,
      epsilon=sizes.epsilon,
      dtype=dtype,
      execution=settings.execution,
    )
    if not settings.injection.points:
      return
    sizes, heads = settings.encoder, settings.encoder.heads
    if sizes.kind == 'decoder':
      heads = settings.decoder.heads
    else:
      self.encoder = self._encoder(sizes, dtype)
    self.posterior = posterior.Posterior(
      settings.posterior, settings.latent_size, sizes.pooling, heads
    )
    self.injection = injections.Injection(
      settings=settings.injection,
      layers=settings.decoder.layers,
      heads=settings.decoder.heads,
      width=settings.decoder.width,
      vocab_size=self.decoder.rows,
    )

  def _encoder(self, sizes: EncoderSettings, dtype) -> gpt.GPT | bert.BERT:
    chosen = dict(
      vocab_size=self.encoder_vocab_size,
      positions=sizes.positions or self.settings.decoder.positions,
      layers=sizes.layers,
      heads=sizes.heads,
      width=sizes.width,
      inner=sizes.inner or 4 * sizes.width,
      activation=sizes.activation,
      epsilon=sizes.epsilon,
      dropout=sizes.dropout,
      dtype=dtype,
    )
    if sizes.kind == 'bert':  # every text is of the first type
      return bert.BERT(types=1, pools=False, **chosen)
    return gpt.GPT(  # it has no head to divide
      vocab_multiple=1, execution=self.settings.execution, **chosen
    )

  def part(self, path: str) -> str:
    """Whose the parameter is: 'encoder', 'decoder', or 'both' for shared."""
    top, _, rest = path.partition('/')
    if top in ('encoder', 'posterior'):
      return 'encoder'
    kind = self.settings.encoder.kind if self.latent_size else 'own'
    embedding = rest.startswith(('wte/', 'wpe/'))
    shared = kind == 'decoder' or (kind == 'shared_embeddings' and embedding)
    return 'both' if top == 'decoder' and shared else 'decoder'

  @property
  def latent_size(self) -> int:
    """Z, which is 0 without injection."""
    return self.settings.latent_size if self.settings.injection.points else 0

  def encode(
    self,
    tokens: Int[Array, 'B T'],
    visible: Bool[Array, 'B T'],
    deterministic: bool = True,
    group: posterior.Group | None = None,
  ) -> gaussian.Gaussian:
    """q(z | y) [B, Z]; positions that are not visible change nothing.

    `group` is the batch while training: see `posterior.Posterior`.
    """
    if not self.latent_size:
      return gaussian.standard((tokens.shape[0], 0))
    # Texts end before their padding: see `text.pipeline`.
    mask = kernels.RightPadded(jnp.sum(visible, axis=1, dtype=jnp.int32))
    kind = self.settings.encoder.kind
    blocks = self.decoder if kind == 'decoder' else self.encoder
    embed = self.encoder if kind in ('own', 'bert') else self.decoder
    states = blocks.blocks(
      embed.embed(tokens), mask, deterministic=deterministic
    )
    return self.posterior(states, visible, group)

  def inject(self, z: Float[Array, 'B Z']) -> gpt.Injected:
    """What the decoder is told of z."""
    return self.injection(z) if self.latent_size else gpt.Injected()

  def token_nll(
    self,
    tokens: Int[Array, 'B T'],
    targets: Int[Array, 'B T'],
    z: Float[Array, 'B Z'],
    max_bytes: int,
    points: tuple[str, ...] | None = None,
    deterministic: bool = True,
  ) -> Float[Array, 'B T']:
    """-log p(targets_t | tokens_<=t, z) in nats.

    With `points`, the others of the model's injection points are knocked out.
    """
    injected = self.inject(z)
    if points is not None:
      injected = injections.only(injected, points)
    hidden = self.decoder(tokens, injected, deterministic)
    return vocabulary.token_nll(
      self.decoder.head(injected), hidden, targets, max_bytes
    )

  def summed_nll(
    self,
    tokens: Int[Array, 'B T'],
    targets: Int[Array, 'B T'],
    weights: Float[Array, 'B T'],
    z: Float[Array, 'B Z'],
    max_bytes: int,
    deterministic: bool = True,
  ) -> vocabulary.Summed:
    """The terms of `token_nll` and their weighted sum, for its gradient."""
    injected = self.inject(z)
    hidden = self.decoder(tokens, injected, deterministic)
    return vocabulary.summed_nll(
      self.decoder.head(injected), hidden, targets, weights, max_bytes
    )

  def __call__(
    self, tokens: Int[Array, 'B T'], visible: Bool[Array, 'B T']
  ) -> Float[Array, 'B T V']:
    """Logits at the posterior mean: touches every parameter once."""
    injected = self.inject(self.encode(tokens, visible).mean)
    hidden = self.decoder(tokens, injected)
    return vocabulary.logits(self.decoder.head(injected), hidden)

  def start(
    self, z: Float[Array, 'B Z'], length: int
  ) -> tuple[gpt.Injected, gpt.Cache]:
    """What decoding carries on with: z told once, an empty cache."""
    injected = self.inject(z)
    return injected, self.decoder.start(injected, z.shape[0], length)

  def extend(
    self, tokens: Int[Array, 'B T'], injected: gpt.Injected, cache: gpt.Cache
  ) -> tuple[Float[Array, 'B V'], gpt.Cache]:
    """Logits of the token after these, and the cache with them added."""
    hidden, cache = self.decoder.extend(tokens, injected, cache)
    scores = vocabulary.logits(self.decoder.head(injected), hidden[:, -1:])
    return scores[:, 0], cache


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
