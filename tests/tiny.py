"""Tiny models, batches and parameters that every test builds on."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np

from lvdecode.latent import adapters as adapters_lib
from lvdecode.latent import bounds
from lvdecode.latent import condition as condition_lib
from lvdecode.latent import injection
from lvdecode.latent import mmd as mmd_lib
from lvdecode.latent import posterior as posterior_lib
from lvdecode.latent import prior as prior_lib
from lvdecode.latent import rate as rate_lib
from lvdecode.latent import sizes
from lvdecode.latent import vae
from lvdecode.nn import vocabulary
from lvdecode.tasks import latent
from lvdecode.tasks import objective as objective_lib
from lvdecode.text import pipeline
from lvdecode.training import randomness
from lvdecode.training import schedules

PAD, BOS, EOS, HIDDEN = 0, 1, 2, 3
VOCAB, LAYERS, HEADS, WIDTH, POSITIONS, LATENT = 13, 2, 2, 16, 12, 3
BATCH, LENGTH = 3, 7


def random_params(shapes, seed=0):
  """Numbers in every leaf, biases and zero-initialised ones included.

  Large enough that no part of a network is silent; far faster than an init.
  """
  rng = np.random.default_rng(seed)

  def leaf(path, shape):
    name = jax.tree_util.keystr(path)
    values = rng.normal(size=shape.shape, scale=0.3).astype(np.float32)
    positive = re.search('scale|running_variance', name)
    return jnp.asarray(values + 1 if positive else values)

  # Numbers, not tracers, even where a test asks while it is being traced.
  with jax.ensure_compile_time_eval():
    return jax.tree_util.tree_map_with_path(leaf, shapes)


def injection_settings(points=('input',), **changes):
  chosen = dict(
    points=points,
    init='normal',
    memory_slots=2,
    memory_layers=(),
    memory_tied=False,
    memory_score=None,
    softmax_rank=0,
  )
  return injection.InjectionSettings(**{**chosen, **changes})


def decoder_settings(**changes):
  chosen = dict(
    vocab_multiple=1,
    layers=LAYERS,
    heads=HEADS,
    width=WIDTH,
    inner=0,
    positions=POSITIONS,
    dropout=0.0,
    activation='gelu_tanh',
    epsilon=1e-5,
  )
  return sizes.DecoderSettings(**{**chosen, **changes})


def encoder_settings(**changes):
  chosen = dict(
    kind='own',
    layers=1,
    heads=HEADS,
    width=WIDTH,
    inner=0,
    positions=0,
    activation='gelu_tanh',
    epsilon=1e-5,
    dropout=0.0,
    pooling='attention',
  )
  return sizes.EncoderSettings(**{**chosen, **changes})


def adapter_settings(**changes):
  chosen = dict(rank=0, alpha=4.0, targets=('.*attn/c_attn',))
  return adapters_lib.AdapterSettings(**{**chosen, **changes})


def posterior_settings(**changes):
  chosen = dict(batch_norm=0.0, batch_norm_decay=0.9, min_rate=0.0)
  return posterior_lib.PosteriorSettings(**{**chosen, **changes})


def prior_settings(**changes):
  return prior_lib.PriorSettings(
    **{'kind': 'standard', 'share': True, **changes}
  )


def condition_settings(**changes):
  chosen = dict(routes=(), segments=0, share=True, init='normal')
  return condition_lib.ConditionSettings(**{**chosen, **changes})


def model_settings(
  points=('input',),
  encoder=None,
  decoder=None,
  posterior=None,
  prior=None,
  condition=None,
  adapters=None,
  dtype='float32',
  attention='auto',
  scan_layers=False,
  remat='none',
  **changes,
):
  return sizes.ModelSettings(
    decoder=decoder or decoder_settings(),
    adapters=adapters or adapter_settings(),
    encoder=encoder or encoder_settings(),
    posterior=posterior or posterior_settings(),
    prior=prior or prior_settings(),
    condition=condition or condition_settings(),
    injection=injection_settings(points, **changes),
    latent_size=LATENT,
    attention=attention,
    scan_layers=scan_layers,
    remat=remat,
    dtype=dtype,
  )


def model(*args, **kwargs):
  return vae.VAE(model_settings(*args, **kwargs), VOCAB, VOCAB)


def shallow(*args, **kwargs):
  """With one layer, for what is compiled and could not tell two from one."""
  return model(*args, decoder=decoder_settings(layers=1), **kwargs)


def rate_settings(changes=None):
  chosen = dict(
    kind='none',
    target=3.0,
    dual_step=0.1,
    proportional=0.01,
    integral=0.001,
    beta_min=0.0,
    beta_max=1.0,
  )
  return rate_lib.RateSettings(**{**chosen, **(changes or {})})


def objective(
  beta=1.0,
  free_bits='none',
  nats=0.0,
  rate=None,
  estimator='elbo',
  samples=1,
  pretraining_steps=0,
  autoencode_every=0,
  mmd=0.0,
  kernel='inverse_multiquadric',
  bag_of_words=0.0,
  latent_dropout=0.0,
  word_dropout=0.0,
  logits_mib=1,
):
  return objective_lib.ObjectiveSettings(
    beta=schedules.ScheduleSettings(
      kind='constant',
      start=0.0,
      end=beta,
      duration='1 step',
      shape='linear',
      cycles=1,
      wait=0.0,
      ratio=1.0,
    ),
    free_bits=bounds.FreeBitsSettings(kind=free_bits, nats=nats),
    rate=rate_settings(rate),
    estimator=estimator,
    samples=samples,
    pretraining_steps=pretraining_steps,
    autoencode_every=autoencode_every,
    mmd=mmd_lib.MmdSettings(weight=mmd, kernel=kernel),
    bag_of_words=bag_of_words,
    latent_dropout=latent_dropout,
    word_dropout=word_dropout,
    logits_mib=logits_mib,
  )


def task(vae_model=None, **changes):
  return latent.LatentTask(vae_model or model(), objective(**changes), HIDDEN)


@functools.cache
def params(vae_model):
  """Random numbers for a `vae.VAE`."""
  return random_params(jax.eval_shape(task(vae_model).init, jax.random.key(0)))


def batch(sizes=(7, 5, 3), length=LENGTH, seed=0):
  """Rows of `sizes` tokens, BOS and EOS counted, padded to `length`."""
  rng = np.random.default_rng(seed)
  tokens = np.full((len(sizes), length), PAD, np.int32)
  weights = np.zeros((len(sizes), length), np.float32)
  for row, size in enumerate(sizes):
    words = rng.integers(4, VOCAB, size - 2)
    tokens[row, :size] = [BOS, *words, EOS]
    weights[row, 1:size] = 1
  return pipeline.Batch(jnp.asarray(tokens), jnp.asarray(weights))


def condition(sizes=(4, 2, 3), length=4, seed=1):
  """Rows of `sizes` tokens, padded to `length`, of two segments."""
  rng = np.random.default_rng(seed)
  visible = np.arange(length) < np.asarray(sizes)[:, None]
  words = rng.integers(4, VOCAB, visible.shape)
  return pipeline.Condition(
    jnp.asarray(np.where(visible, words, PAD), jnp.int32),
    jnp.asarray(visible),
    jnp.asarray(visible & (np.arange(length) > 0), jnp.int32),
  )


def latents(count=BATCH, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=(count, LATENT)), jnp.float32)


def keys(count=BATCH, seed=0):
  return jax.random.split(jax.random.key(seed), count)


def streams(count=BATCH, step=0, first=0):
  return randomness.Streams(jax.random.key(7), step, first + jnp.arange(count))


def apply(vae_model, values, *args, method):
  return vae_model.apply({'params': values}, *args, method=method)


def logits(vae_model, values, tokens, z):
  """Of every position, [B, T, V], through the whole decoder."""

  def scores(bound, tokens, z):
    injected = bound.inject(z)
    hidden = bound.decoder(tokens, injected)
    return vocabulary.logits(bound.decoder.head(injected), hidden)

  return apply(vae_model, values, tokens, z, method=scores)
