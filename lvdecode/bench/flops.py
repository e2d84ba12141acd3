"""Floating-point operations of a model by formula.

Products of matrices alone are counted, a multiplication and an addition as two
operations; norms, activations, softmax and the optimiser are not. Attention
counts every pair of a query and a key, those that a causal mask hides too, as
is common (Chowdhery et al. 2022, appendix B): the share of the peak (MFU) is
then one that other projects' figures can stand beside.

With D the width, I the inner width of the MLPs, S keys (memory included) and V
rows of the vocabulary, a token costs forward

    layer       2 (4 D^2 + 2 D I) + 4 S D
    vocabulary  2 D V

and a text with latent size Z, M slots in each of L layers

    pooling     2 H D T + 2 D T     (by attention, H heads)
    posterior   4 D Z
    input       2 Z D
    memory      2 Z L M D + 4 L M D^2
    softmax     2 Z V

The gradient of a product is two products of its size, so that a training step
is three times the forward pass.
"""

from lvdecode.latent import sizes as sizes_lib

TRAINING = 3  # x forward


def stack(layers: int, width: int, inner: int, length: int, keys: int) -> float:
  """Forward, of one text through blocks."""
  inner = inner or 4 * width
  token = 2 * (4 * width**2 + 2 * width * inner) + 4 * keys * width
  return layers * token * length


def encoder(settings: sizes_lib.ModelSettings, length: int) -> float:
  """Forward, of one text: q(z | y) by an encoder of its own blocks."""
  sizes, width = settings.encoder, settings.encoder.width
  pooling = 0.0
  if sizes.pooling == 'attention':
    pooling = 2 * (sizes.heads + 1) * width * length
  elif sizes.pooling == 'mean':
    pooling = 2 * width * length
  blocks = stack(sizes.layers, width, sizes.inner, length, length)
  return blocks + pooling + 4 * width * settings.latent_size


def injection(settings: sizes_lib.ModelSettings, rows: int) -> float:
  """Forward, of one z."""
  points, width = settings.injection.points, settings.decoder.width
  latent, total = settings.latent_size, 0.0
  if 'input' in points:
    total += 2 * latent * width
  if 'memory' in points:
    told = settings.injection.memory_layers or range(settings.decoder.layers)
    slots = len(told) * settings.injection.memory_slots
    total += 2 * latent * slots * width
    if not settings.injection.memory_tied:
      total += 4 * slots * width**2
  if 'softmax' in points:
    rank = settings.injection.softmax_rank
    total += 2 * latent * rows if not rank else 2 * rank * (latent + rows)
  if 'fuse' in points:
    total += 2 * latent * width
  return total


def decoder(
  settings: sizes_lib.ModelSettings, rows: int, targets: int
) -> float:
  """Forward, of one text's targets under one z, the telling included."""
  sizes, points = settings.decoder, settings.injection.points
  slots = settings.injection.memory_slots if 'memory' in points else 0
  keys = targets + slots
  total = stack(sizes.layers, sizes.width, sizes.inner, targets, keys)
  total += 2 * sizes.width * rows * targets
  if 'fuse' in points:
    total += 2 * sizes.width**2 * targets
  return total + injection(settings, rows)


def training_step(
  settings: sizes_lib.ModelSettings,
  rows: int,
  batch: int,
  length: int,
  samples: int,
) -> float:
  """A step on `batch` texts of `length` tokens, BOS counted.

  Samples told at the softmax alone share a text's states: a further one costs
  its shift, and each 2 V a target (`vocabulary.shifted_nll`).
  """
  text = decoder(settings, rows, length - 1)
  if samples > 1 and settings.injection.softmax_alone:
    text += (samples - 1) * injection(settings, rows)
    text += samples * 2 * rows * (length - 1)
  else:
    text *= samples
  if settings.injection.points:
    text += encoder(settings, length)
  return TRAINING * batch * text


def decoding_bytes(
  settings: sizes_lib.ModelSettings, rows: int, batch: int, length: int
) -> float:
  """What must be read from memory for one token of every text, on average.

  Each weight of the decoder's products once, the memory's slots and half of a
  full cache, in numbers of the compute type: weights are cast once, not a token.
  """
  sizes = settings.decoder
  inner = sizes.inner or 4 * sizes.width
  layer = 4 * sizes.width**2 + 2 * sizes.width * inner
  weights = sizes.layers * layer + rows * sizes.width
  told = 'memory' in settings.injection.points
  slots = length / 2 + (settings.injection.memory_slots if told else 0)
  cache = sizes.layers * batch * slots * 2 * sizes.width
  return settings.compute_dtype.itemsize * (weights + cache)
