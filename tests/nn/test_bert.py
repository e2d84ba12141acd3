"""BERT against NumPy: types, padding, and no room for more positions."""

import jax
import jax.numpy as jnp
import numpy as np
import numpy_bert
import numpy_gpt2
import pytest
import tiny

from lvdecode.nn import bert
from lvdecode.nn import layers

B, T, V, D = 3, 7, tiny.VOCAB, tiny.WIDTH
BERT = bert.BERT(
  vocab_size=V,
  positions=tiny.POSITIONS,
  types=2,
  layers=2,
  heads=tiny.HEADS,
  width=D,
  inner=24,
  pools=True,
  dropout=0.0,
  activation='gelu',
  epsilon=numpy_bert.EPSILON,
  dtype=jnp.dtype('float32'),
)
RNG = np.random.default_rng(0)
TOKENS = jnp.asarray(RNG.integers(0, V, (B, T)))
TYPES = jnp.asarray(RNG.integers(0, 2, (B, T)))
VISIBLE = jnp.asarray(np.arange(T) < np.array([[7], [5], [3]]))


def everything(model, tokens, visible, types):
  states = model(tokens, visible, True, types)
  return states, model.pool(states)


PARAMS = tiny.random_params(
  jax.eval_shape(
    lambda key: BERT.init(key, TOKENS, VISIBLE, TYPES, method=everything),
    jax.random.key(0),
  )['params']
)


def states(tokens=TOKENS, types=TYPES):
  return BERT.apply({'params': PARAMS}, tokens, VISIBLE, True, types)


def test_states_and_pooled_are_those_of_the_equations():
  got, pooled = BERT.apply(
    {'params': PARAMS}, TOKENS, VISIBLE, TYPES, method=everything
  )
  exact = jax.tree.map(lambda p: np.asarray(p, np.float64), PARAMS)
  for b in range(B):
    seen = np.asarray(VISIBLE[b])
    expected = numpy_bert.hidden_states(
      exact, TOKENS[b], TYPES[b], seen, tiny.HEADS
    )
    np.testing.assert_allclose(got[b][seen], expected[seen], atol=2e-5)
    first = np.tanh(numpy_gpt2.dense(exact['pooler'], expected[0]))
    np.testing.assert_allclose(pooled[b], first, atol=2e-5)


def test_without_types_all_are_of_the_first():
  zeros = jnp.zeros_like(TOKENS)
  np.testing.assert_array_equal(states(types=None), states(types=zeros))
  assert jnp.abs(states(types=None) - states()).max() > 1e-3


def test_what_is_not_visible_changes_nothing():
  seen = np.asarray(VISIBLE)
  other = states(jnp.where(seen, TOKENS, (TOKENS + 1) % V))
  np.testing.assert_array_equal(states()[seen], other[seen])


def test_more_tokens_than_positions_raise():
  with pytest.raises(ValueError, match='13 tokens do not fit in 12 positions'):
    BERT.apply(
      {'params': PARAMS},
      jnp.zeros((1, 13), jnp.int32),
      jnp.ones((1, 13), bool),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
  'way', [('xla', True, 'none'), ('xla', False, 'block')]
)
def test_its_layers_may_be_run_in_other_ways(way):
  other = BERT.clone(execution=layers.Execution(*way))
  got = other.apply({'params': PARAMS}, TOKENS, VISIBLE, True, TYPES)
  np.testing.assert_allclose(got, states(), atol=1e-5)
  program = jax.make_jaxpr(
    lambda tokens: other.apply({'params': PARAMS}, tokens, VISIBLE)
  )(TOKENS)
  assert ('scan' if way[1] else 'remat') in str(program)
