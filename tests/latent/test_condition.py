"""A condition reaches the decoder by its routes, and its padding does not."""

import jax
import jax.numpy as jnp
import numpy as np
import numpy_gpt2
import pytest
import tiny

from lvdecode import errors
from lvdecode.latent import condition as conditions
from lvdecode.nn import attention
from lvdecode.nn import vocabulary

BATCH = tiny.batch()._replace(condition=tiny.condition())
EVERY = conditions.ROUTES
Z = tiny.latents()
WAYS = [(), ('prefix',), ('memory',), ('cross',)]
each = pytest.mark.parametrize('routes', WAYS, ids=lambda r: '+'.join(r) or 'z')


def make(
  routes=EVERY, points=('input', 'memory'), prior=None, layers=1, **changes
):
  chosen = dict(segments=2, share=True, init='normal')
  own = {k: changes.pop(k) for k in list(changes) if k in chosen}
  return tiny.model(
    points=points,
    condition=tiny.condition_settings(routes=routes, **chosen | own),
    prior=tiny.prior_settings(**(prior or {'kind': 'learned'})),
    decoder=tiny.decoder_settings(layers=layers),
    **changes,
  )


def figures(model, batch=BATCH, params=None):
  """-log p(y_t | y_<t, z, x), q and p(z | x)."""
  task = tiny.task(model)
  params = tiny.params(model) if params is None else params
  z = Z if model.latent_size else Z[:, :0]
  (q, given), nll = (
    task.read(params, batch),
    task.token_nll(params, batch, z),
  )
  return nll, q, given.prior


def moved(before, after):
  """Which rows differ, by the largest difference over both trees."""
  gaps = jax.tree.map(
    lambda a, b: np.abs(a - b).reshape(len(a), -1).max(-1, initial=0.0),
    before,
    after,
  )
  return np.max(jax.tree.leaves(gaps), axis=0)


def noisy(condition):
  """Other tokens and segments at the padding, and two columns more of it."""
  room = ((0, 0), (0, 2))
  visible = jnp.pad(condition.visible, room)
  return condition._replace(
    tokens=jnp.where(visible, jnp.pad(condition.tokens, room), 9),
    visible=visible,
    segments=jnp.where(visible, jnp.pad(condition.segments, room), 1),
  )


@pytest.mark.slow
@each
def test_padding_in_the_condition_moves_nothing(routes):
  # Room for the columns that are added.
  decoder = tiny.decoder_settings(layers=1, positions=16)
  model = tiny.model(
    points=('input', 'memory'),
    condition=tiny.condition_settings(routes=routes, segments=2),
    prior=tiny.prior_settings(kind='learned'),
    decoder=decoder,
  )
  before = figures(model)
  after = figures(model, BATCH._replace(condition=noisy(BATCH.condition)))
  assert moved(before, after).max() < 1e-5
  # Where it is no padding, it does.
  other = BATCH.condition.tokens.at[1, 0].add(1) % tiny.VOCAB
  changed = BATCH._replace(condition=BATCH.condition._replace(tokens=other))
  gaps = [
    moved(a, b) for a, b in zip(before, figures(model, changed), strict=True)
  ]
  for gap in gaps[0 if routes else 1 :]:
    assert gap[1] > 1e-4
    np.testing.assert_allclose(gap[[0, 2]], 0, atol=1e-6)
  if not routes:  # by z alone, and z is held
    assert gaps[0].max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(
  'routes',
  [pytest.param(('prefix',), marks=pytest.mark.slow), EVERY],
  ids='+'.join,
)
def test_cached_decoding_is_the_full_forward(routes):
  points = ('input', 'memory', 'fuse', 'softmax')
  model = make(routes, points, memory_score=-1.0, layers=2)
  params = tiny.params(model)
  given = tiny.task(model).given(params, BATCH)
  tokens = BATCH.tokens

  def full(bound):
    injected = bound.tell(Z, given)
    hidden = bound.decoder(tokens, injected)
    return vocabulary.logits(bound.decoder.head(injected), hidden)

  expected = tiny.apply(model, params, method=full)
  told, cache = tiny.apply(
    model, params, Z, tokens.shape[1], given, method='start'
  )
  for t in range(tokens.shape[1]):
    scores, cache = tiny.apply(
      model, params, tokens[:, t : t + 1], told, cache, method='extend'
    )
    np.testing.assert_allclose(scores, expected[:, t], atol=2e-5)


def test_each_layer_has_a_map_of_its_own():
  """[k; v] = W_l s + b_l, by hand."""
  heads, width, layers = 2, 6, 3
  routes = conditions.Routes(
    tiny.condition_settings(routes=('memory', 'cross')), layers, heads, width
  )
  rng = np.random.default_rng(0)
  states = jnp.asarray(rng.normal(size=(2, 4, width)), jnp.float32)
  seen = jnp.ones((2, 4), bool)
  shapes = jax.eval_shape(routes.init, jax.random.key(0), states, seen)
  values = tiny.random_params(shapes['params'])
  memory, context = routes.apply({'params': values}, states, seen)
  for name, told in (('memory', memory), ('cross', context)):
    kernel, bias = (
      np.asarray(values[f'{name}_{part}']) for part in ('kernel', 'bias')
    )
    for part, found in enumerate((told.keys, told.values)):
      for layer in range(layers):
        by_hand = np.tensordot(states, kernel[layer, :, part], 1)
        by_hand = by_hand + bias[layer, part]
        np.testing.assert_allclose(found[layer], by_hand, atol=1e-5)


@pytest.mark.slow
def test_a_prefix_is_the_beginning_of_one_sequence_all_told_z():
  """As one row of GPT-2, in NumPy: positions go on, and z is everywhere."""
  model = make(('prefix',), ('input',), {'kind': 'standard'}, segments=0)
  params = tiny.params(model)
  given = tiny.task(model).given(params, BATCH)

  def states(bound):
    return bound.decoder(BATCH.tokens, bound.tell(Z, given))

  found = tiny.apply(model, params, method=states)
  kernel = np.asarray(params['injection']['input']['kernel'])
  exact = jax.tree.map(np.asarray, params['decoder'])
  x = BATCH.condition
  for row, size in enumerate(np.asarray(x.visible).sum(axis=1)):
    text = np.asarray(BATCH.tokens[row])
    tokens = np.concatenate([np.asarray(x.tokens[row, :size]), text])
    expected = numpy_gpt2.hidden_states(
      exact, tokens, tiny.HEADS, embedding=np.asarray(Z[row]) @ kernel
    )
    np.testing.assert_allclose(found[row], expected[size:], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('kind', 'share'),
  [
    ('own', True),
    ('own', False),
    ('shared_embeddings', False),
    ('decoder', True),
  ],
)
def test_no_token_of_the_text_is_in_what_is_given(kind, share):
  model = make(
    prior={'kind': 'learned', 'share': share},
    share=share,
    encoder=tiny.encoder_settings(kind=kind),
  )
  task, params = tiny.task(model), tiny.params(model)
  other = tiny.batch((6, 7, 4), seed=8)
  first = task.given(params, BATCH)
  again = task.given(params, other._replace(condition=BATCH.condition))
  for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
    np.testing.assert_array_equal(a, b)
  q, prior = task.encode(params, BATCH), first.prior
  # The posterior sees both: the text ...
  changed = BATCH._replace(tokens=BATCH.tokens.at[1, 2].set(12))
  assert moved(q, task.encode(params, changed))[1] > 1e-4
  # ... and the condition, as the prior does.
  x = BATCH.condition
  x = x._replace(tokens=x.tokens.at[1, 1].set(12))
  changed = BATCH._replace(condition=x)
  assert moved(q, task.encode(params, changed))[1] > 1e-4
  assert moved(prior, task.prior(params, changed))[1] > 1e-4
  # And tells the parts of a condition apart, and the condition from the text.
  x = BATCH.condition
  x = x._replace(segments=1 - x.segments)
  changed = BATCH._replace(condition=x)
  assert moved(prior, task.prior(params, changed))[1] > 1e-4


def test_networks_that_share_nothing_have_parameters_of_their_own():
  shapes = {
    share: set(
      jax.eval_shape(
        tiny.task(
          make(prior={'kind': 'learned', 'share': share}, share=share)
        ).init,
        jax.random.key(0),
      )
    )
    for share in (True, False)
  }
  assert shapes[False] - shapes[True] == {
    'prior_encoder',
    'condition_encoder',
    'segments_prior_encoder',
    'segments_condition_encoder',
  }


@pytest.mark.slow
def test_when_all_is_off_nothing_is_new():
  shapes = jax.eval_shape(tiny.task(tiny.shallow()).init, jax.random.key(0))
  assert set(shapes) == {'encoder', 'decoder', 'posterior', 'injection'}
  # A condition that nothing reads is not read.
  model = tiny.shallow()
  for a, b in zip(figures(model), figures(model, tiny.batch()), strict=True):
    assert moved(a, b).max() == 0


@pytest.mark.slow
def test_slots_of_a_sequence_have_no_order():
  model = make(('memory', 'cross'))
  task, params = tiny.task(model), tiny.params(model)
  given = task.given(params, BATCH)
  before = task.nll(params, BATCH, Z, given=given)
  turn = jnp.asarray([2, 0, 3, 1])
  x = given.condition
  turned = given._replace(
    states=given.states[:, turn],
    condition=x._replace(tokens=x.tokens[:, turn], visible=x.visible[:, turn]),
  )
  after = task.nll(params, BATCH, Z, given=turned)
  np.testing.assert_allclose(before, after, rtol=1e-5)
  # Which state it is does matter.
  other = given._replace(states=given.states[:, turn])
  assert (abs(task.nll(params, BATCH, Z, given=other) - before) > 1e-4).any()


@pytest.mark.slow
def test_cross_attention_that_begins_at_zero_is_not_there():
  silent, without = make(('cross',), init='zero'), make(())
  task = tiny.task(silent)
  params = dict(tiny.params(silent))
  begun = jax.eval_shape(task.init, jax.random.key(0))['condition']
  # Random numbers everywhere, but what begins at zero.
  fresh = tiny.apply(
    silent,
    params,
    lambda bound: bound.condition.init(
      jax.random.key(0),
      jnp.ones((1, 2, tiny.WIDTH)),
      jnp.ones((1, 2), bool),
    ),
    method=lambda bound, f: f(bound),
  )['params']
  assert jax.tree.structure(fresh) == jax.tree.structure(begun)
  zeros = {k: v for k, v in fresh.items() if not jnp.any(v)}
  assert 'cross_out' in zeros and 'cross_kernel' not in zeros
  params['condition'] = params['condition'] | zeros
  plain = {k: v for k, v in params.items() if k != 'condition'}
  told, untold = figures(silent, params=params), figures(without, params=plain)
  for a, b in zip(told, untold, strict=True):
    assert moved(a, b).max() < 1e-6


@pytest.mark.slow
def test_the_attention_on_z_is_that_on_its_own_slots():
  """Where scores are even, slots of x take their share and z keeps its own."""
  model = make(('prefix', 'memory'), ('memory',))
  params = jax.tree.map(jnp.zeros_like, tiny.params(model))
  task = tiny.task(model)
  mass = task.memory_mass(params, BATCH, Z)
  sizes, given = np.array([7, 5, 3]), np.array([4, 2, 3])
  np.testing.assert_array_equal(task.others_seen(BATCH), 2 * given)
  expected = [
    np.mean(2 / (2 + 2 * x + np.arange(1, size)))
    for size, x in zip(sizes, given, strict=True)
  ]
  np.testing.assert_allclose(mass[:, 0, 0], expected, rtol=1e-5)


@pytest.mark.slow
def test_points_are_knocked_out_and_the_condition_stays():
  model = make(('memory',), ('memory',))
  task, params = tiny.task(model), tiny.params(model)
  alone = task.nll(params, BATCH, Z, points=())
  np.testing.assert_allclose(
    alone, task.nll(params, BATCH, Z + 1, points=()), rtol=1e-6
  )
  x = tiny.condition(seed=5)
  other = task.nll(params, BATCH._replace(condition=x), Z, points=())
  assert (abs(alone - other) > 1e-4).all()


@pytest.mark.slow
def test_a_model_without_z_is_given_the_condition_all_the_same():
  model = make(points=(), prior={'kind': 'standard'})
  assert model.latent_size == 0
  before, q, prior = figures(model)
  assert q.mean.shape == prior.mean.shape == (3, 0)
  x = BATCH.condition
  x = x._replace(tokens=x.tokens.at[1, 1].set(12))
  after = figures(model, BATCH._replace(condition=x))[0]
  gap = moved(before, after)
  assert gap[1] > 1e-4 and gap[[0, 2]].max() < 1e-6


def test_two_memories_are_one_behind_the_other():
  rng = np.random.default_rng(0)

  def memory(slots, visible=None, score=None):
    keys, values = rng.normal(size=(2, 2, 3, slots, 2, 4)).astype(np.float32)
    return attention.Memory(keys, values, visible, score)

  seen = jnp.asarray(rng.integers(0, 2, (2, 3, 4)), bool)
  x = memory(4, seen)
  for visible in (None, jnp.asarray([[[True, False]], [[False, True]]])):
    z = memory(2, visible, jnp.ones((2, 2, 2)))
    joined = conditions.both(z, x)
    np.testing.assert_array_equal(joined.keys[:, :, :2], z.keys)
    np.testing.assert_array_equal(joined.values[:, :, 2:], x.values)
    np.testing.assert_array_equal(joined.visible[:, :, 2:], seen)
    front = True if visible is None else visible
    assert (joined.visible[:, :, :2] == front).all()
    np.testing.assert_array_equal(joined.score[:, :, 2:], 0)
    np.testing.assert_array_equal(joined.score[:, :, :2], 1)
  assert conditions.both(None, x) is x and conditions.both(z, None) is z


@pytest.mark.slow
def test_segments_beyond_the_last_are_as_the_last():
  model = make(segments=1)
  before = figures(model)
  x = BATCH.condition._replace(segments=0 * BATCH.condition.segments)
  after = figures(model, BATCH._replace(condition=x))
  for a, b in zip(before, after, strict=True):
    assert moved(a, b).max() == 0


def test_a_condition_that_is_missing_is_asked_for():
  with pytest.raises(errors.UserError, match='no condition is given'):
    figures(make(), tiny.batch())


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'routes': ('prefx',)}, "did you mean 'prefix'"),
    ({'routes': ('cross', 'cross')}, 'names a route twice'),
    ({'init': 'zeros'}, "did you mean 'zero'"),
    ({'segments': -1}, 'model.condition.segments = -1'),
    ({'prior': {'kind': 'learnd'}}, "did you mean 'learned'"),
    ({'points': ()}, "prior.kind = 'learned' needs a latent"),
    (
      {'routes': (), 'prior': {'kind': 'standard'}},
      'segments = 2.*nothing reads a condition',
    ),
    ({'encoder': tiny.encoder_settings(kind='bert')}, 'tokenizer of its own'),
    (
      {'posterior': tiny.posterior_settings(min_rate=0.1)},
      'posterior.min_rate = 0.1 holds',
    ),
  ],
)
def test_models_that_cannot_be_are_refused(changes, message):
  with pytest.raises(errors.UserError, match=message):
    make(**changes)
