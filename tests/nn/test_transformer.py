"""GPT-2's block against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import numpy_bert
import numpy_gpt2
import pytest
import tiny

from lvdecode.nn import attention
from lvdecode.nn import transformer

B, T, D = tiny.BATCH, tiny.LENGTH, tiny.WIDTH


def make(dropout):
  return transformer.Block(
    heads=tiny.HEADS,
    width=D,
    inner=4 * D,
    layers=tiny.LAYERS,
    dropout=dropout,
    activation='gelu_tanh',
    epsilon=1e-5,
    dtype=jnp.dtype('float32'),
  )


# Small inputs, so that a wrong epsilon shows.
X = jnp.asarray(np.random.default_rng(0).normal(size=(B, T, D), scale=0.01))
MASK = attention.causal(T)
PARAMS = tiny.random_params(
  jax.eval_shape(make(0.0).init, jax.random.key(0), X, MASK)['params']
)


def test_block_is_that_of_the_equations():
  params = jax.tree.map(lambda p: np.asarray(p, np.float64), PARAMS)
  mask = np.tril(np.ones((T, T), bool))
  expected = [
    numpy_gpt2.block(params, np.asarray(x, np.float64), mask, tiny.HEADS)
    for x in X
  ]
  got = make(0.0).apply({'params': PARAMS}, X, MASK)
  np.testing.assert_allclose(got, expected, atol=2e-5)


@pytest.mark.parametrize('name', ['gelu_tanh', 'gelu', 'relu', 'silu'])
def test_mlp_has_the_activation_of_its_name(name):
  activation = {
    'gelu_tanh': numpy_gpt2.gelu,
    'gelu': numpy_bert.gelu,
    'relu': lambda x: np.maximum(x, 0),
    'silu': lambda x: x / (1 + np.exp(-x)),
  }[name]
  mlp = transformer.MLP(D, 4 * D, tiny.LAYERS, name, jnp.dtype('float32'))
  p = jax.tree.map(lambda p: np.asarray(p, np.float64), PARAMS['mlp'])
  x = 200 * np.asarray(X, np.float64)
  hidden = activation(numpy_gpt2.dense(p['c_fc'], x))
  expected = numpy_gpt2.dense(p['c_proj'], hidden)
  got = mlp.apply({'params': PARAMS['mlp']}, jnp.asarray(x, jnp.float32))
  # The two gelus differ by more than this.
  np.testing.assert_allclose(got, expected, atol=5e-5)


@pytest.mark.parametrize('branch', ['attn', 'mlp'])
def test_dropout_in_either_branch_only_when_it_is_asked_for(branch):
  # The other branch adds nothing.
  other = {'attn': 'mlp', 'mlp': 'attn'}[branch]
  params = PARAMS | {other: jax.tree.map(jnp.zeros_like, PARAMS[other])}
  block, variables = make(0.5), {'params': params}
  silent = block.apply(variables, X, MASK)
  np.testing.assert_array_equal(silent, make(0.0).apply(variables, X, MASK))
  rngs = {'dropout': jax.random.key(0)}
  loud = block.apply(variables, X, MASK, None, False, rngs=rngs)
  dropped = jnp.abs(loud - X) < 1e-7
  assert 0.3 < dropped.mean() < 0.7
  # What stays is doubled.
  twice = X + 2 * (silent - X)
  np.testing.assert_allclose(jnp.where(dropped, twice, loud), twice, atol=1e-5)
