"""The encoder's manners, the plain language model, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from lvdecode import errors
from lvdecode import sampling
from lvdecode.latent import posterior
from lvdecode.latent import sizes

BATCH = tiny.batch()
VISIBLE = (BATCH.weights > 0).at[:, 0].set(True)
ENCODERS = [(kind, 'attention') for kind in sizes.ENCODERS]
ENCODERS += [('own', pooling) for pooling in posterior.POOLINGS[1:]]
each = pytest.mark.parametrize(('kind', 'pooling'), ENCODERS)


def make(kind='own', pooling='attention', **changes):
  encoder = tiny.encoder_settings(kind=kind, pooling=pooling)
  return tiny.model(encoder=encoder, **changes)


def encode(model, tokens):
  return tiny.apply(model, tiny.params(model), tokens, VISIBLE, method='encode')


@pytest.mark.slow
@each
def test_padding_changes_no_posterior_and_every_token_does(kind, pooling):
  model = make(kind, pooling)
  before = encode(model, BATCH.tokens)
  noisy = jnp.where(VISIBLE, BATCH.tokens, 5)
  for a, b in zip(before, encode(model, noisy), strict=True):
    np.testing.assert_array_equal(a, b)
  # The last real token of every row, which a causal BOS would not see.
  last = BATCH.tokens.at[jnp.arange(3), jnp.asarray([6, 4, 2])].set(9)
  moved = jnp.abs(encode(model, last).mean - before.mean)
  assert (moved.max(-1) > 1e-4).all()


def test_encoder_kinds_own_what_they_say():
  names = {kind: set(shapes(make(kind))) for kind in sizes.ENCODERS}
  assert names['decoder'] == {'decoder', 'posterior', 'injection'}
  assert names['own'] == names['decoder'] | {'encoder'}
  own = shapes(make('own'))['encoder']
  shared = shapes(make('shared_embeddings'))['encoder']
  assert set(own) == {'wte', 'wpe', 'h_0', 'ln_f'}
  assert set(shared) == {'h_0', 'ln_f'}


def shapes(model):
  return jax.eval_shape(tiny.task(model).init, jax.random.key(0))


def test_without_points_there_is_a_decoder_and_nothing_else():
  model = make(points=())
  assert set(shapes(model)) == {'decoder'}
  assert model.latent_size == 0
  q = encode(model, BATCH.tokens)
  assert q.mean.shape == q.logvar.shape == (3, 0)


@pytest.mark.slow
def test_half_precision_computes_and_nothing_more():
  points = ('input', 'memory', 'softmax', 'fuse')
  exact, half = make(points=points), make(points=points, dtype='bfloat16')
  leaves = jax.tree.leaves(shapes(half))
  assert {leaf.dtype for leaf in leaves} == {jnp.float32.dtype}

  def figures(model):
    params = tiny.params(exact)
    q = tiny.apply(model, params, BATCH.tokens, VISIBLE, method='encode')
    nll = tiny.apply(
      model,
      params,
      BATCH.tokens,
      jnp.roll(BATCH.tokens, -1, axis=1),
      tiny.latents(),
      2**20,
      method='token_nll',
    )
    return q.mean, q.logvar, nll

  for a, b in zip(figures(exact), figures(half), strict=True):
    assert b.dtype == jnp.float32
    np.testing.assert_allclose(a, b, atol=0.1 * float(jnp.abs(a).max()))
    assert jnp.abs(a - b).max() > 0  # bfloat16 indeed


def test_token_nll_is_that_of_the_logits_in_chunks_or_not():
  model = make(points=('input', 'memory', 'softmax', 'fuse'))
  params = tiny.params(model)
  tokens, targets = BATCH.tokens, jnp.roll(BATCH.tokens, -1, axis=1)
  z = tiny.latents()
  scores = tiny.logits(model, params, tokens, z)
  expected = -jnp.take_along_axis(
    jax.nn.log_softmax(scores), targets[:, :, None], axis=-1
  )
  for max_bytes in (1, 2**20):
    nll = tiny.apply(
      model, params, tokens, targets, z, max_bytes, method='token_nll'
    )
    np.testing.assert_allclose(nll, expected[:, :, 0], atol=1e-5)


def padded_vocabulary(points):
  """A model whose embedding has 16 rows for 13 tokens, and its parameters.

  Rows behind the vocabulary would win everywhere, if they were tokens.
  """
  decoder = tiny.decoder_settings(layers=1, vocab_multiple=8)
  model = tiny.model(points=points, decoder=decoder)
  params = jax.tree.map(lambda x: x, tiny.params(model))
  embedding = params['decoder']['wte']['embedding']
  assert embedding.shape == (16, tiny.WIDTH)
  loud = embedding.at[tiny.VOCAB :].set(100 * embedding[4:7])
  params['decoder']['wte']['embedding'] = loud
  return model, params


@pytest.mark.slow
@pytest.mark.parametrize('points', [(), ('softmax',), ('memory', 'fuse')])
def test_a_padded_vocabulary_is_that_without_padding(points):
  wide, params = padded_vocabulary(points)
  plain = tiny.shallow(points=points)
  cut = jax.tree.map(
    lambda x, like: x[tuple(map(slice, like.shape))], params, shapes(plain)
  )
  tokens, targets = BATCH.tokens, jnp.roll(BATCH.tokens, -1, axis=1)
  z = tiny.latents() if points else jnp.zeros((3, 0))
  for max_bytes in (1, 2**20):
    got, expected = (
      tiny.apply(
        model, values, tokens, targets, z, max_bytes, method='token_nll'
      )
      for model, values in ((wide, params), (plain, cut))
    )
    np.testing.assert_allclose(got, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
  'rules',
  [
    sampling.Rules(),
    sampling.Rules(method='sample', temperature=1e3, top_k=14),
  ],
  ids=sampling.METHODS,
)
def test_rows_behind_the_vocabulary_are_never_written(rules):
  model, params = padded_vocabulary(('softmax',))
  tokens = sampling.generate(
    model,
    params,
    tiny.latents(),
    tiny.keys(),
    rules=rules,
    length=8,
    bos=tiny.BOS,
    eos=tiny.EOS,
    pad=tiny.PAD,
  )
  assert int(tokens.max()) < tiny.VOCAB


@pytest.mark.parametrize(('inner', 'width'), [(0, 64), (24, 24)])
def test_the_networks_are_of_their_settings(inner, width):
  changes = dict(inner=inner, activation='relu', epsilon=1e-3, dropout=0.1)
  changed = tiny.model(
    decoder=tiny.decoder_settings(**changes),
    encoder=tiny.encoder_settings(positions=5, **changes),
  ).bind({})
  for network in (changed.decoder, changed.encoder):
    assert network.inner == width and network.dropout == 0.1
    assert network.activation == 'relu' and network.epsilon == 1e-3
  assert changed.decoder.positions == tiny.POSITIONS
  assert changed.encoder.positions == 5


def test_call_scores_the_posterior_mean():
  model = make()
  params = tiny.params(model)
  got = tiny.apply(model, params, BATCH.tokens, VISIBLE, method='__call__')
  mean = encode(model, BATCH.tokens).mean
  expected = tiny.logits(model, params, BATCH.tokens, mean)
  np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (
      lambda: tiny.decoder_settings(heads=3),
      'model.decoder.heads = 3 does not divide model.decoder.width = 16',
    ),
    (
      lambda: tiny.encoder_settings(heads=5),
      'model.encoder.heads = 5 does not divide model.encoder.width = 16',
    ),
    (lambda: tiny.decoder_settings(layers=0), 'model.decoder.layers = 0'),
    (
      lambda: tiny.decoder_settings(vocab_multiple=0),
      'model.decoder.vocab_multiple = 0',
    ),
    (lambda: tiny.decoder_settings(dropout=1.0), 'model.decoder.dropout = 1'),
    (lambda: tiny.decoder_settings(inner=-1), 'model.decoder.inner = -1'),
    (lambda: tiny.decoder_settings(epsilon=0.0), 'model.decoder.epsilon = 0'),
    (
      lambda: tiny.decoder_settings(activation='gelu_new'),
      "model.decoder.activation = 'gelu_new': did you mean 'gelu_tanh'",
    ),
    (
      lambda: tiny.encoder_settings(kind='shared'),
      "model.encoder.kind = 'shared': known are own, shared_embeddings",
    ),
    (
      lambda: tiny.encoder_settings(pooling='max'),
      "model.encoder.pooling = 'max'",
    ),
    (
      lambda: make(points=('memory',), memory_layers=(0, tiny.LAYERS)),
      'memory_layers names layer 2, the decoder has layers 0 to 1',
    ),
    (
      lambda: make(points=('memory',), memory_layers=(-1,)),
      'memory_layers names layer -1',
    ),
    (
      lambda: tiny.model_settings(
        encoder=tiny.encoder_settings(kind='shared_embeddings', width=8)
      ),
      'shared_embeddings needs the same width',
    ),
    (lambda: make(dtype='float16'), "model.dtype = 'float16'"),
  ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(change, message):
  with pytest.raises(errors.UserError, match=message) as error:
    change()
  assert '\n' not in str(error.value)
