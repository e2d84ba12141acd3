"""A text decoder told z, a label and an aspect, with a classifier of labels.

Cheng et al. 2019, "Variational Semi-Supervised Aspect-Term Sentiment Analysis
via Transformer"; docs/semi_supervised.md has the equations.
"""

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lvdecode import errors
from lvdecode.latent import gaussian
from lvdecode.latent import vae
from lvdecode.nn import attention
from lvdecode.nn import gpt
from lvdecode.text import pipeline

ENCODERS = ('own', 'shared_embeddings')
_NOT_ALONE = (
  'a model with semi_supervised.labels is one of texts with a label and an '
  'aspect, not of texts alone: ask it for labels (Model.judge, or '
  'experiments.evaluate --sections=classification)'
)


class LabelledVAE(vae.VAE):
  """q(y | x, a), q(z | x, a, y) and p(x | a, y, z); x a text, a its aspect.

  What reads x is told by an embedding added to their tokens' which of these are
  the aspect; the posterior's encoder, by another, what the label is. The
  classifier has blocks of its own, of the encoder's sizes. The decoder, which
  is not to see where in the text the aspect will stand, is told the mean
  of its words' embeddings, and the label, at every position as it is told z.
  """

  labels: int

  def setup(self):
    super().setup()
    sizes = self.settings.encoder
    read, told = sizes.width, self.settings.decoder.width
    normal = nn.initializers.normal(attention.INIT_STD)
    self.classifier = self._encoder(self.settings.compute_dtype)
    self.classes = nn.Dense(self.labels, kernel_init=normal)
    self.mark_read = nn.Embed(2, read, embedding_init=normal)
    self.label_read = nn.Embed(self.labels, read, embedding_init=normal)
    self.label_told = nn.Embed(self.labels, told, embedding_init=normal)
    self.aspect_told = nn.Dense(told, use_bias=False)

  def part(self, path: str) -> str:
    """Whose the parameter is; the classifier's are the encoder's."""
    top = path.partition('/')[0]
    ours = ('classifier', 'classes', 'mark_read', 'label_read')
    return 'encoder' if top in ours else super().part(path)

  def classify(
    self,
    tokens: Int[Array, 'B T'],
    visible: Bool[Array, 'B T'],
    aspect: Int[Array, 'B S'],
    given: Bool[Array, 'B S'],
    deterministic: bool = True,
  ) -> Float[Array, 'B Y']:
    """Scores of the labels, log q(y | x, a) but for a constant.

    From the mean of the states of all tokens, and that of the aspect's; where
    the aspect does not stand in the text, of all tokens again.
    """
    marked = occurrences(tokens, aspect, given)
    states = self._states(
      self.classifier, tokens, visible, self.mark_read(marked), deterministic
    )
    marked = jnp.where(jnp.any(marked, axis=1, keepdims=True), marked, visible)
    return self.classes(
      jnp.concatenate([_mean(states, visible), _mean(states, marked)], axis=-1)
    )

  def infer(
    self,
    tokens: Int[Array, 'B T'],
    visible: Bool[Array, 'B T'],
    aspect: Int[Array, 'B S'],
    given: Bool[Array, 'B S'],
    label: Int[Array, ' B'],
    deterministic: bool = True,
  ) -> gaussian.Gaussian:
    """q(z | x, a, y) [B, Z]."""
    marked = self.mark_read(occurrences(tokens, aspect, given))
    added = marked + self.label_read(label)[:, None, :]
    states = self._states(self.encoder, tokens, visible, added, deterministic)
    return self.posterior(states, visible)

  def inform(
    self,
    z: Float[Array, 'B Z'],
    aspect: Int[Array, 'B S'],
    given: Bool[Array, 'B S'],
    label: Int[Array, ' B'],
  ) -> gpt.Injected:
    """What the decoder is told: W z + e_y + V mean(wte[a]) at every token."""
    injected = self.injection(z)
    words = _mean(self.decoder.wte(aspect), given)
    added = self.label_told(label) + self.aspect_told(words)
    if injected.embedding is not None:
      added = added + injected.embedding
    return injected._replace(embedding=added)

  def told_nll(
    self,
    tokens: Int[Array, 'B T'],
    targets: Int[Array, 'B T'],
    z: Float[Array, 'B Z'],
    aspect: Int[Array, 'B S'],
    given: Bool[Array, 'B S'],
    label: Int[Array, ' B'],
    max_bytes: int,
    deterministic: bool = True,
  ) -> Float[Array, 'B T']:
    """-log p(targets_t | tokens_<=t, a, y, z) in nats."""
    injected = self.inform(z, aspect, given, label)
    return self._nll(injected, tokens, targets, max_bytes, deterministic)

  def __call__(
    self,
    tokens: Int[Array, 'B T'],
    visible: Bool[Array, 'B T'],
    condition: pipeline.Condition | None = None,
  ) -> Float[Array, 'B Y']:
    """Touches every parameter once."""
    label = jnp.zeros(tokens.shape[0], jnp.int32)
    q = self.infer(tokens, visible, tokens, visible, label)
    self.told_nll(tokens, tokens, q.mean, tokens, visible, label, 1 << 30)
    return self.classify(tokens, visible, tokens, visible)

  def encode(
    self, tokens, visible, condition=None, deterministic=True, group=None
  ):
    """Refuses: there is no q(z | x)."""
    raise errors.UserError(_NOT_ALONE)

  def inject(self, z: Float[Array, 'B Z']) -> gpt.Injected:
    """Refuses: there is no p(x | z)."""
    raise errors.UserError(_NOT_ALONE)

  def _states(self, blocks, tokens, visible, added, deterministic):
    own = self.settings.encoder.kind == 'own'
    h = (blocks if own else self.decoder).embed(tokens)
    h = h + added.astype(h.dtype)
    mask = attention.padding(visible)
    states = blocks.blocks(h, mask, deterministic=deterministic)
    return states.astype(jnp.float32)


def occurrences(
  tokens: Int[Array, 'B T'],
  aspect: Int[Array, 'B S'],
  given: Bool[Array, 'B S'],
) -> Int[Array, 'B T']:
  """1 at the tokens that spell the aspect, wherever they do so; else 0.

  `given` is where the aspect has a token; one without any is nowhere.
  """
  length, size = tokens.shape[1], aspect.shape[1]
  ahead = jnp.arange(length)[:, None] + jnp.arange(size)[None, :]  # [T, S]
  follows = jnp.pad(tokens, ((0, 0), (0, size)), constant_values=-1)[:, ahead]
  same = (follows == aspect[:, None, :]) | ~given[:, None, :]
  starts = jnp.all(same, axis=-1) & jnp.any(given, axis=-1)[:, None]
  # A token is marked if it is the s-th one behind a start, for a token s.
  behind = jnp.pad(starts, ((0, 0), (size, 0)))
  back = size + jnp.arange(length)[:, None] - jnp.arange(size)[None, :]
  within = behind[:, back] & given[:, None, :]
  return jnp.any(within, axis=-1).astype(jnp.int32)


def _mean(
  states: Float[Array, 'B T D'], chosen: Bool[Array, 'B T'] | Int[Array, 'B T']
) -> Float[Array, 'B D']:
  """Over the chosen positions; 0 where there are none."""
  count = jnp.maximum(jnp.sum(chosen, axis=1, keepdims=True), 1)
  return jnp.einsum('bt,btd->bd', chosen / count, states)
