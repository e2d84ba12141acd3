"""What each injection point tells the decoder, and whom."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpy_gpt2
import pytest
import tiny

from lvdecode import errors
from lvdecode.latent import injection
from lvdecode.nn import transformer

B, T, L, H, D = 3, 7, tiny.LAYERS, tiny.HEADS, tiny.WIDTH
M, K, V, Z = 2, D // H, tiny.VOCAB, tiny.LATENT
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, V, (B, T)))
Z0 = tiny.latents()
KINDS = {
  'input': {},
  'memory': {},
  'memory_score': {'memory_score': -1.0},
  'memory_tied': {'memory_tied': True},
  'memory_second_layer': {'memory_layers': (1,)},
  'softmax': {},
  'softmax_rank': {'softmax_rank': 2},
  'fuse': {},
}
each = pytest.mark.parametrize('kind', KINDS)


def make(kind, **changes):
  point = kind.split('_')[0]
  return tiny.model(points=(point,), **{**KINDS[kind], **changes})


def module(layers=L, points=('memory',), **changes):
  settings = tiny.injection_settings(points, **changes)
  return injection.Injection(
    settings=settings, layers=layers, heads=H, width=D, vocab_size=V
  )


def told(injector, z=Z0):
  """Injected from random numbers, and those numbers."""
  shapes = jax.eval_shape(injector.init, jax.random.key(0), z)['params']
  params = tiny.random_params(shapes)
  injected = injector.apply({'params': params}, z)
  return injected, jax.tree.map(np.asarray, params)


def untrained(model):
  """Random numbers everywhere but in the injection, which is as it starts."""
  settings = model.settings.injection
  injector = module(L, settings.points).copy(settings=settings)
  start = injector.init(jax.random.key(0), Z0)['params']
  return tiny.params(model) | {'injection': start}


def plain(params):
  """Logits of the language model with the same decoder."""
  lm = tiny.model(points=())
  return tiny.logits(
    lm, {'decoder': params['decoder']}, TOKENS, jnp.zeros((B, 0))
  )


@pytest.mark.slow
@each
def test_a_latent_changes_its_own_text_at_every_position(kind):
  model = make(kind)
  params = tiny.params(model)
  before = tiny.logits(model, params, TOKENS, Z0)
  after = tiny.logits(model, params, TOKENS, Z0.at[0].add(1.0))
  moved = jnp.abs(after - before).max(-1)
  assert (moved[0] > 1e-4).all()
  assert (moved[1:] == 0).all()


@pytest.mark.slow
@each
def test_zero_init_is_silent(kind):
  model = make(kind, init='zero')
  params = untrained(model)
  before = tiny.logits(model, params, TOKENS, Z0)
  after = tiny.logits(model, params, TOKENS, 5 * Z0 + 1)
  np.testing.assert_array_equal(before, after)
  if kind.startswith(('input', 'softmax')):
    np.testing.assert_array_equal(before, plain(params))


@pytest.mark.slow
@pytest.mark.parametrize('tied', [False, True])
def test_zero_memory_with_a_low_score_is_the_plain_language_model(tied):
  model = make('memory', init='zero', memory_score=-30.0, memory_tied=tied)
  params = untrained(model)
  got = tiny.logits(model, params, TOKENS, Z0)
  np.testing.assert_allclose(got, plain(params), atol=1e-6, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('layers', 'chosen'), [(2, ()), (3, (2, 0)), (3, (1, 2, 0)), (3, (1,))]
)
@pytest.mark.parametrize('tied', [False, True])
def test_memory_is_that_of_the_equations(layers, chosen, tied):
  """[k_z; v_z] = W_l z_l + b_l, a sample, layer and slot at a time."""
  injected, p = told(
    module(layers, memory_layers=chosen, memory_tied=tied, memory_score=0.0)
  )
  memory = injected.memory
  assert memory.keys.shape == memory.values.shape == (layers, B, M, H, K)
  names = chosen or tuple(range(layers))
  for layer, b, m in itertools.product(range(layers), range(B), range(M)):
    if layer not in names:
      assert not memory.visible[layer].any()
      continue
    i = names.index(layer)
    z = np.asarray(Z0[b])
    if tied:
      k = v = np.einsum('z,zhk->hk', z, p['memory_kernel'][:, i, m])
    else:
      slices = p['memory_slices']
      z = z @ slices['kernel'][:, i, m] + slices['bias'][i, m]
      k, v = (
        np.einsum('d,dhk->hk', z, p['memory_kernel'][i, :, c])
        + p['memory_bias'][i, c]
        for c in (0, 1)
      )
    np.testing.assert_allclose(memory.keys[layer, b, m], k, atol=1e-5)
    np.testing.assert_allclose(memory.values[layer, b, m], v, atol=1e-5)
    np.testing.assert_array_equal(memory.score[layer], p['memory_score'][i])
    assert memory.visible is None or memory.visible[layer].all()


def test_tied_memory_has_one_vector_for_key_and_value():
  memory = told(module(memory_tied=True))[0].memory
  np.testing.assert_array_equal(memory.keys, memory.values)
  untied = told(module())[0].memory
  assert jnp.abs(untied.keys - untied.values).min() > 0


@pytest.mark.parametrize('layer', range(L))
def test_a_slot_of_a_layer_tells_its_sample_from_that_layer_on(layer):
  model = make('memory')
  params = tiny.params(model)

  def blocks(memory):
    """What leaves each block, [L, B, T, D]."""
    _, state = model.apply(
      {'params': params},
      memory,
      method=lambda bound, memory: bound.decoder(
        TOKENS, injection.gpt.Injected(memory=memory)
      ),
      capture_intermediates=lambda m, _: isinstance(m, transformer.Block),
    )
    seen = state['intermediates']['decoder']
    return jnp.stack([seen[f'h_{i}']['__call__'][0] for i in range(L)])

  memory = tiny.apply(model, params, Z0, method='inject').memory
  keys, values = (
    x.at[layer, 0, 1].add(1.0) for x in (memory.keys, memory.values)
  )
  moved = jnp.abs(
    blocks(memory._replace(keys=keys, values=values)) - blocks(memory)
  ).max(-1)
  assert (moved[:, 1:] == 0).all()
  assert (moved[:layer] == 0).all()
  assert (moved[layer:, 0] > 1e-4).all()


def test_low_rank_softmax_has_the_rank():
  z = tiny.latents(8)
  for rank, expected in ((0, Z), (1, 1), (2, 2)):
    logits, p = told(module(points=('softmax',), softmax_rank=rank), z)
    logits = np.asarray(logits.logits) - p['softmax']['bias']
    assert np.linalg.matrix_rank(logits, tol=1e-4) == expected


def test_input_and_softmax_are_linear_maps():
  injected, p = told(module(points=('input', 'softmax')))
  np.testing.assert_allclose(
    injected.embedding, Z0 @ p['input']['kernel'], atol=1e-6
  )
  assert set(p['input']) == {'kernel'}
  softmax = np.asarray(Z0) @ p['softmax']['kernel'] + p['softmax']['bias']
  np.testing.assert_allclose(injected.logits, softmax, atol=1e-6)


@pytest.mark.parametrize('points', [('fuse',), ('fuse', 'softmax')])
def test_fuse_is_that_of_the_equation(points):
  """C_t = tanh([z; h_t] W_c), logits_t = C_t W_o + b_o."""
  model = tiny.model(points=points)
  params = tiny.params(model)
  hidden = tiny.apply(
    model, params, TOKENS, method=lambda bound, t: bound.decoder(t)
  )
  p = jax.tree.map(np.asarray, params['injection'])
  w_c = np.concatenate([p['fuse_z']['kernel'], p['fuse_hidden']])
  z = np.broadcast_to(np.asarray(Z0)[:, None], (B, T, Z))
  c = np.tanh(np.concatenate([z, np.asarray(hidden)], axis=-1) @ w_c)
  expected = c @ np.asarray(params['decoder']['wte']['embedding']).T
  expected = expected + p['fuse_bias']
  if 'softmax' in points:
    expected = expected + z @ p['softmax']['kernel'] + p['softmax']['bias']
  got = tiny.logits(model, params, TOKENS, Z0)
  np.testing.assert_allclose(got, expected, atol=1e-5)


def test_points_fill_their_own_fields_only():
  names = {
    'input': {'embedding'},
    'memory': {'memory'},
    'softmax': {'logits'},
    'fuse': {'fusion'},
  }
  for size in range(len(names) + 1):
    for points in itertools.combinations(injection.POINTS, size):
      shapes = jax.eval_shape(
        module(points=points).init_with_output, jax.random.key(0), Z0
      )[0]
      filled = {k for k, v in shapes._asdict().items() if v is not None}
      assert filled == set().union(*(names[point] for point in points))


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'points': ('memry',)}, "'memry': did you mean 'memory'"),
    ({'points': ('input', 'input')}, 'names a point twice'),
    ({'init': 'zeros'}, "injection.init = 'zeros': did you mean 'zero'"),
    ({'memory_slots': 0}, 'memory_slots = 0: it must be at least 1'),
    ({'softmax_rank': -1}, 'softmax_rank = -1: it must be at least 0'),
    ({'memory_layers': (0, 1, 0)}, 'names a layer twice'),
  ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(changes, message):
  with pytest.raises(errors.UserError, match=message) as error:
    tiny.injection_settings(**changes)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('kind', [k for k in KINDS if k.startswith('memory')])
def test_a_memory_for_hugging_face_tells_the_same(kind):
  model = make(kind)
  params = tiny.params(model)
  injected = tiny.apply(model, params, Z0, method='inject')
  past = injection.past(injected.memory)
  assert len(past.layers) == L
  assert (past.score is None) == (kind in ('memory', 'memory_tied'))
  score = np.zeros((L, 1, H, M)) if past.score is None else past.score
  exact = jax.tree.map(lambda p: np.asarray(p, np.float64), params['decoder'])
  expected = tiny.logits(model, params, TOKENS, Z0)
  for b in range(B):
    layers = [
      {
        'keys': keys[b].swapaxes(0, 1),
        'values': values[b].swapaxes(0, 1),
        'score': bias[0],
        'seen': np.ones(M, bool),
      }
      for (keys, values), bias in zip(past.layers, score, strict=True)
    ]
    states = numpy_gpt2.hidden_states(exact, TOKENS[b], H, memory=layers)
    scores = states @ exact['wte']['embedding'].T
    np.testing.assert_allclose(scores, expected[b], atol=1e-4)
