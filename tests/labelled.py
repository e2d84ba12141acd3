"""A tiny model of texts with labels and aspects, and a batch for it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import tiny

from lvdecode.latent import labelled
from lvdecode.tasks import semi_supervised
from lvdecode.text import pipeline

LABELS = ('bad', 'fair', 'good')
PRIOR = (0.5, 0.3, 0.2)


def model(latent_size=1, kind='shared_embeddings', points=('input',)):
  """With one dimension of z, over which an integral is a sum."""
  settings = tiny.model_settings(
    points,
    encoder=tiny.encoder_settings(kind=kind),
    decoder=tiny.decoder_settings(layers=1),
  )
  settings = dataclasses.replace(settings, latent_size=latent_size)
  return labelled.LabelledVAE(settings, tiny.VOCAB, tiny.VOCAB, len(LABELS))


MODEL = model()


def settings(**changes):
  chosen = dict(
    labels=LABELS,
    prior=PRIOR,
    classifier=1.0,
    generative=1.0,
    labelled_share=0.0,
  )
  return semi_supervised.SemiSupervisedSettings(**chosen | changes)


def task(own_model=MODEL, objective=None, **changes):
  return semi_supervised.SemiSupervisedTask(
    own_model, objective or tiny.objective(), tiny.HIDDEN, settings(**changes)
  )


@functools.cache
def params(own_model=MODEL):
  shapes = jax.eval_shape(task(own_model).init, jax.random.key(0))
  return tiny.random_params(shapes)


def batch(label=(2, -1, 0), room=2):
  """Aspects: the second and third word, the first, and none."""
  whole = tiny.batch()
  tokens = np.full((3, room), tiny.PAD, np.int32)
  visible = np.zeros((3, room), bool)
  for row, (start, size) in enumerate(((2, 2), (1, 1), (1, 0))):
    tokens[row, :size] = np.asarray(whole.tokens)[row, start : start + size]
    visible[row, :size] = True
  condition = pipeline.Condition(
    jnp.asarray(tokens), jnp.asarray(visible), jnp.zeros_like(tokens)
  )
  return whole._replace(
    condition=condition, label=jnp.asarray(label, jnp.int32)
  )
