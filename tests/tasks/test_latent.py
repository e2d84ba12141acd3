"""The latent task's loss is -ELBO, and only what it should moves it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpy_gpt2
import pytest
import tiny

from lvdecode import errors
from lvdecode.latent import gaussian
from lvdecode.latent import injection
from lvdecode.latent import rate
from lvdecode.nn import vocabulary
from lvdecode.tasks import inference
from lvdecode.tasks import noise
from lvdecode.text import pipeline

BATCH = tiny.batch()
# Every point at once: what moves one of them moves the loss.
MODEL = tiny.shallow(points=('input', 'memory', 'softmax'), memory_score=-1.0)
PLAIN = tiny.shallow(points=())


def loss(task, batch, streams):
  """Not compiled as a whole: many tasks share their small operations."""
  carry = task.init_carry()
  return task.loss(tiny.params(task.model), batch, streams, None, carry)


def keys_by_hand(name_crc, step=0):
  """Of each example, from the root: step, then purpose, then place."""
  key = jax.random.fold_in(jax.random.key(7), step)
  key = jax.random.fold_in(key, name_crc)
  return [jax.random.fold_in(key, place) for place in range(3)]


def noise_by_hand(samples):
  """[K, 3, Z]."""
  return np.stack(
    [
      jax.random.normal(key, (samples, tiny.LATENT))
      for key in keys_by_hand(0x6CF1FD73)  # crc32(b'latent')
    ],
    axis=1,
  )


@functools.cache
def by_hand(samples=1):
  """Of BATCH, an example at a time in NumPy.

  kl [3, Z], and of each draw nll and log p(z) - log q(z), both [K, 3].
  """
  params = tiny.params(MODEL)
  visible = np.asarray(BATCH.tokens) != tiny.PAD
  q = tiny.apply(
    MODEL, params, BATCH.tokens, jnp.asarray(visible), method='encode'
  )
  mean, logvar = np.asarray(q.mean, np.float64), np.asarray(q.logvar)
  noise = noise_by_hand(samples)
  z = mean + np.exp(logvar / 2) * noise
  nll = np.stack([nll_by_hand(params, draw) for draw in z])
  kl = 0.5 * (mean**2 + np.exp(logvar) - logvar - 1)
  ratio = 0.5 * (noise**2 + logvar - z**2).sum(-1)
  return nll, kl, ratio


def nll_by_hand(params, z):
  """[3]: the sum over every word and EOS; not BOS, not padding."""
  scores = tiny.logits(MODEL, params, BATCH.tokens, jnp.asarray(z, jnp.float32))
  log_p = numpy_gpt2.log_softmax(np.asarray(scores, np.float64))
  return np.array(
    [
      -sum(log_p[b, t - 1, BATCH.tokens[b, t]] for t in range(1, size))
      for b, size in enumerate((7, 5, 3))
    ]
  )


def one_draw():
  """nll [3] and kl [3, Z]."""
  nll, kl, _ = by_hand()
  return nll[0], kl


def test_loss_at_beta_one_is_minus_the_elbo():
  nll, kl = one_draw()
  total, metrics = loss(tiny.task(MODEL), BATCH, tiny.streams())
  np.testing.assert_allclose(total, (nll + kl.sum(1)).sum(), rtol=1e-5)
  assert set(metrics) == {'loss', 'nll', 'kl', 'negative_elbo', 'beta'}
  for name, values in {
    'loss': nll + kl.sum(1),
    'nll': nll,
    'kl': kl.sum(1),
    'negative_elbo': nll + kl.sum(1),
    'beta': np.ones(3),
  }.items():
    np.testing.assert_allclose(metrics[name].total, values.sum(), rtol=1e-5)
    assert metrics[name].weight == 3


@pytest.mark.slow
def test_the_gradient_is_that_of_minus_the_elbo():
  """The loss has some of its gradient from the forward pass; this has not."""
  task, params = tiny.task(MODEL), tiny.params(MODEL)
  draw = jnp.asarray(noise_by_hand(1)[0], jnp.float32)

  def plain(params):
    q = task.encode(params, BATCH)
    kl = gaussian.kl(q, gaussian.standard(draw.shape))
    return jnp.sum(task.nll(params, BATCH, q.sample(draw))) + jnp.sum(kl)

  def trained(params):
    return task.loss(params, BATCH, tiny.streams(), None, task.init_carry())[0]

  expected, got = (jax.jit(jax.grad(f))(params) for f in (plain, trained))
  largest = max(float(abs(x).max()) for x in jax.tree.leaves(expected))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * largest),
    got,
    expected,
  )
  for part in ('posterior', 'injection', 'decoder'):
    assert any(abs(x).max() > 1e-3 for x in jax.tree.leaves(got[part]))


def test_beta_weighs_the_kl_alone():
  nll, kl = one_draw()
  beta = 0.3
  total, metrics = loss(tiny.task(MODEL, beta=beta), BATCH, tiny.streams())
  np.testing.assert_allclose(total, (nll + beta * kl.sum(1)).sum(), rtol=1e-5)
  elbo = (nll + kl.sum(1)).sum()
  np.testing.assert_allclose(metrics['negative_elbo'].total, elbo, rtol=1e-5)


def test_free_bits_charge_the_loss_and_no_metric():
  nll, kl = one_draw()
  free = float(np.median(kl.sum(1)))
  task = tiny.task(MODEL, beta=0.5, free_bits='total', nats=free)
  total, metrics = loss(task, BATCH, tiny.streams())
  expected = nll + 0.5 * np.maximum(kl.sum(1), free)
  np.testing.assert_allclose(total, expected.sum(), rtol=1e-5)
  np.testing.assert_allclose(metrics['kl'].total, kl.sum(), rtol=1e-5)


@pytest.mark.parametrize('kind', ['distance', 'dual', 'pi'])
def test_rate_control_charges_the_loss_and_is_reported(kind):
  nll, kl = one_draw()
  target = float(kl.sum(1).mean()) + 1
  task = tiny.task(MODEL, beta=0.5, rate=dict(kind=kind, target=target))
  carry = {
    'distance': None,
    'dual': rate.Multiplier(jnp.float32(0.2)),
    'pi': rate.Controller(jnp.float32(0.7), jnp.zeros(())),
  }[kind]
  mean = kl.sum(1).mean()
  charge, weight = {
    'distance': (0.5, -0.5),
    'dual': (0.5 * mean + 0.2, 0.3),
    'pi': (0.7 * mean, 0.7),
  }[kind]
  total, metrics = task.loss(
    tiny.params(MODEL), BATCH, tiny.streams(), None, carry
  )
  np.testing.assert_allclose(total / 3, nll.mean() + charge, rtol=1e-5)
  np.testing.assert_allclose(metrics['beta'].total / 3, weight, rtol=1e-5)
  after = task.next_carry(carry, metrics)
  if kind == 'dual':
    np.testing.assert_allclose(after.value, 0.2 + 0.1 * 1, rtol=1e-4)
  if kind == 'pi':
    np.testing.assert_allclose(after.integral, -0.001, rtol=1e-4)


PLAIN_BOUND = dict(samples=4, beta=1.0)


@pytest.mark.slow
def test_more_draws_are_averaged():
  nll, kl, _ = by_hand(samples=4)
  assert nll.std(0).min() > 1e-3
  task = tiny.task(MODEL, samples=4, beta=0.5)
  total, metrics = loss(task, BATCH, tiny.streams())
  expected = nll.mean(0) + 0.5 * kl.sum(1)
  np.testing.assert_allclose(total, expected.sum(), rtol=1e-5)
  np.testing.assert_allclose(metrics['nll'].total, nll.mean(0).sum(), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('estimator', ['iwae', 'dreg'])
def test_importance_weighted_loss_is_the_bound_of_its_draws(estimator):
  nll, kl, ratio = by_hand(samples=4)
  task = tiny.task(MODEL, estimator=estimator, **PLAIN_BOUND)
  total, metrics = loss(task, BATCH, tiny.streams())
  weights = np.exp(ratio - nll)
  np.testing.assert_allclose(total, -np.log(weights.mean(0)).sum(), rtol=1e-5)
  # The figures that are reported stay those of the ELBO.
  elbo = nll.mean(0) + kl.sum(1)
  np.testing.assert_allclose(
    metrics['negative_elbo'].total, elbo.sum(), rtol=1e-5
  )


@pytest.mark.slow
@pytest.mark.parametrize('estimator', ['iwae', 'dreg'])
def test_a_multiplier_holds_the_kl_of_an_importance_weighted_bound(estimator):
  nll, kl, ratio = by_hand(samples=4)
  target = float(kl.sum(1).mean()) + 1
  rate_control = dict(kind='dual', target=target)
  task = tiny.task(MODEL, estimator=estimator, rate=rate_control, **PLAIN_BOUND)
  total, metrics = task.loss(
    tiny.params(MODEL),
    BATCH,
    tiny.streams(),
    None,
    rate.Multiplier(jnp.float32(0.2)),
  )
  bound = -np.log(np.exp(ratio - nll).mean(0))
  np.testing.assert_allclose(total / 3, bound.mean() + 0.2 * 1, rtol=1e-5)
  np.testing.assert_allclose(metrics['beta'].total / 3, 0.8, rtol=1e-5)


@pytest.mark.slow
def test_dreg_is_another_gradient_for_the_encoder_alone():
  params = tiny.params(MODEL)

  def slopes(estimator):
    task = tiny.task(MODEL, estimator=estimator, **PLAIN_BOUND)

    @jax.jit
    @jax.grad
    def slope(params):
      return task.loss(params, BATCH, tiny.streams(), None, None)[0]

    return slope(params)

  iwae, dreg = slopes('iwae'), slopes('dreg')
  for part in ('decoder', 'injection'):
    for a, b in zip(
      jax.tree.leaves(iwae[part]), jax.tree.leaves(dreg[part]), strict=True
    ):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
  task, noise = tiny.task(MODEL), noise_by_hand(4)

  def log_weights(z, q):
    prior = gaussian.standard(z.shape)
    return prior.log_prob(z) - task.nll(params, BATCH, z) - q.log_prob(z)

  @jax.jit
  @jax.grad
  def by_hand(posterior):
    q = task.encode(params | {'posterior': posterior}, BATCH)
    total = 0.0
    z = [q.sample(jnp.asarray(draw)) for draw in noise]
    fixed = jax.lax.stop_gradient(q)
    shares = jax.nn.softmax(
      jnp.stack([log_weights(x, fixed) for x in z]), axis=0
    )
    for draw, share in zip(z, jax.lax.stop_gradient(shares), strict=True):
      slope = jax.grad(lambda x: log_weights(x, fixed).sum())(
        jax.lax.stop_gradient(draw)
      )
      total -= jnp.sum(
        share[:, None] ** 2 * jax.lax.stop_gradient(slope) * draw
      )
    return total

  expected = by_hand(params['posterior'])
  for a, b in zip(
    jax.tree.leaves(dreg['posterior']), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
  kernel = iwae['posterior']['mean']['kernel']
  assert jnp.abs(kernel - dreg['posterior']['mean']['kernel']).max() > 0.01


def padded(batch, columns=0, rows=0):
  """More padding, and rows that are copies with weights of 0."""
  tokens = np.pad(
    batch.tokens, ((0, 0), (0, columns)), constant_values=tiny.PAD
  )
  weights = np.pad(batch.weights, ((0, rows), (0, columns)))
  tokens = np.concatenate([tokens, np.repeat(tokens[:1], rows, axis=0)])
  return pipeline.Batch(jnp.asarray(tokens), jnp.asarray(weights))


@pytest.mark.slow
@pytest.mark.parametrize(
  ('kind', 'free_bits'), [('own', 'dim_batch'), ('decoder', 'total')]
)
def test_padding_and_fillers_move_nothing(kind, free_bits):
  model = tiny.shallow(encoder=tiny.encoder_settings(kind=kind))
  task = tiny.task(
    model, beta=0.5, free_bits=free_bits, nats=1.0, word_dropout=0.4
  )
  before = loss(task, BATCH, tiny.streams())
  after = loss(task, padded(BATCH, columns=3, rows=2), tiny.streams(5))
  for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.slow
def test_devices_together_have_the_loss_of_one():
  batch = tiny.batch((7, 5, 3, 6, 7, 4, 5, 3), seed=1)
  batch = batch._replace(weights=batch.weights.at[7].set(0))
  visible = inference.visible(batch)
  q = tiny.apply(
    MODEL, tiny.params(MODEL), batch.tokens, visible, method='encode'
  )
  rate = np.asarray(gaussian.kl(q, gaussian.standard(q.mean.shape)))[:7, 0]
  # A dimension that is charged, though not by every device's own mean.
  nats = 0.99 * float(rate.mean())
  assert rate[:6].reshape(3, 2).mean(1).min() < nats
  task = tiny.task(
    MODEL, beta=0.5, free_bits='dim_batch', nats=nats, word_dropout=0.4
  )
  one = jax.jit(loss, static_argnums=0)(task, batch, tiny.streams(8))

  def shard(batch, place):
    streams = tiny.streams(2)._replace(place=place)
    part = task.loss(tiny.params(MODEL), batch, streams, 'batch', None)
    return jax.lax.psum(part, 'batch')

  many = jax.pmap(shard, axis_name='batch', devices=jax.devices()[:4])(
    jax.tree.map(lambda x: x.reshape(4, 2, -1), batch),
    jnp.arange(8).reshape(4, 2),
  )
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
    np.testing.assert_allclose(np.full(4, a), b, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['own', 'shared_embeddings', 'bert'])
def test_dropout_of_the_encoder_acts_in_training_alone(kind):
  """Seen by the KL, which holds none of the decoder's noise."""
  wet, dry = (
    tiny.shallow(encoder=tiny.encoder_settings(kind=kind, dropout=rate))
    for rate in (0.5, 0.0)
  )
  kl = [
    float(loss(tiny.task(wet), BATCH, tiny.streams(step=step))[1]['kl'].total)
    for step in (0, 0, 1)
  ]
  assert kl[0] == kl[1] != kl[2]
  trained, without = (
    tiny.task(model).encode(tiny.params(dry), BATCH) for model in (wet, dry)
  )
  np.testing.assert_array_equal(trained.mean, without.mean)
  np.testing.assert_array_equal(trained.logvar, without.logvar)


@pytest.mark.slow
def test_an_encoder_with_a_tokenizer_of_its_own_reads_by_that():
  task = tiny.task(tiny.shallow(encoder=tiny.encoder_settings(kind='bert')))
  seen = jnp.arange(5)[None] < jnp.asarray([[5], [3], [4]])

  def mean(padding, batch=BATCH):
    own = pipeline.EncoderInput(jnp.where(seen, 7, padding), seen)
    batch = batch._replace(encoder=own)
    return task.encode(tiny.params(task.model), batch).mean

  np.testing.assert_array_equal(mean(0), mean(9))
  other = tiny.batch((6, 7, 4), seed=8)  # the decoder's tokens
  np.testing.assert_array_equal(mean(0), mean(0, other))


def test_dropout_changes_with_the_step_and_ends_with_training():
  sizes = tiny.decoder_settings(layers=1, dropout=0.5)
  # Without a latent, whose noise changes as well.
  model = tiny.model(points=(), decoder=sizes)
  first, again, later, elsewhere = (
    loss(tiny.task(model), BATCH, streams)[0]
    for streams in (
      tiny.streams(),
      tiny.streams(),
      tiny.streams(step=1),
      tiny.streams(first=3),
    )
  )
  assert first == again
  assert len({float(first), float(later), float(elsewhere)}) == 3
  silent = loss(tiny.task(PLAIN), BATCH, tiny.streams())[0]
  assert first != silent
  evaluated = evaluate(tiny.task(model), BATCH, tiny.keys())['nll'].sum()
  np.testing.assert_allclose(evaluated, silent, rtol=1e-6)


def test_noise_changes_with_the_step():
  first, later = (
    loss(tiny.task(MODEL), BATCH, tiny.streams(step=step))[1] for step in (0, 1)
  )
  assert first['nll'].total != later['nll'].total
  assert first['kl'].total == later['kl'].total


def evaluate(task, batch, keys):
  return task.evaluate(tiny.params(task.model), batch, keys)


def test_evaluation_is_per_example_and_knows_no_batch_mates():
  task = tiny.task(MODEL)
  figures = evaluate(task, BATCH, tiny.keys())
  assert figures['nll'].shape == (3,)
  assert figures['kl'].shape == figures['z'].shape
  others = tiny.batch((4, 5, 7), seed=5)
  mixed = jax.tree.map(lambda a, b: b.at[1].set(a[1]), BATCH, others)
  keys = tiny.keys(seed=3).at[1].set(tiny.keys()[1])
  again = evaluate(task, mixed, keys)
  for name, values in figures.items():
    np.testing.assert_allclose(values[1], again[name][1], atol=1e-5)
    if name.startswith('prior'):
      continue  # N(0, I), whatever the text
    assert (jnp.abs(values - again[name])[jnp.array([0, 2])] > 1e-4).any()


@functools.partial(jax.jit, static_argnames=('task', 'samples'))
def log_weights(task, batch, keys, samples):
  return task.log_weights(tiny.params(task.model), batch, keys, samples)


def test_log_weights_are_those_of_the_samples():
  task, params = tiny.task(MODEL), tiny.params(MODEL)
  weights = log_weights(task, BATCH, tiny.keys(), 3)
  q = task.encode(params, BATCH)
  assert weights.shape == (3, 3)
  for k in range(3):
    keys = [jax.random.fold_in(key, k) for key in tiny.keys()]
    noise = jnp.stack([jax.random.normal(key, (3,)) for key in keys])
    z = q.sample(noise)
    log_p = -task.nll(params, BATCH, z)
    log_prior = -0.5 * jnp.sum(z**2 + jnp.log(2 * jnp.pi), axis=-1)
    log_q = -0.5 * jnp.sum(noise**2 + q.logvar + jnp.log(2 * jnp.pi), axis=-1)
    expected = log_p + log_prior - log_q
    np.testing.assert_allclose(weights[k], expected, rtol=1e-4)


def test_log_weights_of_a_text_depend_neither_on_its_batch_nor_on_k():
  task = tiny.task(MODEL)
  few = log_weights(task, BATCH, tiny.keys(), 3)
  many = log_weights(task, BATCH, tiny.keys(), 5)
  np.testing.assert_allclose(few, many[:3], rtol=1e-5)
  mates = tiny.batch((4, 5, 7), seed=5)
  mixed = jax.tree.map(lambda a, b: b.at[1].set(a[1]), BATCH, mates)
  keys = tiny.keys(seed=3).at[1].set(tiny.keys()[1])
  np.testing.assert_allclose(
    log_weights(task, mixed, keys, 3)[:, 1], few[:, 1], rtol=1e-5
  )


CONDITIONAL = {
  'condition': tiny.condition_settings(
    routes=('prefix', 'memory', 'cross'), segments=2
  ),
  'prior': tiny.prior_settings(kind='learned'),
  'encoder': tiny.encoder_settings(kind='decoder'),
}


@pytest.mark.slow
@pytest.mark.parametrize(
  ('settings', 'given'),
  [
    ({'softmax_rank': 2}, None),
    ({'points': ('softmax', 'memory')}, None),  # where they do not
    (CONDITIONAL, tiny.condition()),
  ],
  ids=['alone', 'and_memory', 'conditional'],
)
def test_many_z_at_the_softmax_share_the_states_of_a_text(settings, given):
  padded = tiny.decoder_settings(layers=1, vocab_multiple=8)
  model = tiny.model(**{'points': ('softmax',), 'decoder': padded} | settings)
  task, params = tiny.task(model), tiny.params(model)
  batch = BATCH._replace(condition=given)

  @jax.jit
  def weigh(numbers):
    reading = task.read(params, batch)
    return task.weigh(params, batch, reading, tiny.keys(), numbers)

  many = weigh(jnp.arange(4))
  each = [weigh(jnp.asarray([number]))[0] for number in range(4)]
  np.testing.assert_allclose(many, jnp.stack(each), rtol=1e-5)
  assert (np.std(many, axis=0) > 1e-3).all()


@pytest.mark.slow
@pytest.mark.parametrize('estimator', ['elbo', 'iwae', 'dreg'])
@pytest.mark.parametrize('given', [None, tiny.condition()], ids=['', 'given'])
def test_training_with_many_z_at_the_softmax_shares_the_states(
  monkeypatch, estimator, given
):
  settings = {} if given is None else CONDITIONAL
  model = tiny.model(
    **{'points': ('softmax',), 'decoder': tiny.decoder_settings(layers=1)}
    | settings
  )
  objective = dict(estimator=estimator, word_dropout=0.3, latent_dropout=0.3)
  task = tiny.task(model, **PLAIN_BOUND | objective)
  params, batch = tiny.params(model), BATCH._replace(condition=given)

  def of_draws():
    def total(params):
      return task.loss(params, batch, tiny.streams(), None, None)

    return jax.jit(jax.value_and_grad(total, has_aux=True))(params)

  shared = of_draws()
  calls = []
  monkeypatch.setattr(
    injection.InjectionSettings,
    'softmax_alone',
    property(lambda _: calls.append(0)),
  )
  apart = of_draws()
  assert calls
  largest = max(float(abs(x).max()) for x in jax.tree.leaves(apart[1]))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-5, atol=1e-5 * largest
    ),
    shared,
    apart,
  )


def test_padding_at_odds_with_a_shift_spoils_no_text(monkeypatch):
  exact = vocabulary.shifted_nll
  monkeypatch.setattr(
    vocabulary,
    'shifted_nll',
    lambda *of_text: exact(*of_text).at[..., -1].set(jnp.nan),
  )
  task = tiny.task(tiny.shallow(points=('softmax',)))
  params = tiny.params(task.model)
  reading = task.read(params, BATCH)
  weights = task.weigh(params, BATCH, reading, tiny.keys(), jnp.arange(2))
  # The first text alone is long enough to have a token there.
  assert np.isnan(weights).tolist() == [[True, False, False]] * 2


def test_without_points_it_is_the_plain_language_model():
  task = tiny.task(PLAIN)
  params = tiny.params(PLAIN)
  assert set(params) == {'decoder'}
  total, metrics = loss(task, BATCH, tiny.streams())
  assert metrics['kl'].total == 0
  exact = jax.tree.map(lambda p: np.asarray(p, np.float64), params['decoder'])
  expected = 0.0
  for tokens, size in zip(BATCH.tokens, (7, 5, 3), strict=True):
    told = np.asarray(tokens[: size - 1])
    hidden = numpy_gpt2.hidden_states(exact, told, tiny.HEADS)
    log_p = numpy_gpt2.log_softmax(hidden @ exact['wte']['embedding'].T)
    expected -= log_p[np.arange(size - 1), tokens[1:size]].sum()
  np.testing.assert_allclose(total, expected, rtol=1e-5)
  figures = evaluate(task, BATCH, tiny.keys())
  np.testing.assert_allclose(figures['nll'].sum(), expected, rtol=1e-5)
  assert figures['kl'].shape == (3, 0)
  weights = log_weights(task, BATCH, tiny.keys(), 2)
  np.testing.assert_allclose(weights, -figures['nll'][None].repeat(2, 0))


@pytest.mark.parametrize('rate', [0.0, 0.3, 0.8])
def test_word_dropout_hides_the_rate_but_never_bos(rate):
  tokens = jnp.full((50, 40), 5).at[:, 0].set(tiny.BOS)
  told = noise.hide_words(tokens, tiny.keys(50), rate, tiny.HIDDEN)
  assert (told[:, 0] == tiny.BOS).all()
  hidden = told == tiny.HIDDEN
  assert (told[:, 1:][~hidden[:, 1:]] == 5).all()
  assert abs(hidden[:, 1:].mean() - rate) <= (0.04 if rate else 0)
  if rate:
    assert len(np.unique(hidden, axis=0)) == 50  # each row its own


def test_word_dropout_hides_from_the_decoder_not_from_the_encoder():
  plain, half, again = (
    loss(tiny.task(MODEL, word_dropout=rate), BATCH, tiny.streams())[1]
    for rate in (0.0, 0.5, 0.5)
  )
  assert plain['nll'].total != half['nll'].total == again['nll'].total
  assert plain['kl'].total == half['kl'].total


def test_visible_is_bos_and_targets_and_fillers_are_not_real():
  batch = padded(BATCH, rows=1)
  expected = np.asarray(BATCH.tokens) != tiny.PAD
  np.testing.assert_array_equal(inference.visible(batch)[:3], expected)
  # Something stays visible, so that no row divides by zero.
  assert inference.visible(batch)[3].sum() == 1
  np.testing.assert_array_equal(inference.real_examples(batch), [1, 1, 1, 0])


@pytest.mark.parametrize(
  ('backend', 'given', 'mib'),
  [('cpu', 0, 32), ('gpu', 0, 128), ('cpu', 7, 7), ('tpu', 7, 7)],
)
def test_chunks_of_logits_are_chosen_by_the_backend(
  monkeypatch, backend, given, mib
):
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  assert tiny.objective(logits_mib=given).logits_bytes == mib * 2**20


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'word_dropout': 1.0}, 'objective.word_dropout = 1.0'),
    (
      {'rate': {'kind': 'pi'}, 'free_bits': 'total'},
      "rate.kind = 'pi', objective.free_bits.kind = 'total'.*make one of them",
    ),
    ({'estimator': 'iwea'}, "did you mean 'iwae'"),
    ({'samples': 0}, 'objective.samples = 0'),
    ({'estimator': 'iwae', 'beta': 0.5}, 'has no KL to weigh'),
    ({'estimator': 'dreg', 'free_bits': 'total'}, 'has no KL to weigh'),
    ({'estimator': 'dreg', 'rate': {'kind': 'pi'}}, 'has no KL to weigh'),
    ({'logits_mib': -1}, 'objective.logits_mib = -1: it must be at least 0'),
  ],
)
def test_objectives_that_cannot_be_are_refused(changes, message):
  with pytest.raises(errors.UserError, match=message):
    tiny.objective(**changes)
