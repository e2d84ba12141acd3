"""GPT-2 parameter for parameter, causal, cached, and told through holes."""

import itertools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import numpy_gpt2
import pytest
import tiny

from lvdecode.nn import attention
from lvdecode.nn import gpt
from lvdecode.nn import vocabulary

B, T, M = 3, 7, 2
L, H, D, V = tiny.LAYERS, tiny.HEADS, tiny.WIDTH, tiny.VOCAB
K = D // H


def make(**changes):
  sizes = dict(
    vocab_size=V,
    vocab_multiple=1,
    positions=tiny.POSITIONS,
    layers=L,
    heads=H,
    width=D,
    inner=4 * D,
    dropout=0.0,
    activation='gelu_tanh',
    epsilon=1e-5,
    dtype=jnp.dtype('float32'),
  )
  return gpt.GPT(**{**sizes, **changes})


GPT = make()
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, V, (B, T)))
SHAPES = jax.eval_shape(GPT.init, jax.random.key(0), TOKENS)['params']
PARAMS = tiny.random_params(SHAPES)
EXACT = jax.tree.map(lambda p: np.asarray(p, np.float64), PARAMS)


def random(*shape, seed=0):
  values = np.random.default_rng((seed, *shape)).normal(size=shape)
  return jnp.asarray(values, jnp.float32)


def memory(visible=None, score=None):
  return attention.Memory(
    random(L, B, M, H, K, seed=1), random(L, B, M, H, K, seed=2), visible, score
  )


SCORE = random(L, H, M)
SECOND_LAYER = jnp.asarray([[[False] * M], [[True] * M]])  # [L, 1, M]
PADDED = jnp.asarray(np.random.default_rng(1).random((L, B, M)) < 0.6)
FIELDS = {
  'embedding': random(B, D, seed=3),
  'memory': memory(),
  'fusion': vocabulary.Fusion(
    random(D, D, seed=4) / 4, random(B, D, seed=5), random(V, seed=7)
  ),
  'logits': random(B, V, seed=6),
}
MEMORIES = {
  'score': memory(score=SCORE),
  'some_layers': memory(visible=SECOND_LAYER),
  'some_layers_score': memory(SECOND_LAYER, SCORE),
  'padded': memory(PADDED, SCORE),
}
# Every subset of the fields, and every sort of memory next to the rest.
INJECTED = {
  '+'.join(names) or 'nothing': gpt.Injected(**{n: FIELDS[n] for n in names})
  for size in range(len(FIELDS) + 1)
  for names in itertools.combinations(FIELDS, size)
} | {
  name: gpt.Injected(**{**FIELDS, 'memory': kind})
  for name, kind in MEMORIES.items()
}
each = pytest.mark.parametrize(
  'told',
  [
    # Pairs and triples say little that each and all do not.
    pytest.param(told, marks=[pytest.mark.slow] * (name.count('+') in (1, 2)))
    for name, told in INJECTED.items()
  ],
  ids=INJECTED,
)


def hidden(tokens=TOKENS, told=None):
  return GPT.apply({'params': PARAMS}, tokens, told or gpt.Injected())


def logits(states, told):
  head = GPT.apply({'params': PARAMS}, told, method='head')
  return vocabulary.logits(head, states)


def by_hand(told):
  """Logits [B, T, V] in NumPy, a row at a time."""
  rows = []
  for b in range(B):
    layers = None
    if told.memory is not None:
      layers = [memory_row(told.memory.layer(i), b) for i in range(L)]
    embedding = 0.0 if told.embedding is None else told.embedding[b]
    x = numpy_gpt2.hidden_states(
      EXACT, TOKENS[b], H, embedding=np.asarray(embedding), memory=layers
    )
    if told.fusion is not None:
      shift = np.asarray(told.fusion.shift[b])
      x = np.tanh(x @ np.asarray(told.fusion.kernel) + shift)
    x = x @ EXACT['wte']['embedding'].T
    if told.fusion is not None:
      x = x + np.asarray(told.fusion.bias)
    rows.append(x if told.logits is None else x + np.asarray(told.logits[b]))
  return np.stack(rows)


def memory_row(layer, b):
  seen, score = np.ones(M, bool), np.zeros((H, M))
  if layer.visible is not None:
    seen = np.broadcast_to(np.asarray(layer.visible), (B, M))[b]
  return {
    'keys': np.asarray(layer.keys[b]),
    'values': np.asarray(layer.values[b]),
    'score': score if layer.score is None else np.asarray(layer.score),
    'seen': seen,
  }


@pytest.mark.slow
@each
def test_full_and_cached_are_those_of_the_equations(told):
  expected = by_hand(told)
  full = logits(hidden(told=told), told)
  np.testing.assert_allclose(full, expected, atol=1e-4)
  cache = GPT.apply({'params': PARAMS}, told, B, T, method='start')
  parts = []
  for first, last in [(0, 3), (3, 4), (4, 5)]:
    states, cache = GPT.apply(
      {'params': PARAMS},
      TOKENS[:, first:last],
      told,
      cache,
      method='extend',
    )
    parts.append(logits(states, told))
  cached = jnp.concatenate(parts, axis=1)
  np.testing.assert_allclose(cached, full[:, :5], atol=2e-5)
  assert int(cache.position) == 5
  assert int(cache.written) == 5 + (0 if told.memory is None else M)


@pytest.mark.parametrize(
  'told', [INJECTED['nothing'], MEMORIES['padded']], ids=['plain', 'memory']
)
def test_a_token_changes_nothing_before_it(told):
  if isinstance(told, attention.Memory):
    told = gpt.Injected(memory=told)
  before = hidden(told=told)
  for t in range(T):
    after = hidden(TOKENS.at[:, t].add(1) % V, told)
    np.testing.assert_array_equal(before[:, :t], after[:, :t])
    assert (jnp.abs(before - after)[:, t:].max(-1) > 1e-4).all()


def test_bidirectional_use_sees_both_ways_but_no_padding():
  visible = np.arange(T) < np.array([[7], [5], [3]])
  mask = attention.padding(jnp.asarray(visible))

  def encode(tokens):
    h = GPT.apply({'params': PARAMS}, tokens, method='embed')
    return GPT.apply({'params': PARAMS}, h, mask, method='blocks')

  before = encode(TOKENS)
  after = encode(jnp.where(visible, TOKENS, (TOKENS + 1) % V))
  np.testing.assert_array_equal(before[visible], after[visible])
  moved = jnp.abs(encode(TOKENS.at[2, 2].add(1) % V) - before)
  assert (moved[2, :3].max(-1) > 1e-4).all()
  for b in range(B):
    seen = np.broadcast_to(visible[b], (T, T))
    expected = numpy_gpt2.hidden_states(EXACT, TOKENS[b], H, mask=seen)
    np.testing.assert_allclose(
      before[b][visible[b]], expected[visible[b]], atol=1e-4
    )


def test_parameters_have_gpt2s_names_and_shapes():
  def norm(name):
    return {f'{name}/scale': (D,), f'{name}/bias': (D,)}

  def dense(name, rows, columns):
    return {f'{name}/kernel': (rows, columns), f'{name}/bias': (columns,)}

  expected = {'wte/embedding': (V, D), 'wpe/embedding': (tiny.POSITIONS, D)}
  for layer in range(L):
    h = f'h_{layer}'
    expected |= norm(f'{h}/ln_1') | norm(f'{h}/ln_2')
    expected |= dense(f'{h}/attn/c_attn', D, 3 * D)
    expected |= dense(f'{h}/attn/c_proj', D, D)
    expected |= dense(f'{h}/mlp/c_fc', D, 4 * D)
    expected |= dense(f'{h}/mlp/c_proj', 4 * D, D)
  expected |= norm('ln_f')
  flat = flax.traverse_util.flatten_dict(SHAPES, sep='/')
  assert {name: leaf.shape for name, leaf in flat.items()} == expected
  assert all(leaf.dtype == jnp.float32 for leaf in flat.values())


def test_initial_numbers_are_gpt2s():
  params = jax.jit(GPT.init)(jax.random.key(0), TOKENS)['params']
  flat = flax.traverse_util.flatten_dict(params, sep='/')
  for name, leaf in flat.items():
    if name.endswith('bias'):
      assert not leaf.any()
    elif name.endswith('scale'):
      assert (leaf == 1).all()
    else:
      # Residual projections by 1 / sqrt(2 L) (Radford et al. 2019).
      std = 0.01 if 'c_proj' in name else 0.02
      assert abs(np.std(leaf) / std - 1) < 0.2, name


@pytest.mark.parametrize('use', ['full', 'cached'])
def test_more_tokens_than_positions_raise(use):
  length = tiny.POSITIONS + 1
  with pytest.raises(ValueError, match='13 tokens do not fit in 12 positions'):
    if use == 'full':
      hidden(jnp.zeros((1, length), jnp.int32))
    else:
      GPT.apply({'params': PARAMS}, gpt.Injected(), 1, length, method='start')


def test_bfloat16_computes_close_to_float32():
  told = INJECTED['padded']
  half = make(dtype=jnp.dtype('bfloat16'))
  states = half.apply({'params': PARAMS}, TOKENS, told)
  assert states.dtype == jnp.bfloat16
  assert logits(states, told).dtype == jnp.float32
  exact = hidden(told=told)
  error = jnp.abs(states.astype(jnp.float32) - exact)
  assert error.max() < 0.1 * jnp.abs(exact).max()
  init = jax.eval_shape(half.init, jax.random.key(0), TOKENS)
  assert {leaf.dtype for leaf in jax.tree.leaves(init)} == {jnp.float32.dtype}
