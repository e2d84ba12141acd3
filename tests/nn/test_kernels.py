"""Attention by fused kernels' rules is attention; the short cuts are not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lvdecode import errors
from lvdecode.nn import kernels

B, T, M, H, K = 2, 6, 3, 2, 8


def random(*shape, seed=0):
  values = np.random.default_rng((seed, *shape)).normal(size=shape)
  return jnp.asarray(values, jnp.float32)


Q = random(B, T, H, K)
KEYS, VALUES = random(B, M + T, H, K, seed=1), random(B, M + T, H, K, seed=2)
OUT = random(B, T, H, K, seed=3)  # every output has a gradient of its own
PADDED = kernels.RightPadded(jnp.asarray([6, 4]))


def masked(q, k, v, mask):
  """The definition, by booleans over all keys."""
  seen = np.ones((B, 1, T, k.shape[1]), bool)
  slots = k.shape[1] - T
  for t in range(T):
    if isinstance(mask, kernels.Causal):
      seen[:, :, t, slots + t + 1 :] = False
  if isinstance(mask, kernels.RightPadded):
    for row, length in enumerate(np.asarray(mask.lengths)):
      seen[row, :, :, slots + length :] = False
  return jax.nn.dot_product_attention(q, k, v, mask=jnp.asarray(seen))


def with_gradients(function, k=KEYS, v=VALUES):
  def total(q, k, v):
    out = function(q, k, v)
    return jnp.sum(out * OUT), out

  grad = jax.grad(total, argnums=(0, 1, 2), has_aux=True)
  return jax.tree.leaves(jax.jit(grad)(Q, k, v))


@pytest.mark.parametrize('slots', [0, M])
@pytest.mark.parametrize(
  'mask', [kernels.CAUSAL, PADDED], ids=['causal', 'pad']
)
def test_flags_and_lengths_say_what_the_mask_says(mask, slots):
  k, v = KEYS[:, M - slots :], VALUES[:, M - slots :]
  expected = with_gradients(lambda *a: masked(*a, mask), k, v)
  for function in (
    lambda *a: kernels.fused(*a, mask, 'xla'),
    lambda *a: kernels.attend(*a, mask, None, 'auto'),
  ):
    for got, wanted in zip(
      with_gradients(function, k, v), expected, strict=True
    ):
      np.testing.assert_allclose(got, wanted, atol=1e-5)


def by_flag_alone(q, k, v):
  """is_causal with S = T + M keys."""
  return jax.nn.dot_product_attention(q, k, v, is_causal=True)


def by_parts(q, k, v):
  """Memory and tokens apart, joined by their log-sum-exp."""
  attend = jax.nn.dot_product_attention
  told, a = attend(q, k[:, :M], v[:, :M], return_residual=True)
  own, b = attend(q, k[:, M:], v[:, M:], is_causal=True, return_residual=True)
  a, b = jax.lax.stop_gradient((a, b))  # as the fused kernels do
  share = jax.nn.sigmoid(a - b)[..., None]
  return share * told + (1 - share) * own


def test_short_cuts_are_wrong():
  """Should one of them ever be right, what is in its place may go."""
  expected = with_gradients(lambda *a: masked(*a, kernels.CAUSAL))
  outputs = [
    [
      float(jnp.abs(got - wanted).max())
      for got, wanted in zip(with_gradients(f), expected, strict=True)
    ]
    for f in (by_flag_alone, by_parts)
  ]
  (*_, flag), (*gradients, parts) = outputs
  assert flag > 0.1  # no query sees its own place
  assert parts < 1e-5  # right to look at,
  assert max(gradients) > 0.1  # and wrong to learn by


@pytest.mark.parametrize(
  ('backend', 'dtype', 'width', 'obstacle'),
  [
    ('gpu', 'bfloat16', 64, ''),
    ('gpu', 'float16', 256, ''),
    ('cpu', 'bfloat16', 64, 'runs on GPUs, and this is cpu'),
    ('gpu', 'float32', 64, 'not float32'),
    ('gpu', 'bfloat16', 20, 'a head is 20 wide'),
    ('gpu', 'bfloat16', 264, 'a head is 264 wide'),
  ],
)
def test_what_the_fused_kernels_cannot(backend, dtype, width, obstacle):
  said = kernels.fused_obstacle(backend, jnp.dtype(dtype), width)
  assert obstacle in said
  assert bool(said) == bool(obstacle)


@pytest.mark.parametrize(
  ('capability', 'width', 'obstacle'),
  [
    ((8, 0), 128, ''),
    ((8, 6), 136, 'at most 128'),
    ((9, 0), 136, ''),
    ((7, 5), 64, '8.0 or later'),
    ((), 64, 'an NVIDIA GPU'),
  ],
)
def test_older_gpus_can_less(capability, width, obstacle):
  said = kernels.fused_obstacle('gpu', jnp.dtype('bfloat16'), width, capability)
  assert obstacle in said
  assert bool(said) == bool(obstacle)


def test_what_cannot_be_had_is_refused_and_never_taken_by_itself():
  with pytest.raises(errors.UserError, match="model.attention = 'cudnn': it"):
    kernels.attend(Q, KEYS, VALUES, kernels.CAUSAL, None, 'cudnn')
  program = jax.make_jaxpr(
    lambda q: kernels.attend(q, KEYS, VALUES, kernels.CAUSAL, None, 'auto')
  )(Q)
  assert 'cudnn' not in str(program)


def test_a_fused_call_has_as_many_keys_as_queries(monkeypatch):
  """What a GPU would be given, caught before it is called."""
  calls = []

  def caught(q, k, v, **rules):
    calls.append((q.shape, k.shape, rules))
    return jnp.zeros(q.shape, q.dtype)

  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  monkeypatch.setattr(kernels, '_capability', lambda: (9, 0))
  monkeypatch.setattr(jax.nn, 'dot_product_attention', caught)
  halves = (x.astype(jnp.bfloat16) for x in (Q, KEYS, VALUES))
  out = kernels.attend(*halves, kernels.CAUSAL, None, 'auto')
  assert out.shape == (B, T, H, K)
  ((shape, same, rules),) = calls
  assert shape == same == (B, M + T, H, K)
  assert rules == {'is_causal': True, 'implementation': 'cudnn'}


def test_a_product_over_rows_is_the_product():
  x, w = random(B, T, 5), random(5, 4)
  numbers = (((2,), (0,)), ((), ()))
  np.testing.assert_allclose(kernels.flat_dot(x, w, numbers), x @ w, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize('several', [False, True])
def test_gradients_in_bfloat16_are_those_of_float32_but_for_rounding(several):
  """Of rows that are laid out again: by themselves, and vectorised."""
  x = random(3, B, 40, 8).astype(jnp.bfloat16)
  w = random(3, 8, 16).astype(jnp.bfloat16)
  numbers = (((2,), (0,)), ((), ()))

  def loss(x, w):
    return jnp.sum(kernels.flat_dot(x, w, numbers).astype(jnp.float32) ** 2)

  gradient = jax.grad(loss, (0, 1))
  halves, wholes = (x, w), (x.astype(jnp.float32), w.astype(jnp.float32))
  if several:
    gradient = jax.vmap(gradient)
  else:
    halves, wholes = ([a[0] for a in pair] for pair in (halves, wholes))
  found, truth = jax.jit(gradient)(*halves), gradient(*wholes)
  for half, whole in zip(found, truth, strict=True):
    assert half.dtype == jnp.bfloat16
    most = float(jnp.max(jnp.abs(whole)))
    np.testing.assert_allclose(
      half.astype(jnp.float32), whole, rtol=0, atol=0.01 * most
    )
