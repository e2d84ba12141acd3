"""A model of texts given a condition, asked from Python."""

import jax
import numpy as np
import pytest
import tiny

from configs import base
from lvdecode import errors
from lvdecode import settings as settings_lib
from lvdecode import trained
from lvdecode.text import conditions
from lvdecode.text import tokenizers

TEXTS = ['the soup was cold .', 'the film was great .', 'this room was new .']
LABELS = ('bad', 'good')


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  return made(('prefix', 'cross'), tmp_path_factory.mktemp('complete'))


def made(routes, folder):
  """Of random parameters: nothing here asks what was learned."""
  config = base.get_config('quick')
  config.data.source, config.data.path = 'files', 'reviews.tsv'
  config.data.condition_field = 'label'
  config.pipeline.lengths = (12,)
  config.pipeline.condition_length = 2
  config.model.encoder.layers = config.model.decoder.layers = 1
  config.model.prior.kind = 'learned'
  config.model.condition.routes = routes
  return build(config, folder)


def build(config, folder):
  settings = settings_lib.from_dict(config.to_dict())
  markers = ()
  if settings.data.conditional:
    markers = tuple(map(conditions.label_token, LABELS))
  tokenizer = tokenizers.train(settings.tokenizer, TEXTS, markers)
  task = settings_lib.build_task(settings, tokenizer, None)
  shapes = jax.eval_shape(task.init, jax.random.key(0))
  params = tiny.random_params(shapes)
  return trained.Model(
    folder, settings, task, params, tokenizer, None, 0, LABELS
  )


@pytest.mark.slow
def test_each_condition_gets_its_completions(model):
  found = model.complete(['good', 'bad', 'good'], n=3, seed=1)
  assert [len(texts) for texts in found] == [3, 3, 3]
  assert found == model.complete(['good', 'bad', 'good'], n=3, seed=1)
  assert found != model.complete(['good', 'bad', 'good'], n=3, seed=2)
  # One depends on its own condition and place, and on no batch mate.
  other = model.complete(['bad', 'bad', 'bad'], n=3, seed=1)
  assert found[1] == other[1]
  assert found[0] != other[0]
  # What is given is no part of what is written, and never is written.
  assert not any('<label' in text for texts in found for text in texts)


@pytest.mark.slow
def test_z_of_a_completion_is_of_the_prior_of_its_condition(tmp_path):
  """In a model that is told of the condition by z alone."""
  model, n = made((), tmp_path), 3
  parts = model._parts(['good', 'bad'], 2, 'conditions')
  prior = model._given(parts).prior
  assert (np.abs(prior.mean[0] - prior.mean[1]) > 1e-3).any()
  keys = trained._keys(5, 0, 2, trained._PRIOR)
  noise = np.stack(
    [jax.random.normal(key, (n, model.latent_size)) for key in keys]
  )
  scale = np.exp(0.5 * np.asarray(prior.logvar))[:, None]
  z = np.asarray(prior.mean)[:, None] + scale * noise
  each = [label for label in ('good', 'bad') for _ in range(n)]
  texts, others = (
    model.decode(some.reshape(2 * n, -1), trained.SAMPLE, 5, each)
    for some in (z, noise)
  )
  found = model.complete(['good', 'bad'], n, seed=5)
  assert found == [texts[:n], texts[n:]]
  assert texts != others


@pytest.mark.slow
def test_no_text_is_scored_by_the_noise_it_was_drawn_by(model, monkeypatch):
  streams = range(4)
  keys = [trained._keys(7, 0, 4, stream) for stream in streams]
  assert len({str(jax.random.key_data(key)) for key in keys}) == len(streams)
  used, real = [], trained._keys

  def keys_of(seed, first, count, stream):
    used.append(stream)
    return real(seed, first, count, stream)

  monkeypatch.setattr(trained, '_keys', keys_of)
  texts = model.complete(['good'], n=2)[0]
  assert used == [trained._PRIOR, trained._TOKENS]
  model.nll(texts, 2, given=['good'] * 2)
  assert used[2:] == [trained._BOUND]


@pytest.mark.slow
def test_texts_are_the_same_in_few_calls_and_in_many(model, monkeypatch):
  given = ['good', 'bad', 'bad', 'good', 'good']
  texts, nll = model.complete(given, n=3), model.nll(TEXTS, 4, given=given[:3])
  assert len({*texts[0], *texts[3], *texts[4]}) > 3  # each draws its own
  monkeypatch.setattr(trained, '_ROWS', 2)
  assert model.complete(given, n=3) == texts
  again = model.nll(TEXTS, 4, given=given[:3])
  np.testing.assert_allclose(again, nll, rtol=1e-5)


@pytest.mark.slow
def test_completions_are_ranked_by_their_likelihood(model):
  drawn = model.complete(['good', 'bad'], n=4, seed=3)
  ranked = model.complete(['good', 'bad'], n=4, seed=3, ranked=5)
  each = [label for label in ('good', 'bad') for _ in range(4)]
  nll = model.nll([text for texts in drawn for text in texts], 5, 3, each)
  for texts, others, values in zip(
    drawn, ranked, nll.reshape(2, 4), strict=True
  ):
    assert others == [texts[place] for place in np.argsort(values)]
  assert drawn != ranked


@pytest.mark.slow
def test_what_is_scored_is_what_was_written(model):
  """A text that never ended is cut where its EOS can still be scored."""
  texts = [text for some in model.complete(['good'] * 40) for text in some]
  sizes = [len(ids) for ids in model.tokenizer.encode(texts)]
  most = model.config.pipeline.lengths[-1] - 2
  assert max(sizes) == most
  assert model.tokenize(texts, [('<label:good>',)] * 40).truncated == 0


@pytest.mark.slow
def test_a_condition_moves_codes_and_likelihoods(model):
  good, bad = (model.encode(TEXTS, [x] * 3) for x in ('good', 'bad'))
  assert (np.abs(good.mean - bad.mean).max(1) > 1e-4).all()
  nll = [model.nll(TEXTS, 4, given=[x] * 3) for x in ('good', 'bad')]
  assert (np.abs(nll[0] - nll[1]) > 1e-3).all()
  again = model.nll(TEXTS[1:], 4, given=['bad'] * 2)
  assert again.shape == (2,)
  copies = model.reconstruct(TEXTS, given=['good'] * 3)
  assert copies == model.decode(good.mean, given=['good'] * 3)
  path = model.interpolate(*TEXTS[:2], steps=3, given='good')
  assert len(path) == 3 and path[0] == copies[0]


def test_classes_are_by_bayes_rule(model):
  shares = model.classify(TEXTS, samples=4, prior=[1, 3])
  nll = np.stack([model.nll(TEXTS, 4, given=[x] * 3) for x in LABELS], axis=1)
  joint = np.exp(-nll - (-nll).max(1, keepdims=True)) * [0.25, 0.75]
  expected = joint / joint.sum(1, keepdims=True)
  np.testing.assert_allclose(shares, expected, rtol=1e-3)
  turned = model.classify(TEXTS, ['good', 'bad'], samples=4, prior=[3, 1])
  np.testing.assert_allclose(turned, shares[:, ::-1], rtol=1e-4)


@pytest.mark.parametrize(
  ('ask', 'message'),
  [
    (lambda m: m.encode(TEXTS), 'give one with each of the 3 texts'),
    (lambda m: m.sample(2), r'as complete\(conditions\) takes them'),
    (lambda m: m.decode(np.zeros((2, 8))), 'each of the 2 latents'),
    (lambda m: m.decode(np.full((1, 8), np.nan)), 'z is not finite'),
    (lambda m: m.nll(TEXTS, given=['good']), '1 conditions for 3 texts'),
    (lambda m: m.complete('good'), r'write \[condition\]'),
    (lambda m: m.complete([]), '0 conditions'),
    (lambda m: m.complete(['goud']), "did you mean 'good'"),
    (lambda m: m.complete(['good'], n=0), 'num = 0'),
    (lambda m: m.complete(['good'], ranked=-1), 'ranked = -1'),
    (lambda m: m.classify(TEXTS, ['good']), 'two or more'),
    (lambda m: m.classify(TEXTS, prior=[1, 0]), '2 finite numbers above 0'),
    (lambda m: m.classify(TEXTS, prior=[1, np.inf]), '2 finite numbers'),
    (lambda m: m.past(np.zeros((1, 8))), 'no memory to tell|a condition too'),
  ],
)
def test_a_mistake_is_one_clear_line(model, ask, message):
  with pytest.raises(errors.UserError, match=message) as caught:
    ask(model)
  assert '\n' not in str(caught.value)


@pytest.mark.slow
def test_a_decoder_that_knows_a_condition_by_z_alone_needs_none(tmp_path):
  model = made((), tmp_path)
  z = np.random.default_rng(0).normal(size=(2, 8))
  assert model.decode(z) == model.decode(z, given=['good', 'bad'])
  with pytest.raises(errors.UserError, match='give one with each'):
    model.sample(2)


def test_a_condition_that_nothing_reads_is_refused(tmp_path):
  plain = build(base.get_config('quick'), tmp_path)
  for ask in (
    lambda: plain.complete(['good']),
    lambda: plain.encode(TEXTS, ['good'] * 3),
    lambda: plain.decode(np.zeros((1, 8)), given=['good']),
  ):
    with pytest.raises(errors.UserError, match='nothing in .* reads one'):
      ask()
  with pytest.raises(errors.UserError, match='is not given labels'):
    plain.classify(TEXTS)
