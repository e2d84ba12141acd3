"""The vocabulary loss in chunks is the whole one, and stays in chunks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lvdecode.nn import vocabulary

B, T, D = 2, 5, 3


def random(*shape, seed=0):
  values = np.random.default_rng((seed, *shape)).normal(size=shape)
  return jnp.asarray(values, jnp.float32)


def arguments(vocab_size):
  """hidden, embedding, shift [B, V]; fusion's kernel, shift, bias; targets."""
  differentiable = (
    random(B, T, D),
    random(vocab_size, D),
    random(B, vocab_size),
    random(D, D),
    random(B, D),
    random(vocab_size),
  )
  rng = np.random.default_rng(0)
  targets = rng.integers(0, vocab_size, (B, T))
  targets[0, 0], targets[-1, -1] = 0, vocab_size - 1
  return differentiable, jnp.asarray(targets)


def ours(hidden, embedding, shift, kernel, fused, bias, targets, max_bytes):
  fusion = vocabulary.Fusion(kernel, fused, bias)
  head = vocabulary.Head(embedding, fusion, shift)
  return vocabulary.token_nll(head, hidden, targets, max_bytes)


def summed(hidden, embedding, shift, kernel, fused, bias, targets, max_bytes):
  fusion = vocabulary.Fusion(kernel, fused, bias)
  head = vocabulary.Head(embedding, fusion, shift)
  return vocabulary.summed_nll(head, hidden, targets, WEIGHTS, max_bytes)


def theirs(hidden, embedding, shift, kernel, fused, bias, targets):
  hidden = jnp.tanh(hidden @ kernel + fused[:, None, :])
  scores = hidden @ embedding.T + shift[:, None, :] + bias[None, None, :]
  return optax.softmax_cross_entropy_with_integer_labels(scores, targets)


# Weighted, so that every position has a gradient of its own.
WEIGHTS = random(B, T, seed=9)


@pytest.mark.parametrize(
  ('vocab_size', 'positions'),
  [(11, 1), (11, 2), (11, 4), (11, 100), (50257, 2)],
)
def test_value_and_gradient_are_optaxs(vocab_size, positions):
  max_bytes = 4 * B * vocab_size * positions
  for got, expected in zip(
    jax.tree.leaves(gradient(ours, vocab_size, max_bytes)),
    jax.tree.leaves(gradient(theirs, vocab_size)),
    strict=True,
  ):
    np.testing.assert_allclose(got, expected, atol=1e-5, rtol=1e-5)


@functools.cache
def gradient(nll, vocab_size, *rest):
  """With respect to every array, and the losses themselves."""
  differentiable, targets = arguments(vocab_size)

  def total(*values):
    each = nll(*values, targets, *rest)
    return jnp.sum(each * WEIGHTS), each

  grad = jax.grad(total, argnums=range(5), has_aux=True)
  return jax.jit(grad)(*differentiable)


@pytest.mark.slow
@pytest.mark.parametrize('positions', [1, 2, 100])
def test_gradients_taken_at_once_are_those_of_the_sum(positions):
  """Times a factor, as of a loss that is divided or added to others."""
  differentiable, targets = arguments(11)

  def total(*values):
    found = summed(*values, targets, 4 * B * 11 * positions)
    return -3.0 * found.total, (found.total, found.nll)

  got, (value, each) = jax.jit(jax.grad(total, argnums=range(6), has_aux=True))(
    *differentiable
  )

  def plain(*values):
    nll = theirs(*values, targets)
    return -3.0 * jnp.sum(nll * WEIGHTS), nll

  expected, nll = jax.grad(plain, argnums=range(6), has_aux=True)(
    *differentiable
  )
  np.testing.assert_allclose(each, nll, atol=1e-5)
  np.testing.assert_allclose(value, jnp.sum(nll * WEIGHTS), atol=1e-5)
  for a, b in zip(got, expected, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)


def test_only_the_sum_has_gradients():
  differentiable, targets = arguments(11)
  grads = jax.grad(
    lambda *values: jnp.sum(summed(*values, targets, 2**20).nll),
    argnums=range(6),
  )(*differentiable)
  assert not any(grad.any() for grad in grads)


def test_what_does_not_move_takes_no_product():
  """With the embedding frozen, two products of its size are left."""
  differentiable, targets = arguments(11)

  def products(*moving):
    gradient = jax.grad(
      lambda *values: summed(*values, targets, 2**20).total, argnums=moving
    )
    program = jax.jit(gradient).lower(*differentiable).compile()
    return program.cost_analysis()['flops']

  saved = products(0, 1) - products(0)
  assert saved >= 2 * B * T * 11 * D


def test_summed_losses_in_chunks_never_make_all_logits():
  vocab_size = 50257
  differentiable, targets = arguments(vocab_size)
  max_bytes = 4 * B * vocab_size  # one position

  def total(*values):
    return summed(*values, targets, max_bytes).total

  program = jax.make_jaxpr(jax.grad(total, argnums=range(6)))(*differentiable)
  assert max(sizes(program.jaxpr)) <= D * vocab_size


def sizes(jaxpr):
  """Elements of every value that a program makes, loops' insides included."""
  for equation in jaxpr.eqns:
    yield from (v.aval.size for v in equation.outvars)
    for inner in jax.tree.leaves(
      equation.params, is_leaf=lambda x: hasattr(x, 'eqns')
    ):
      if hasattr(inner, 'eqns'):
        yield from sizes(inner)


@pytest.mark.parametrize(
  ('max_bytes', 'chunked'),
  [(1, True), (2 * 4 * B * 50257, True), (2**30, False)],
)
def test_logits_of_the_whole_batch_exist_only_where_they_may(
  max_bytes, chunked
):
  vocab_size = 50257
  differentiable, targets = arguments(vocab_size)

  def total(*values):
    return jnp.sum(ours(*values, targets, max_bytes))

  program = jax.make_jaxpr(jax.grad(total, argnums=range(5)))(*differentiable)
  largest = max(sizes(program.jaxpr))
  if chunked:
    assert largest <= max(max_bytes // 4, D * vocab_size, B * vocab_size)
  else:
    assert largest >= B * T * vocab_size


@pytest.mark.slow
def test_bfloat16_states_give_float32_losses():
  differentiable, targets = arguments(11)
  exact = ours(*differentiable, targets, 2**20)
  hidden = differentiable[0].astype(jnp.bfloat16)
  for max_bytes in (1, 2**20):
    nll = ours(hidden, *differentiable[1:], targets, max_bytes)
    assert nll.dtype == jnp.float32
    np.testing.assert_allclose(nll, exact, atol=0.1)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_a_head_without_holes_is_a_tied_embedding(dtype):
  hidden, embedding = random(B, T, D).astype(dtype), random(11, D)
  scores = vocabulary.logits(vocabulary.Head(embedding, None, None), hidden)
  assert scores.dtype == jnp.float32
  rounded = embedding.astype(dtype).astype(jnp.float32)
  expected = np.einsum('btd,vd->btv', hidden.astype(jnp.float32), rounded)
  # Float32 sums of products even where the factors are halves.
  np.testing.assert_allclose(scores, expected, atol=1e-5)


@pytest.mark.parametrize(
  ('length', 'fits', 'positions'),
  [(64, 52, 32), (64, 64, 64), (64, 21, 16), (10, 4, 4), (7, 2, 2), (3, 9, 3)],
)
def test_chunks_are_as_equal_as_can_be(length, fits, positions):
  # 64 positions as 52 and 12 would be computed as 104.
  def nll(hidden):
    head = vocabulary.Head(jnp.ones((999, D)), None, None)
    targets = jnp.zeros(hidden.shape[:2], int)
    return vocabulary.token_nll(head, hidden, targets, 4 * B * 999 * fits)

  program = jax.make_jaxpr(nll)(jnp.ones((B, length, D)))
  assert max(sizes(program.jaxpr)) == B * positions * 999


@pytest.mark.parametrize('at_once', [True, False])
@pytest.mark.parametrize('max_bytes', [1, 2**20])
def test_rows_that_are_no_token_change_neither_loss_nor_gradient(
  max_bytes, at_once
):
  words, rows = 11, 16
  differentiable, targets = arguments(rows)  # what is behind is as loud

  def total(padded, *values):
    hidden, embedding, shift, kernel, fused, bias = values
    fusion = vocabulary.Fusion(kernel, fused, bias)
    if padded:
      head = vocabulary.Head(embedding, fusion, shift, words)
    else:
      fusion = fusion._replace(bias=bias[:words])
      head = vocabulary.Head(embedding[:words], fusion, shift[:, :words])
    if at_once:
      return vocabulary.summed_nll(
        head, hidden, targets % words, WEIGHTS, max_bytes
      )
    nll = vocabulary.token_nll(head, hidden, targets % words, max_bytes)
    return jnp.sum(nll * WEIGHTS), nll

  grad = jax.value_and_grad(total, argnums=range(1, 7), has_aux=True)
  (got_loss, got), (loss, expected) = (
    jax.jit(grad, static_argnums=0)(padded, *differentiable)
    for padded in (True, False)
  )
  for a, b in zip(
    jax.tree.leaves((got_loss, got)),
    jax.tree.leaves((loss, expected)),
    strict=True,
  ):
    np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-6)
  # Of the embedding's rows, the shift's columns and the bias.
  assert not got[1][words:].any()
  assert not got[2][:, words:].any()
  assert not got[5][words:].any()


def test_rows_that_are_no_token_score_minus_infinity():
  head = vocabulary.Head(random(16, D), None, None, 11)
  scores = vocabulary.logits(head, random(B, T, D))
  assert (np.asarray(scores[..., 11:]) == -np.inf).all()
  assert np.isfinite(scores[..., :11]).all()


def test_a_widened_embedding_keeps_its_rows():
  old = np.asarray(random(11, D))
  new = vocabulary.widen(old, 14)
  np.testing.assert_array_equal(new[:11], old)
  np.testing.assert_allclose(new[11:], np.tile(old.mean(0), (3, 1)), rtol=1e-5)
  with pytest.raises(ValueError, match='11 rows do not fit in 10'):
    vocabulary.widen(old, 10)


@pytest.mark.slow
@pytest.mark.parametrize('positions', [T, 2])
@pytest.mark.parametrize('words', [None, 11])
def test_many_shifts_have_the_losses_and_gradients_of_each(words, positions):
  embedding, hidden, shifts = (
    3 * random(16, D),
    3 * random(B, T, D),
    5 * random(B, 4, 16),
  )
  targets = jnp.asarray([[0, 3, 10, 5, 7], [7, 7, 1, 0, 10]])
  weights = random(B, 4, T)

  def at_once(embedding, hidden, shifts):
    head = vocabulary.Head(embedding, None, None, words)
    max_bytes = positions * B * 16 * 4
    return vocabulary.shifted_nll(head, hidden, targets, shifts, max_bytes)

  def one_by_one(embedding, hidden, shifts):
    head = vocabulary.Head(embedding, None, None, words)
    return jnp.stack(
      [
        vocabulary.token_nll(
          head._replace(shift=shifts[:, k]), hidden, targets, 2**20
        )
        for k in range(4)
      ],
      axis=1,
    )

  def with_gradients(nll):
    inputs = embedding, hidden, shifts
    summed = jax.grad(lambda *x: jnp.sum(weights * nll(*x)), (0, 1, 2))
    return nll(*inputs), *summed(*inputs)

  for a, b in zip(
    with_gradients(at_once), with_gradients(one_by_one), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5)


@pytest.mark.slow
def test_a_shift_at_odds_with_all_logits_is_seen():
  """And where nobody counts it, it has no gradient."""
  head = vocabulary.Head(jnp.asarray([[60.0], [-60.0]]), None, None)

  def nll(shifts):
    hidden, targets = jnp.ones((1, 1, 1)), jnp.asarray([[0]])
    return vocabulary.shifted_nll(head, hidden, targets, shifts, 2**20)[0, :, 0]

  shifts = jnp.asarray([[[-60.0, 60.0], [0.0, 1.0]]])
  assert np.isnan(nll(shifts)[0]) and nll(shifts)[1] == 0
  of_others = jax.grad(
    lambda shifts: jnp.where(jnp.asarray([False, True]), nll(shifts), 0.0).sum()
  )(shifts)
  assert np.isfinite(of_others).all()
