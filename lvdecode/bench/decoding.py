"""Text from latents and bounds from samples, as commands make them."""

from typing import Any

import jax
import jax.numpy as jnp

from lvdecode import sampling
from lvdecode.bench import timing
from lvdecode.bench import training
from lvdecode.latent import bounds
from lvdecode.tasks import latent

EOS, PAD = 2, 0
RULES = {
  'greedy': sampling.Rules(),
  'sample': sampling.Rules(method='sample'),
  'top_p 0.9': sampling.Rules(method='sample', top_p=0.9),
}


def parameters(task: latent.LatentTask) -> Any:
  """Fresh ones."""
  return jax.jit(task.init)(jax.random.key(0))


def sampler(
  task: latent.LatentTask,
  params: Any,
  rules: sampling.Rules,
  count: int,
  length: int,
) -> timing.Subject:
  """Writes `count` texts of `length` tokens, BOS counted, none ending early."""
  z = jax.random.normal(
    jax.random.key(1), (count, task.model.latent_size), jnp.float32
  )
  keys = jax.random.split(jax.random.key(2), count)
  chosen: dict[str, Any] = dict(
    rules=rules,
    length=length,
    bos=training.BOS,
    eos=EOS,
    pad=PAD,
    banned=(PAD, training.BOS, EOS),
  )
  program, seconds, size = timing.compiled(
    _Lowered(task, chosen), params, z, keys
  )

  def run(units: int) -> None:
    for _ in range(units):
      jax.block_until_ready(program(params, z, keys))

  return timing.Subject(run, seconds, size)


class _Lowered:
  """`sampling.generate` with all that is static given."""

  def __init__(self, task: latent.LatentTask, chosen: dict[str, Any]):
    self._task = task
    self._chosen = chosen

  def lower(self, params, z, keys):
    return sampling.generate.lower(
      self._task.model, params, z, keys, **self._chosen
    )


def bound(
  task: latent.LatentTask, params: Any, size: int, length: int, samples: int
) -> timing.Subject:
  """The importance-weighted bound of `size` texts by `samples` draws."""
  texts = jax.tree.map(
    jnp.asarray, training.batch(size, length, task.model.vocab_size)
  )
  keys = jax.random.split(jax.random.key(2), size)

  @jax.jit
  def nll(params, texts, keys):
    weights = task.log_weights(params, texts, keys, samples)
    return bounds.importance_weighted_nll(weights)

  program, seconds, needed = timing.compiled(nll, params, texts, keys)

  def run(units: int) -> None:
    for _ in range(units):
      jax.block_until_ready(program(params, texts, keys))

  return timing.Subject(run, seconds, needed)
