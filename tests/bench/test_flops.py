"""The formula counts what the program multiplies."""

import math

import jax
import jax.numpy as jnp
import pytest
import tiny

from lvdecode.bench import flops
from lvdecode.latent import sizes as sizes_lib

T, ROWS = tiny.LENGTH, tiny.VOCAB
BATCH = tiny.batch()


def multiplied(program) -> float:
  """Operations of every product of matrices in it, loops' insides not."""
  total = 0.0
  for equation in program.eqns:
    if equation.primitive.name == 'dot_general':
      (contracted, _), _ = equation.params['dimension_numbers']
      left = equation.invars[0].aval.shape
      depth = math.prod(left[axis] for axis in contracted)
      total += 2 * depth * equation.outvars[0].aval.size
    for inner in jax.tree.leaves(
      equation.params, is_leaf=lambda x: hasattr(x, 'eqns')
    ):
      if hasattr(inner, 'eqns'):
        total += multiplied(inner)
      elif hasattr(inner, 'jaxpr'):
        total += multiplied(inner.jaxpr)
  return total


CASES = [
  (),
  ('input',),
  ('memory',),
  ('softmax',),
  ('fuse',),
  ('input', 'memory', 'softmax'),
]


@pytest.mark.parametrize('points', CASES, ids=str)
def test_a_decoder_costs_what_its_program_multiplies(points):
  model = tiny.model(points)

  def nll(params, z):
    return model.apply(
      {'params': params},
      BATCH.tokens[:, :-1],
      BATCH.tokens[:, 1:],
      z,
      2**30,
      method='token_nll',
    )

  z = tiny.latents() if points else jnp.zeros((tiny.BATCH, 0))
  program = jax.make_jaxpr(nll)(tiny.params(model), z).jaxpr
  expected = tiny.BATCH * flops.decoder(model.settings, ROWS, T - 1)
  assert multiplied(program) == expected


@pytest.mark.parametrize('pooling', ['attention', 'mean', 'first'])
def test_an_encoder_costs_what_its_program_multiplies(pooling):
  model = tiny.model(encoder=tiny.encoder_settings(pooling=pooling, layers=2))
  visible = jnp.ones((tiny.BATCH, T), bool)
  program = jax.make_jaxpr(
    lambda params: model.apply(
      {'params': params}, BATCH.tokens, visible, method='encode'
    )
  )(tiny.params(model)).jaxpr
  expected = tiny.BATCH * flops.encoder(model.settings, T)
  assert multiplied(program) == expected


def test_samples_at_the_softmax_cost_what_their_program_multiplies():
  model, samples = tiny.model(('softmax',)), 4

  def nll(params, z):
    variables = {'params': params}
    states = model.apply(variables, BATCH.tokens[:, :-1], None, method='states')
    return model.apply(
      variables, states, BATCH.tokens[:, 1:], z, 2**30, method='shifted_nll'
    )

  z = jnp.zeros((tiny.BATCH, samples, tiny.LATENT))
  program = jax.make_jaxpr(nll)(tiny.params(model), z).jaxpr
  step = flops.training_step(model.settings, ROWS, tiny.BATCH, T, samples)
  encoded = tiny.BATCH * flops.encoder(model.settings, T)
  # The states are told of a z that goes nowhere: compilers drop its product.
  unused = tiny.BATCH * flops.injection(model.settings, ROWS)
  assert multiplied(program) == step / flops.TRAINING - encoded + unused


def test_by_hand():
  """2 layers, D = 16, 4 D inside, Z = 3, M = 2 slots, V = 13, 6 targets."""
  model = tiny.model(('memory',))
  layer = 2 * (4 * 256 + 2 * 16 * 64) + 4 * (6 + 2) * 16
  told = 2 * 3 * 2 * 2 * 16 + 4 * 2 * 2 * 256
  expected = 2 * layer * 6 + 2 * 16 * 13 * 6 + told
  assert flops.decoder(model.settings, 13, 6) == expected


def test_a_gradient_is_two_products():
  """A step is three times the forward pass, up to the first layer's input."""
  model = tiny.model((), decoder=tiny.decoder_settings(layers=2))

  def total(params):
    summed = model.apply(
      {'params': params},
      BATCH.tokens[:, :-1],
      BATCH.tokens[:, 1:],
      BATCH.weights[:, 1:],
      jnp.zeros((tiny.BATCH, 0)),
      2**30,
      method='summed_nll',
    )
    return summed.total

  program = jax.make_jaxpr(jax.grad(total))(tiny.params(model)).jaxpr
  expected = flops.training_step(model.settings, ROWS, tiny.BATCH, T, 1)
  assert multiplied(program) == expected


def test_decoding_reads_each_weight_once_and_half_a_cache():
  settings = tiny.model_settings(())
  weights = 4 * (2 * (4 * 256 + 2 * 16 * 64) + 13 * 16)
  cache = 2 * 3 * 10 * 2 * 16 * 4 / 2
  assert flops.decoding_bytes(settings, 13, 3, 10) == weights + cache
  assert isinstance(settings, sizes_lib.ModelSettings)
