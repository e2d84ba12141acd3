"""Attention against NumPy, its masks, its memory and its cache."""

import jax
import jax.numpy as jnp
import numpy as np
import numpy_gpt2
import pytest
import tiny

from lvdecode.nn import attention

B, T, M, H, K, D = 3, 7, 2, tiny.HEADS, tiny.WIDTH // tiny.HEADS, tiny.WIDTH
LAYER = attention.SelfAttention(H, D, tiny.LAYERS, jnp.dtype('float32'))


def random(*shape, seed=0):
  values = np.random.default_rng((seed, *shape)).normal(size=shape)
  return jnp.asarray(values, jnp.float32)


X = random(B, T, D)
PARAMS = tiny.random_params(
  jax.eval_shape(LAYER.init, jax.random.key(0), X, attention.causal(T))[
    'params'
  ]
)


def memory(visible=None, score=None):
  keys, values = random(B, M, H, K, seed=1), random(B, M, H, K, seed=2)
  return attention.Memory(keys, values, visible, score)


SCORE = random(H, M, seed=3)
SEEN = jnp.asarray([[True, True], [False, True], [True, False]])


def attend(x=X, mask=None, told=None):
  mask = attention.causal(T) if mask is None else mask
  return LAYER.apply({'params': PARAMS}, x, mask, told)


def by_hand(told, mask=None):
  params = jax.tree.map(lambda p: np.asarray(p, np.float64), PARAMS)
  mask = np.tril(np.ones((T, T), bool)) if mask is None else mask
  rows = []
  for b in range(B):
    row = None
    if told is not None:
      row = {
        'keys': np.asarray(told.keys[b], np.float64),
        'values': np.asarray(told.values[b], np.float64),
        'score': np.zeros((H, M)) if told.score is None else told.score,
        'seen': np.ones(M, bool)
        if told.visible is None
        else np.asarray(told.visible[b]),
      }
    x = np.asarray(X[b], np.float64)
    rows.append(numpy_gpt2.attention(params, x, mask, H, row))
  return np.stack(rows)


@pytest.mark.parametrize(
  'told',
  [
    None,
    memory(),
    memory(score=SCORE),
    memory(visible=SEEN),
    memory(SEEN, SCORE),
  ],
  ids=['alone', 'memory', 'score', 'visible', 'visible_score'],
)
def test_attention_is_that_of_the_equations(told):
  np.testing.assert_allclose(attend(told=told), by_hand(told), atol=2e-5)


@pytest.mark.parametrize('told', [memory(), memory(SEEN, SCORE)])
def test_the_share_that_memory_gets_is_that_of_the_softmax(told):
  """Values of 1 in the memory and 0 elsewhere average to it."""
  told = told._replace(values=jnp.ones_like(told.values))
  kernel = PARAMS['c_attn']['kernel'].at[:, 2 * D :].set(0)
  bias = PARAMS['c_attn']['bias'].at[2 * D :].set(0)
  straight = {'kernel': jnp.eye(D), 'bias': jnp.zeros(D)}
  params = {'c_attn': {'kernel': kernel, 'bias': bias}, 'c_proj': straight}
  out, state = LAYER.apply(
    {'params': params},
    X,
    attention.causal(T),
    told,
    mutable=['intermediates'],
  )
  by_slot = state['intermediates']['memory_mass'][0]
  assert by_slot.shape == (B, H, T, told.keys.shape[1])
  mass = by_slot.sum(-1)
  np.testing.assert_allclose(
    mass, jnp.moveaxis(out.reshape(B, T, H, K)[..., 0], 1, 2), atol=1e-5
  )
  # Nobody pays who does not ask.
  without = jax.jit(attend).lower(told=told).as_text()
  assert without.count('dot_general') == 4


def test_a_score_is_not_rounded_to_bfloat16():
  """Near 4 its steps are of 1/32: what is learned would move in stairs."""
  layer = attention.SelfAttention(H, D, tiny.LAYERS, jnp.dtype('bfloat16'))
  x, told = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (X, memory()))

  def out(score):
    scored = told._replace(score=jnp.full((H, M), score))
    return layer.apply({'params': PARAMS}, x, attention.causal(T), scored)

  assert out(4.0).dtype == jnp.bfloat16
  assert (out(4.0) != out(4.012)).any()


def test_a_token_sees_itself_and_what_is_before():
  before = attend()
  for t in range(T):
    after = attend(X.at[:, t].add(1.0))
    np.testing.assert_array_equal(before[:, :t], after[:, :t])
    assert (jnp.abs(before - after)[:, t:].max(-1) > 1e-3).all()


def test_padding_mask_hides_padding_and_nothing_else():
  visible = np.arange(T) < np.array([[7], [5], [3]])
  mask = attention.padding(jnp.asarray(visible))
  before = attend(mask=mask)
  noise = random(B, T, D, seed=4)
  after = attend(jnp.where(visible[:, :, None], X, noise), mask)
  np.testing.assert_array_equal(before[visible], after[visible])
  # Bidirectional: the last visible token changes the first.
  moved = attend(X.at[2, 2].add(1.0), mask)
  assert jnp.abs(moved - before)[2, 0].max() > 1e-3


def test_memory_is_visible_to_every_query_of_its_row_alone():
  told = memory()
  changed = attend(told=told._replace(values=told.values.at[0, 1].add(1.0)))
  moved = jnp.abs(changed - attend(told=told)).max(-1)
  assert (moved[0] > 1e-3).all()
  assert (moved[1:] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize('cached', [False, True])
def test_slots_have_no_order(cached):
  told = memory(SEEN, SCORE)
  turned = attention.Memory(
    told.keys[:, ::-1],
    told.values[:, ::-1],
    told.visible[:, ::-1],
    told.score[:, ::-1],
  )
  run = decode if cached else attend
  np.testing.assert_allclose(run(told=told), run(told=turned), atol=1e-5)


@pytest.mark.parametrize('cached', [False, True])
@pytest.mark.parametrize(
  'told',
  [
    memory(visible=jnp.zeros((B, M), bool)),
    memory(visible=jnp.zeros((1, M), bool)),
    memory(score=jnp.full((H, M), -1e9)),
  ],
  ids=['invisible', 'invisible_to_all', 'score'],
)
def test_silent_memory_is_no_memory(told, cached):
  got = decode(told) if cached else attend(told=told)
  np.testing.assert_allclose(got, attend()[:, : got.shape[1]], atol=1e-6)


def decode(told=None):
  """Three tokens at once, then one; the cache has room for more."""
  start = 0 if told is None else M
  cache = attention.start_cache(told, B, T, H, D, jnp.float32)
  parts = []
  for first, last in [(0, 3), (3, 4)]:
    out, cache = LAYER.apply(
      {'params': PARAMS},
      X[:, first:last],
      cache,
      jnp.asarray(start + first),
      method='extend',
    )
    parts.append(out)
  return jnp.concatenate(parts, axis=1)


def test_a_room_of_the_cache_that_is_not_written_is_not_seen():
  told = memory(SEEN, SCORE)
  cache = attention.start_cache(told, B, T, H, D, jnp.float32)
  dirty = cache._replace(
    keys=cache.keys.at[:, :, M:].set(7.0),
    values=cache.values.at[:, :, M:].set(7.0),
  )
  for state in (cache, dirty):
    out, _ = LAYER.apply(
      {'params': PARAMS}, X[:, :3], state, jnp.asarray(M), method='extend'
    )
    np.testing.assert_allclose(out, attend(told=told)[:, :3], atol=1e-5)


def test_behind_memory_keeps_the_mask_and_opens_the_slots():
  mask = attention.behind_memory(attention.causal(T), memory())
  assert mask.shape == (1, 1, T, M + T)
  assert mask[..., :M].all()
  np.testing.assert_array_equal(mask[..., M:], attention.causal(T))
  mask = attention.behind_memory(attention.causal(T), memory(visible=SEEN))
  assert mask.shape == (B, 1, T, M + T)
  np.testing.assert_array_equal(mask[:, 0, 0, :M], SEEN)
  np.testing.assert_array_equal(mask[1:2, :, :, M:], attention.causal(T))


def test_bfloat16_softmax_is_close_to_float32():
  layer = attention.SelfAttention(H, D, tiny.LAYERS, jnp.dtype('bfloat16'))
  told = memory(SEEN, SCORE)
  out = layer.apply({'params': PARAMS}, X, attention.causal(T), told)
  assert out.dtype == jnp.bfloat16
  error = jnp.abs(out.astype(jnp.float32) - attend(told=told))
  assert error.max() < 0.05 * jnp.abs(attend(told=told)).max()


def test_slots_that_no_row_has_stand_beside_masks_of_rows():
  rows = jnp.arange(3)[:, None, None, None]
  mask = (rows + jnp.arange(4)[None, None, None, :]) % 2 == 0
  slots = jnp.zeros((3, 2, 1, 1))
  for visible in ([[True, False]], [[True, False]] * 3):
    memory = attention.Memory(slots, slots, jnp.asarray(visible))
    whole = attention.behind_memory(mask, memory)
    expected = np.concatenate(
      [np.broadcast_to([True, False], (3, 1, 1, 2)), mask], axis=-1
    )
    np.testing.assert_array_equal(whole, expected)
