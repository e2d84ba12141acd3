"""However a stack of layers is run, it computes the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from lvdecode import errors
from lvdecode.nn import kernels
from lvdecode.nn import layers as layers_lib
from lvdecode.nn import transformer

POINTS = ('input', 'memory')
WAYS = [
  pytest.param(dict(scan_layers=True), marks=pytest.mark.slow),
  dict(scan_layers=True, remat='dots'),
  pytest.param(dict(remat='block'), marks=pytest.mark.slow),
]
BATCH = tiny.batch()


def decoder(dropout=0.0, layers=3):
  return tiny.decoder_settings(layers=layers, dropout=dropout)


def loss_and_gradient(**way):
  model = tiny.model(POINTS, decoder=decoder(), memory_layers=(0, 2), **way)
  task = tiny.task(model)
  loss = jax.value_and_grad(task.loss, has_aux=True)
  params = tiny.params(
    tiny.model(POINTS, decoder=decoder(), memory_layers=(0, 2))
  )
  streams = tiny.streams()
  (value, _), grads = jax.jit(
    lambda params: loss(params, BATCH, streams, None, task.init_carry())
  )(params)
  return value, grads


@pytest.mark.slow
@pytest.mark.parametrize('way', WAYS, ids=str)
def test_loss_and_gradients_are_those_of_the_layers_in_turn(way):
  expected, got = loss_and_gradient(), loss_and_gradient(**way)
  assert jax.tree.structure(got) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)


def test_parameters_keep_their_names_and_layouts():
  plain, scanned = (
    jax.eval_shape(
      tiny.task(tiny.model(POINTS, scan_layers=scan)).init, jax.random.key(0)
    )
    for scan in (False, True)
  )
  assert plain == scanned
  assert 'h_1' in scanned['decoder']


def hidden(deterministic, seed=0, **way):
  model = tiny.model(POINTS, decoder=decoder(0.5), **way)
  params = tiny.params(tiny.model(POINTS, decoder=decoder(0.5)))

  def states(bound, tokens, z):
    return bound.decoder(tokens, bound.inject(z), deterministic)

  return model.apply(
    {'params': params},
    BATCH.tokens,
    tiny.latents(),
    method=states,
    rngs={'dropout': jax.random.key(seed)},
  )


@pytest.mark.slow
def test_dropout_draws_the_same_scanned_and_unrolled():
  scanned = hidden(False, scan_layers=True)
  unrolled = hidden(False, remat='block')
  np.testing.assert_allclose(scanned, unrolled, atol=1e-5)
  assert jnp.abs(scanned - hidden(False, 1, scan_layers=True)).max() > 0.1
  assert jnp.abs(scanned - hidden(True, scan_layers=True)).max() > 0.1


@pytest.mark.slow
def test_layers_draw_apart():
  """Of each only the bias at its end is left, dropped: 2 or 0, to be added."""
  block = transformer.Block(
    heads=2,
    width=8,
    inner=8,
    layers=2,
    dropout=0.5,
    activation='gelu_tanh',
    epsilon=1e-5,
    dtype=jnp.dtype('float32'),
  )
  h, mask = jnp.zeros((3, 5, 8)), kernels.CAUSAL
  shapes = jax.eval_shape(block.init, jax.random.key(0), h, mask)
  params = jax.tree.map(jnp.zeros_like, shapes['params'])
  params['mlp']['c_proj']['bias'] = jnp.ones(8)
  for scan in (True, False):
    execution = layers_lib.Execution('xla', scan, 'block')
    added = layers_lib.run(
      block,
      [params] * 2,
      h,
      mask,
      (None, None),
      jax.random.key(1),
      execution,
    )
    assert set(np.unique(added)) == {0, 2, 4}


@pytest.mark.slow
def test_the_program_of_many_layers_is_as_long_as_that_of_two():
  def lines(layers, **way):
    settings = decoder(layers=layers)
    model = tiny.model((), decoder=settings, **way)
    shapes = jax.eval_shape(tiny.task(model).init, jax.random.key(0))
    program = jax.jit(
      lambda params: model.apply(
        {'params': params},
        BATCH.tokens,
        method=lambda bound, tokens: bound.decoder(tokens),
      )
    )
    text = program.lower(shapes).as_text()
    return text.count('dot_general')

  assert lines(2, scan_layers=True) == lines(6, scan_layers=True)
  assert lines(6) == 3 * lines(2)


@pytest.mark.slow
def test_memory_is_saved_by_computing_again():
  """Of each layer the backward pass is given its input alone."""

  def kept(**way):
    model = tiny.model((), decoder=decoder(), **way)
    params = tiny.params(tiny.model((), decoder=decoder()))

    def total(params):
      states = model.apply(
        {'params': params},
        BATCH.tokens,
        method=lambda bound, tokens: bound.decoder(tokens),
      )
      return jnp.sum(states)

    _, backward = jax.vjp(total, params)
    return sum(x.size for x in jax.tree.leaves(backward))

  assert kept(remat='block') < kept(remat='dots') < kept()


def test_what_is_sown_is_found_in_its_layer():
  model = tiny.model(('memory',), scan_layers=True)
  plain = tiny.model(('memory',))
  got, expected = (
    tiny.task(m).memory_mass(tiny.params(plain), BATCH, tiny.latents())
    for m in (model, plain)
  )
  np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'remat': 'blocks'}, "model.remat = 'blocks': did you mean 'block'"),
    ({'attention': 'flash'}, "model.attention = 'flash'"),
    ({'attention': 'cudnn'}, "model.attention = 'cudnn': it computes in"),
  ],
)
def test_what_cannot_be_is_refused(changes, message):
  with pytest.raises(errors.UserError, match=message):
    tiny.model(**changes)
