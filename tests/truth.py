"""Two latent models whose likelihood is known, asked as a `LatentTask` is.

What turns samples into bounds (`evaluate`, `weigh`, `log_weights`) is that of
`latent.LatentTask`; a truth only says what q, the prior and -log p(y | z) are.
A text is tokens like any other: BOS, words, EOS, padding.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import tiny

from lvdecode.evaluation import split
from lvdecode.latent import condition as conditions
from lvdecode.latent import gaussian
from lvdecode.tasks import latent
from lvdecode.text import corpora
from lvdecode.text import pipeline

Z = 2
LENGTHS = (7,)


@dataclasses.dataclass(frozen=True)
class _Truth(latent.LatentTask):
  """`conditional`: a prior of its own for each condition, else N(0, I).

  A condition is one word; the text's words have nothing to do with it.
  """

  conditional: bool = False

  def given(self, params, batch):
    if not self.conditional:
      shape = (batch.tokens.shape[0], Z)
      return conditions.Given(gaussian.standard(shape))
    word = batch.condition.tokens[:, 0]
    return conditions.Given(
      gaussian.Gaussian(
        params['prior_mean'][word], params['prior_logvar'][word]
      ),
      batch.condition,
    )

  def sample_bytes(self, batch, texts):
    return 4 * texts * batch.tokens.shape[1]

  @property
  def points(self):
    return ('input',)


@dataclasses.dataclass(frozen=True)
class Linear(_Truth):
  """Token t is a number x_t ~ N(w_t z_(t mod Z) + b_t, noise^2).

  Each position looks at one dimension, so that the exact posterior of any
  text is a diagonal Gaussian. q is that, moved by `shift` and widened by
  exp(`widen`) in variance: exact at 0 and 0.
  """

  shift: float = 0.0
  widen: float = 0.0

  def encode(self, params, batch):
    exact = self.posterior(params, batch)
    return gaussian.Gaussian(exact.mean + self.shift, exact.logvar + self.widen)

  def posterior(self, params, batch):
    """p(z | y), in closed form."""
    prior = self.prior(params, batch)
    x, seen = self._seen(params, batch)
    loads = _loads(params, x.shape[1])
    scale = jnp.exp(-2 * params['log_noise'])
    precision = jnp.exp(-prior.logvar) + scale * seen @ loads**2
    centred = (x - _bias(params, x)) * seen
    mean = prior.mean * jnp.exp(-prior.logvar) + scale * centred @ loads
    return gaussian.Gaussian(mean / precision, -jnp.log(precision))

  def token_nll(self, params, batch, z, points=None, given=None):
    x, seen = self._seen(params, batch)
    if points == ():
      z = jnp.zeros_like(z)
    expected = z @ _loads(params, x.shape[1]).T + _bias(params, x)
    square = (x - expected) ** 2 * jnp.exp(-2 * params['log_noise'])
    normal = math.log(2 * math.pi) + 2 * params['log_noise']
    return 0.5 * (square + normal) * seen

  def expected_nll(self, params, batch, normal):
    """E[-log p(y_t | z)] of z ~ normal, in closed form."""
    seen = jnp.asarray(batch.weights)[:, 1:]
    spread = jnp.exp(normal.logvar) @ _loads(params, seen.shape[1]).T ** 2
    middle = self.token_nll(params, batch, normal.mean)
    return middle + 0.5 * jnp.exp(-2 * params['log_noise']) * spread * seen

  def _seen(self, params, batch):
    seen = jnp.asarray(batch.weights)[:, 1:]
    return params['values'][batch.tokens[:, 1:]], seen

  def exact_nll(self, params, batch):
    """-log p(y): a Gaussian with covariance W D W' + noise^2 I, float64."""
    p = {name: np.asarray(value, np.float64) for name, value in params.items()}
    prior = self.prior(params, batch)
    found = []
    for row, (tokens, weights) in enumerate(
      zip(batch.tokens, batch.weights, strict=True)
    ):
      x = p['values'][np.asarray(tokens)[1:]][np.asarray(weights)[1:] > 0]
      loads = np.asarray(_loads(params, len(tokens) - 1), np.float64)[: len(x)]
      spread = np.exp(np.asarray(prior.logvar[row], np.float64))
      mean = loads @ np.asarray(prior.mean[row], np.float64)
      covariance = (loads * spread) @ loads.T
      covariance += np.exp(2 * p['log_noise']) * np.eye(len(x))
      off = x - mean - p['bias'][: len(x)]
      found.append(
        0.5 * off @ np.linalg.solve(covariance, off)
        + 0.5 * np.linalg.slogdet(2 * math.pi * covariance)[1]
      )
    return np.array(found)


@dataclasses.dataclass(frozen=True)
class Categorical(_Truth):
  """softmax(U_t + V z) over a few words; q is the prior, moved by first word.

  The marginal is an integral over Z = 2 dimensions, by Gauss-Hermite
  quadrature under the prior.
  """

  def encode(self, params, batch):
    first, prior = batch.tokens[:, 1], self.prior(params, batch)
    return gaussian.Gaussian(
      prior.mean + params['q_mean'][first],
      prior.logvar + params['q_logvar'][first],
    )

  def token_nll(self, params, batch, z, points=None, given=None):
    if points == ():
      z = jnp.zeros_like(z)
    targets = batch.tokens[:, 1:]
    told = jnp.einsum('bz,vz->bv', z, params['loads'])[:, None, :]
    scores = jax.nn.log_softmax(
      params['bias'][: targets.shape[1]][None] + told, axis=-1
    )
    chosen = jnp.take_along_axis(scores, targets[..., None], axis=-1)[..., 0]
    return -chosen * batch.weights[:, 1:]

  def exact_nll(self, params, batch):
    return self.exact(params, batch)[0]

  def exact(self, params, batch, nodes=30):
    """-log p(y) and KL(q(z | y) || p(z | y)) of each text, float64."""
    bias = np.asarray(params['bias'], np.float64)
    loads = np.asarray(params['loads'], np.float64)
    prior = self.prior(params, batch)
    q = self.encode(params, batch)

    def log_p(tokens, weights, z):  # [n] of z [n, Z]
      targets, seen = np.asarray(tokens)[1:], np.asarray(weights)[1:] > 0
      scores = bias[None, : len(targets)] + (z @ loads.T)[:, None]
      scores -= np.log(np.exp(scores).sum(-1, keepdims=True))
      chosen = scores[:, np.arange(len(targets)), targets]
      return chosen[:, seen].sum(-1)

    marginal, divergence = [], []
    for row, (tokens, weights) in enumerate(
      zip(batch.tokens, batch.weights, strict=True)
    ):
      p_row, q_row = (
        gaussian.Gaussian(*(np.asarray(x[row], np.float64) for x in g))
        for g in (prior, q)
      )
      z, mass = _grid(p_row, nodes)
      log_y = math.log(mass @ np.exp(log_p(tokens, weights, z)))
      marginal.append(-log_y)
      z, mass = _grid(q_row, nodes)
      log_joint = log_p(tokens, weights, z) + _log_prob(p_row, z)
      divergence.append(mass @ (_log_prob(q_row, z) - log_joint + log_y))
    return np.array(marginal), np.array(divergence)


def _grid(normal, nodes):
  """Gauss-Hermite points [n, Z] of a Gaussian, and their masses."""
  points, mass = np.polynomial.hermite_e.hermegauss(nodes)
  mass = mass / mass.sum()
  across, along = np.meshgrid(points, points)
  noise = np.stack([across.ravel(), along.ravel()], axis=1)
  return normal.mean + np.exp(0.5 * normal.logvar) * noise, np.outer(
    mass, mass
  ).ravel()


def _log_prob(normal, z):
  square = (z - normal.mean) ** 2 * np.exp(-normal.logvar)
  return -0.5 * np.sum(square + normal.logvar + math.log(2 * math.pi), axis=1)


def _loads(params, length):
  """W [t, Z]: position t looks at dimension t mod Z alone."""
  looks = np.arange(length)[:, None] % Z == np.arange(Z)
  return params['loads'][:length, None] * looks


def _bias(params, x):
  return params['bias'][None, : x.shape[1]]


def linear(**changes):
  return Linear(tiny.model(), tiny.objective(), tiny.HIDDEN, **changes)


def categorical(**changes):
  return Categorical(tiny.model(), tiny.objective(), tiny.HIDDEN, **changes)


def params(task, seed=0):
  rng = np.random.default_rng(seed)
  both = {'prior_mean': (tiny.VOCAB, Z), 'prior_logvar': (tiny.VOCAB, Z)}
  if isinstance(task, Linear):
    shapes = both | {'values': (tiny.VOCAB,), 'loads': (6,), 'bias': (6,)}
    values = {k: rng.normal(size=shape) for k, shape in shapes.items()}
    values['log_noise'] = np.log(0.7)
  else:
    shapes = both | {'bias': (6, tiny.VOCAB), 'loads': (tiny.VOCAB, Z)}
    values = {k: 0.7 * rng.normal(size=shape) for k, shape in shapes.items()}
    values['q_mean'] = 0.4 * rng.normal(size=(tiny.VOCAB, Z))
    # A little wider than the prior, so that no weight is without bound.
    values['q_logvar'] = np.full((tiny.VOCAB, Z), 0.3)
  return {k: jnp.asarray(v, jnp.float32) for k, v in values.items()}


def texts(count=60, seed=0):
  """A corpus of random texts of three to seven tokens, each with a word."""
  rng = np.random.default_rng(seed)
  sizes = rng.integers(3, 8, count)
  tokens = np.asarray(tiny.batch(tuple(sizes), 7, seed).tokens)
  return corpora.Corpus(
    tokens=tokens.astype(np.uint8),
    lengths=sizes.astype(np.int32),
    words=(sizes - 1).astype(np.int32),
    characters=(5 * sizes).astype(np.int32),
    rows=np.arange(count),
    unknown=0,
    truncated=0,
    dropped=0,
    condition=pipeline.Condition(
      rng.integers(4, tiny.VOCAB, (count, 1)),
      np.ones((count, 1), bool),
      np.zeros((count, 1), np.int64),
    ),
  )


def whole(corpus):
  """All texts in one batch."""
  places = np.arange(corpus.tokens.shape[1])
  weights = (places < corpus.lengths[:, None]) & (places > 0)
  return pipeline.Batch(
    jnp.asarray(corpus.tokens.astype(np.int32)),
    jnp.asarray(weights * 1.0),
    condition=jax.tree.map(jnp.asarray, corpus.condition),
  )


def ask(task, corpus, **changes):
  chosen = dict(
    task=task,
    corpus=corpus,
    batch_size=25,
    lengths=LENGTHS,
    seed=0,
  )
  if 'params' not in changes:
    chosen['params'] = params(task)
  return split.Split(**chosen | changes)
