"""The latent-variable text decoder: encoder, posterior, injection, GPT."""

from typing import Any

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lvdecode.latent import condition as conditions
from lvdecode.latent import gaussian
from lvdecode.latent import injection as injections
from lvdecode.latent import posterior
from lvdecode.latent import prior as priors
from lvdecode.latent import readers
from lvdecode.latent import sizes as sizes_lib
from lvdecode.nn import attention
from lvdecode.nn import bert
from lvdecode.nn import gpt
from lvdecode.nn import kernels
from lvdecode.nn import vocabulary
from lvdecode.text import pipeline


class VAE(nn.Module):
  """p(y | z, x) by a GPT that is told z, q(z | y, x) by an encoder, p(z | x).

  Without anything that reads a condition x there is none, and p(z) = N(0, I).
  Without injection points no z can be told: it has no dimension, the KL is 0,
  there is no posterior, and what is left is the plain language model.
  """

  settings: sizes_lib.ModelSettings
  vocab_size: int
  encoder_vocab_size: int

  def setup(self):
    settings = self.settings
    dtype = settings.compute_dtype
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
    if settings.encoder.kind != 'decoder':
      self.encoder = self._encoder(dtype)
    self.prior_encoder = self._encoder(dtype)
    self.condition_encoder = self._encoder(dtype)
    self.posterior = posterior.Posterior(
      settings.posterior,
      settings.latent_size,
      settings.encoder.pooling,
      readers.heads(settings, readers.ENCODER),
    )
    self.prior = priors.Prior(
      settings.latent_size,
      settings.encoder.pooling,
      readers.heads(settings, readers.for_prior(settings)),
    )
    self.injection = injections.Injection(
      settings=settings.injection,
      layers=sizes.layers,
      heads=sizes.heads,
      width=sizes.width,
      vocab_size=self.decoder.rows,
    )
    self.condition = conditions.Routes(
      settings.condition, sizes.layers, sizes.heads, sizes.width
    )
    self.segments = {
      whose: nn.Embed(
        settings.condition.segments + 1,  # the last is the text's
        (sizes if whose == readers.DECODER else settings.encoder).width,
        embedding_init=nn.initializers.normal(attention.INIT_STD),
      )
      for whose in readers.NETWORKS
    }

  def _encoder(self, dtype) -> gpt.GPT | bert.BERT:
    sizes = self.settings.encoder
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
    chosen['execution'] = self.settings.execution
    if sizes.kind == 'bert':  # every text is of the first type
      return bert.BERT(types=1, pools=False, **chosen)
    return gpt.GPT(vocab_multiple=1, **chosen)  # it has no head to divide

  def _network(self, name: str) -> Any:
    """Its blocks and embeddings, where it has some."""
    of_decoder = readers.is_decoder(self.settings, name)
    return self.decoder if of_decoder else getattr(self, name)

  def part(self, path: str) -> str:
    """Whose the parameter is: 'encoder', 'decoder', or 'both' for shared."""
    return readers.part(self.settings, path)

  @property
  def latent_size(self) -> int:
    """Z, which is 0 without injection."""
    return self.settings.latent_size if self.settings.injection.points else 0

  def encode(
    self,
    tokens: Int[Array, 'B T'],
    visible: Bool[Array, 'B T'],
    condition: pipeline.Condition | None = None,
    deterministic: bool = True,
    group: posterior.Group | None = None,
  ) -> gaussian.Gaussian:
    """q(z | y, x) [B, Z]; positions that are not visible change nothing.

    x and y are read as one sequence. `group` is the batch while training: see
    `posterior.Posterior`.
    """
    if not self.latent_size:
      return gaussian.standard((tokens.shape[0], 0))
    if condition is None:
      name = readers.ENCODER
      embeds = readers.embeds(self.settings, name)
      # Texts end before their padding: see `text.pipeline`.
      mask = kernels.RightPadded(jnp.sum(visible, axis=1, dtype=jnp.int32))
      states = self._network(name).blocks(
        self._network(embeds).embed(tokens), mask, deterministic=deterministic
      )
      return self.posterior(states, visible, group)
    of_text = jnp.full_like(tokens, self.settings.condition.segments)
    visible = jnp.concatenate([condition.visible, visible], axis=1)
    states = self._read(
      readers.ENCODER,
      jnp.concatenate([condition.tokens, tokens], axis=1),
      visible,
      jnp.concatenate([self._parts(condition), of_text], axis=1),
      deterministic,
    )
    return self.posterior(states, visible, group)

  def given(
    self,
    count: int,
    condition: pipeline.Condition | None,
    deterministic: bool = True,
  ) -> conditions.Given:
    """What `count` texts are given: x is read, and no text is."""
    settings = self.settings
    prior = gaussian.standard((count, self.latent_size))
    if condition is None:
      return conditions.Given(prior)
    learned, encoded = settings.prior.kind == 'learned', None
    of_prior = readers.for_prior(settings)
    of_routes = readers.for_routes(settings)
    asked = {of_prior} if learned else set()
    if settings.condition.encoded:
      asked.add(of_routes)
    states = {
      name: self._read(
        name,
        jnp.asarray(condition.tokens),
        jnp.asarray(condition.visible),
        self._parts(condition),
        deterministic,
      )
      for name in sorted(asked)
    }
    if learned:
      prior = self.prior(states[of_prior], jnp.asarray(condition.visible))
    if settings.condition.encoded:
      encoded = states[of_routes]
    return conditions.Given(prior, condition, encoded)

  def _parts(self, condition: pipeline.Condition) -> Int[Array, 'B S']:
    """The segments of x, within what there are embeddings for."""
    most = max(0, self.settings.condition.segments - 1)
    return jnp.minimum(condition.segments, most)

  def _read(
    self, name, tokens, visible, segments, deterministic
  ) -> Float[Array, 'B S D']:
    """States of a sequence, by positions that count what is visible."""
    embed = readers.embeds(self.settings, name)
    h = self._embedded(embed, tokens, segments)
    h = self._network(embed).place(h, visible)
    return self._network(name).blocks(
      h, attention.padding(visible), deterministic=deterministic
    )

  def _embedded(self, embed: str, tokens, segments) -> Float[Array, 'B S D']:
    h = self._network(embed).wte(tokens)
    if self.settings.condition.segments:
      h = h + self.segments[embed](segments)
    return h

  def inject(self, z: Float[Array, 'B Z']) -> gpt.Injected:
    """What the decoder is told of z."""
    return self.injection(z) if self.latent_size else gpt.Injected()

  def tell(
    self,
    z: Float[Array, 'B Z'],
    given: conditions.Given | None,
    points: tuple[str, ...] | None = None,
  ) -> gpt.Injected:
    """What the decoder is told of z, and of x by its routes.

    With `points`, the others of the model's injection points are knocked out.
    """
    injected, settings = self.inject(z), self.settings.condition
    if points is not None:
      injected = injections.only(injected, points)
    if not settings.routes:
      return injected
    assert given is not None and given.condition is not None
    if settings.encoded:
      assert given.states is not None
      memory, context = self.condition(
        given.states, jnp.asarray(given.condition.visible)
      )
      injected = injected._replace(
        memory=conditions.both(injected.memory, memory), context=context
      )
    if 'prefix' in settings.routes:
      injected = self._fronted(injected, given.condition)
    return injected

  def _fronted(self, injected, condition) -> gpt.Injected:
    """With the tokens of x as a prefix, which is told z as the text is."""
    x = self._embedded(
      readers.DECODER, condition.tokens, self._parts(condition)
    )
    embedding = injected.embedding
    if embedding is not None:
      x = x + embedding[:, None]
    if self.settings.condition.segments:
      count = len(condition.tokens)
      of_text = jnp.full(count, self.settings.condition.segments)
      row = self.segments[readers.DECODER](of_text)
      embedding = row if embedding is None else embedding + row
    return injected._replace(
      embedding=embedding,
      prefix=gpt.Prefix(x, jnp.asarray(condition.visible)),
    )

  def token_nll(
    self,
    tokens: Int[Array, 'B T'],
    targets: Int[Array, 'B T'],
    z: Float[Array, 'B Z'],
    max_bytes: int,
    points: tuple[str, ...] | None = None,
    given: conditions.Given | None = None,
    deterministic: bool = True,
  ) -> Float[Array, 'B T']:
    """-log p(targets_t | tokens_<=t, z, x) in nats; `points` as of `tell`."""
    injected = self.tell(z, given, points)
    return self._nll(injected, tokens, targets, max_bytes, deterministic)

  def states(
    self,
    tokens: Int[Array, 'B T'],
    given: conditions.Given | None,
    deterministic: bool = True,
  ) -> Float[Array, 'B T D']:
    """The decoder's states where it is told of x alone."""
    nothing = jnp.zeros((len(tokens), self.settings.latent_size))
    return self.decoder(tokens, self.tell(nothing, given, ()), deterministic)

  def shifted_nll(
    self,
    states: Float[Array, 'B T D'],
    targets: Int[Array, 'B T'],
    z: Float[Array, 'B K Z'],
    max_bytes: int,
  ) -> Float[Array, 'B K T']:
    """`token_nll` of each text for each z, told at the softmax alone."""
    texts, samples, size = z.shape
    shifts = self.inject(z.reshape(-1, size)).logits
    assert shifts is not None
    shifts = shifts.reshape(texts, samples, -1)
    head = self.decoder.head()
    return vocabulary.shifted_nll(head, states, targets, shifts, max_bytes)

  def _nll(
    self, injected, tokens, targets, max_bytes, deterministic
  ) -> Float[Array, 'B T']:
    """-log p(targets_t | tokens_<=t) of a decoder that is told so much."""
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
    given: conditions.Given | None = None,
    deterministic: bool = True,
  ) -> vocabulary.Summed:
    """The terms of `token_nll` and their weighted sum, for its gradient."""
    injected = self.tell(z, given)
    hidden = self.decoder(tokens, injected, deterministic)
    return vocabulary.summed_nll(
      self.decoder.head(injected), hidden, targets, weights, max_bytes
    )

  def __call__(
    self,
    tokens: Int[Array, 'B T'],
    visible: Bool[Array, 'B T'],
    condition: pipeline.Condition | None = None,
  ) -> Float[Array, 'B T V']:
    """Logits at the posterior mean: touches every parameter once."""
    q = self.encode(tokens, visible, condition)
    injected = self.tell(q.mean, self.given(tokens.shape[0], condition))
    hidden = self.decoder(tokens, injected)
    return vocabulary.logits(self.decoder.head(injected), hidden)

  def start(
    self,
    z: Float[Array, 'B Z'],
    length: int,
    given: conditions.Given | None = None,
  ) -> tuple[gpt.Injected, gpt.Cache]:
    """What decoding carries on with: z and x told once, in an empty cache."""
    injected = self.tell(z, given)
    cache = self.decoder.start(injected, z.shape[0], length)
    return injected._replace(prefix=None), cache

  def extend(
    self, tokens: Int[Array, 'B T'], injected: gpt.Injected, cache: gpt.Cache
  ) -> tuple[Float[Array, 'B V'], gpt.Cache]:
    """Logits of the token after these, and the cache with them added."""
    hidden, cache = self.decoder.extend(tokens, injected, cache)
    scores = vocabulary.logits(self.decoder.head(injected), hidden[:, -1:])
    return scores[:, 0], cache
