"""Decoding: when it ends, what it chooses, and what it never recomputes."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from lvdecode import errors
from lvdecode import sampling

B, V, LENGTH = tiny.BATCH, tiny.VOCAB, 8
MODEL = tiny.shallow(points=('input', 'memory', 'softmax'), memory_score=-1.0)
BANNED = (tiny.PAD, tiny.BOS)
SAMPLE = sampling.Rules(method='sample')
Z = tiny.latents()


def generate(
  rules=SAMPLE,
  z=Z,
  keys=None,
  params=None,
  banned=BANNED,
  function=sampling.generate,
):
  return function(
    MODEL,
    tiny.params(MODEL) if params is None else params,
    z,
    tiny.keys() if keys is None else keys,
    rules=rules,
    length=LENGTH,
    bos=tiny.BOS,
    eos=tiny.EOS,
    pad=tiny.PAD,
    banned=banned,
  )


def biased(**bias):
  """Parameters that add `bias` to the logits of the tokens named."""
  params = jax.tree.map(lambda x: x, tiny.params(MODEL))
  old = params['injection']['softmax']['bias']
  new = old
  for name, value in bias.items():
    new = new.at[getattr(tiny, name)].add(value)
  params['injection']['softmax']['bias'] = new
  return params


@pytest.mark.slow
def test_greedy_is_the_argmax_of_whole_forward_passes():
  got = generate(sampling.Rules())
  params = tiny.params(MODEL)
  tokens = np.full((B, LENGTH), tiny.PAD)
  tokens[:, 0] = tiny.BOS
  ended = np.zeros(B, bool)
  forward = jax.jit(lambda tokens: tiny.logits(MODEL, params, tokens, Z))
  for t in range(LENGTH - 1):
    scores = np.array(forward(jnp.asarray(tokens)))[:, t]
    scores[:, list(BANNED)] = -np.inf
    chosen = np.where(ended, tiny.PAD, scores.argmax(-1))
    tokens[:, t + 1] = chosen
    ended |= chosen == tiny.EOS
  np.testing.assert_array_equal(got, tokens)
  assert len({tuple(row) for row in tokens[:, 1:].tolist()}) > 1


def test_pad_after_eos_and_nowhere_else():
  seen = set()
  for seed in range(8):
    tokens = np.asarray(
      generate(keys=tiny.keys(seed=seed), params=biased(EOS=2.0))
    )
    assert (tokens[:, 0] == tiny.BOS).all()
    for row in tokens.tolist():
      body = row[1:]
      end = body.index(tiny.EOS) if tiny.EOS in body else len(body)
      assert not {tiny.PAD, tiny.BOS} & set(body[:end])
      assert set(body[end + 1 :]) <= {tiny.PAD}
      seen.add(end)
  assert len(seen) > 3  # texts of several lengths were looked at


def test_ends_at_length_without_any_eos():
  tokens = generate(params=biased(EOS=-1e9))
  assert tokens.shape == (B, LENGTH)
  assert not np.isin(tokens, [tiny.PAD, tiny.EOS]).any()


@pytest.mark.slow
@pytest.mark.parametrize(
  ('bias', 'steps'), [(1e9, 1), (-1e9, LENGTH - 1)], ids=['at_once', 'never']
)
def test_stops_when_every_text_has_ended(bias, steps, monkeypatch):
  counted = collections.Counter()
  choose = sampling.choose

  def counting(*args):
    jax.debug.callback(lambda: counted.update(['step']))
    return choose(*args)

  monkeypatch.setattr(sampling, 'choose', counting)
  # Not the compiled function: it may hold the original `choose`.
  function = sampling.generate.__wrapped__
  generate(params=biased(EOS=bias), function=function).block_until_ready()
  jax.effects_barrier()
  assert counted['step'] == steps


def test_a_text_depends_on_no_batch_mate():
  alone = generate()
  z = tiny.latents(seed=9).at[1].set(Z[1])
  keys = tiny.keys(seed=9).at[1].set(tiny.keys()[1])
  among_others = generate(z=z, keys=keys)
  np.testing.assert_array_equal(alone[1], among_others[1])
  assert (alone[0] != among_others[0]).any()
  # Nor on its place.
  turned = generate(z=Z[::-1], keys=tiny.keys()[::-1])
  np.testing.assert_array_equal(alone, turned[::-1])


def test_keys_decide_what_is_sampled():
  np.testing.assert_array_equal(generate(), generate())
  other = generate(keys=tiny.keys(seed=1))
  assert (generate() != other).any()


def test_every_step_draws_anew():
  """Where all words are equally likely, no text says one of them only."""
  uniform = jax.tree.map(jnp.zeros_like, tiny.params(MODEL))
  tokens = generate(params=uniform, banned=(*BANNED, tiny.EOS))
  assert all(len(set(row)) > 2 for row in tokens[:, 1:].tolist())


def test_banned_tokens_are_never_chosen():
  loud = biased(PAD=50.0, BOS=50.0, HIDDEN=50.0)
  assert (generate(params=loud)[:, 1:] == tiny.HIDDEN).all()
  assert (generate(params=loud, banned=())[:, 1] != tiny.HIDDEN).any()


def test_one_best_token_is_greedy():
  rules = sampling.Rules(method='sample', top_k=1, temperature=5.0)
  np.testing.assert_array_equal(generate(rules), generate(sampling.Rules()))


def test_memory_is_told_once_before_the_loop():
  params = tiny.params(MODEL)
  memory = params['injection']
  kernels = {
    memory['memory_kernel'].shape,
    memory['memory_slices']['kernel'].shape,
  }
  program = jax.make_jaxpr(lambda params: generate(params=params))(params)
  inside, outside = shapes_read(program.jaxpr)
  assert kernels <= outside
  assert not kernels & inside
  # And the loop is the decoder's indeed.
  assert (tiny.WIDTH, 3 * tiny.WIDTH) in inside


def shapes_read(jaxpr, in_loop=False):
  """Shapes that equations read, within loops and elsewhere."""
  inside, outside = set(), set()
  for equation in jaxpr.eqns:
    loop = in_loop or equation.primitive.name == 'while'
    inner = [
      x
      for x in jax.tree.leaves(
        equation.params, is_leaf=lambda x: hasattr(x, 'eqns')
      )
      if hasattr(x, 'eqns')
    ]
    for program in inner:
      for total, part in zip(
        (inside, outside), shapes_read(program, loop), strict=True
      ):
        total |= part
    if not inner:
      (inside if loop else outside).update(
        v.aval.shape for v in equation.invars
      )
  return inside, outside


def kept(scores, **rules):
  """Which tokens `cut` leaves, for one row of probabilities."""
  logits = jnp.log(jnp.asarray([scores]))
  left = sampling.cut(logits, sampling.Rules(method='sample', **rules))[0]
  survivors = np.flatnonzero(np.isfinite(left))
  np.testing.assert_array_equal(left[survivors], logits[0, survivors])
  return set(survivors.tolist())


@pytest.mark.slow
@pytest.mark.parametrize(
  ('scores', 'rules', 'expected'),
  [
    ([0.1, 0.4, 0.2, 0.3], {}, {0, 1, 2, 3}),
    ([0.1, 0.4, 0.2, 0.3], {'top_k': 2}, {1, 3}),
    ([0.1, 0.4, 0.2, 0.3], {'top_k': 4}, {0, 1, 2, 3}),
    ([0.1, 0.4, 0.2, 0.3], {'top_k': 9}, {0, 1, 2, 3}),
    # All that tie with the k-th stay.
    ([0.2, 0.4, 0.2, 0.2], {'top_k': 2}, {0, 1, 2, 3}),
    ([0.3, 0.3, 0.3, 0.1], {'top_k': 1}, {0, 1, 2}),
    ([0.1, 0.4, 0.2, 0.3], {'top_p': 0.65}, {1, 3}),
    # Up to and including the token with which p is reached.
    ([0.1, 0.4, 0.2, 0.3], {'top_p': 0.75}, {1, 2, 3}),
    ([0.1, 0.4, 0.2, 0.3], {'top_p': 0.95}, {0, 1, 2, 3}),
    # One at least, however small p.
    ([0.1, 0.4, 0.2, 0.3], {'top_p': 1e-6}, {1}),
    ([0.97, 0.01, 0.01, 0.01], {'top_p': 0.5}, {0}),
    # Of equals, the first.
    ([0.25, 0.25, 0.25, 0.25], {'top_p': 0.4}, {0, 1}),
    # p of what the k best leave: 4/7 < 0.6.
    ([0.1, 0.4, 0.2, 0.3], {'top_k': 2, 'top_p': 0.5}, {1}),
    ([0.1, 0.4, 0.2, 0.3], {'top_k': 2, 'top_p': 0.6}, {1, 3}),
    # Banned before.
    ([0.0, 0.6, 0.0, 0.4], {'top_k': 3}, {1, 3}),
    ([0.0, 0.6, 0.0, 0.4], {'top_p': 0.99}, {1, 3}),
  ],
)
def test_cut_keeps_the_right_tokens(scores, rules, expected):
  assert kept(scores, **rules) == expected


@pytest.mark.slow
@pytest.mark.parametrize('p', [1e-3, 0.1, 0.5, 0.9, 0.99, 0.9999])
@pytest.mark.parametrize('scale', [0.0, 1.0, 8.0])
def test_top_p_is_what_sorting_finds(p, scale):
  scores = scale * np.random.default_rng(0).standard_normal((8, 1_000))
  rules = sampling.Rules(method='sample', top_p=p)
  left = sampling.cut(jnp.asarray(scores, jnp.float32), rules)
  shares = np.asarray(jax.nn.softmax(jnp.asarray(scores, jnp.float32)))
  order = np.argsort(-shares, axis=-1, kind='stable')
  mass = np.cumsum(np.take_along_axis(shares, order, -1), -1, np.float64)
  for row, kept in enumerate(np.isfinite(np.asarray(left))):
    count = 1 + int((mass[row] < p).sum())
    found = int(kept.sum())
    # A sum in float32 may end a token early or late, never elsewhere.
    assert abs(found - count) <= (scale == 0.0 or p > 0.99)
    assert set(np.flatnonzero(kept)) == set(order[row, :found])


def test_rows_are_cut_apart():
  scores = jnp.log(jnp.asarray([[0.1, 0.4, 0.2, 0.3], [0.7, 0.1, 0.1, 0.1]]))
  left = sampling.cut(scores, sampling.Rules(method='sample', top_p=0.65))
  np.testing.assert_array_equal(
    np.isfinite(left), [[False, True, False, True], [True] + [False] * 3]
  )


@pytest.mark.slow
@pytest.mark.parametrize('temperature', [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_temperature_says(temperature):
  count = 20_000
  scores = jnp.asarray([0.3, -1.0, 1.0, 0.0])
  rules = sampling.Rules(method='sample', temperature=temperature)
  chosen = sampling.choose(
    jnp.broadcast_to(scores, (count, 4)), tiny.keys(count), rules
  )
  share = np.bincount(chosen, minlength=4) / count
  expected = jax.nn.softmax(scores / temperature)
  np.testing.assert_allclose(share, expected, atol=0.015)


@pytest.mark.slow
def test_temperature_comes_before_the_cuts():
  """At 0.5 the best token's probability is 0.64, at 1 it is 0.4."""
  scores = jnp.log(jnp.asarray([[0.4, 0.3, 0.2, 0.1]] * 500))
  rules = sampling.Rules(method='sample', temperature=0.5, top_p=0.5)
  # 0.4^2 : 0.3^2 : ... gives 0.53 for the first alone.
  assert (sampling.choose(scores, tiny.keys(500), rules) == 0).all()


@pytest.mark.parametrize(
  ('rules', 'message'),
  [
    ({'method': 'greed'}, "method = 'greed': did you mean 'greedy'"),
    ({'temperature': 0.0}, 'temperature = 0.0: it must be in'),
    ({'top_k': -1}, 'top_k = -1: it must be at least 0'),
    ({'top_p': 0.0}, r'top_p = 0.0: it must be in \(0, 1\]'),
    ({'top_p': 1.1}, 'top_p = 1.1'),
    ({'temperature': 0.7}, "temperature = 0.7: greedy .* 'sample'"),
    ({'top_k': 3}, "top_k = 3: greedy .* 'sample'"),
    ({'top_p': 0.9}, "top_p = 0.9: greedy .* 'sample'"),
  ],
)
def test_rules_that_cannot_be_are_refused(rules, message):
  with pytest.raises(errors.UserError, match=message):
    sampling.Rules(**rules)


def test_what_rounding_lets_through_is_a_token_of_some_weight():
  weights = jnp.asarray([[1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 3.0]])
  found = sampling._drawn(weights, jnp.ones(2))
  assert found.tolist() == [1, 3]
