"""The vocabulary's loss with its gradient, in chunks and all at once."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lvdecode import settings as settings_lib
from lvdecode.bench import timing
from lvdecode.nn import vocabulary


class Loss(NamedTuple):
  """A way to the loss.

  Attributes:
    subject: takes the loss and its gradient.
    temporary_bytes: what the program holds beside its arguments and results;
      None where it is not known.
  """

  subject: timing.Subject
  temporary_bytes: int | None


def logits_bytes(settings: settings_lib.Settings, vocab_size: int) -> int:
  """Of float32 logits of the whole batch."""
  data = settings.pipeline
  return 4 * data.batch_size * data.lengths[-1] * vocab_size


def shapes(
  settings: settings_lib.Settings, vocab_size: int
) -> tuple[jax.ShapeDtypeStruct, ...]:
  """Of the embedding, hidden states, z's shift, targets and their weights."""
  data, width = settings.pipeline, settings.model.decoder.width
  batch, length = data.batch_size, data.lengths[-1]
  hidden = settings.model.compute_dtype
  return (
    jax.ShapeDtypeStruct((vocab_size, width), jnp.float32),
    jax.ShapeDtypeStruct((batch, length, width), hidden),
    jax.ShapeDtypeStruct((batch, vocab_size), jnp.float32),
    jax.ShapeDtypeStruct((batch, length), jnp.int32),
    jax.ShapeDtypeStruct((batch, length), jnp.float32),
  )


def lowered(
  settings: settings_lib.Settings, vocab_size: int, max_bytes: int
) -> jax.stages.Lowered:
  """The program, for which no array was made yet."""
  return _gradient(max_bytes).lower(*shapes(settings, vocab_size))


def make(
  settings: settings_lib.Settings, vocab_size: int, max_bytes: int
) -> Loss:
  """The loss by chunks of at most so many bytes of logits."""
  arrays = [jnp.ones(s.shape, s.dtype) for s in shapes(settings, vocab_size)]
  program, seconds, size = timing.compiled(_gradient(max_bytes), *arrays)

  def run(units: int) -> None:
    for _ in range(units):
      jax.block_until_ready(program(*arrays))

  found = program.memory_analysis()
  return Loss(
    timing.Subject(run, seconds, size),
    None if found is None else int(found.temp_size_in_bytes),
  )


def _gradient(max_bytes):
  def total(embedding, hidden, shift, targets, weights):
    head = vocabulary.Head(embedding, None, shift)
    return vocabulary.summed_nll(
      head, hidden, targets, weights, max_bytes
    ).total

  return jax.jit(jax.grad(total, argnums=(0, 1, 2)))
