"""A report counts every text once, whatever the batches."""

import dataclasses
import io
import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from rich import console
import tiny

from lvdecode.evaluation import figures
from lvdecode.evaluation import split
from lvdecode.latent import condition as conditions
from lvdecode.latent import gaussian
from lvdecode.tasks import latent
from lvdecode.text import corpora

SIZES = (7, 3, 5, 4, 7, 6, 3)
N = len(SIZES)
LENGTHS = (5, 7)


def corpus(sizes=SIZES, **changes):
  """Text n begins with the word 4 + n."""
  tokens = np.array(tiny.batch(sizes, 7).tokens)
  tokens[:, 1] = 4 + np.arange(len(sizes))
  chosen = dict(
    tokens=tokens.astype(np.uint8),
    lengths=np.asarray(sizes, np.int32),
    words=np.arange(3, 3 + len(sizes), dtype=np.int32),
    characters=np.arange(11, 11 + len(sizes), dtype=np.int32),
    rows=np.arange(len(sizes)),
    unknown=4,
    truncated=1,
    conditions_truncated=3,
    dropped=2,
  )
  return corpora.Corpus(**{**chosen, **changes})


def report(task, params, batch_size=3, lengths=LENGTHS, **changes):
  chosen = dict(samples=3, seed=0, corpus=corpus(), advance=lambda n: None)
  chosen |= changes
  asked = split.Split(
    task=task,
    params=params,
    corpus=chosen['corpus'],
    batch_size=batch_size,
    lengths=lengths,
    seed=chosen['seed'],
  )
  return figures.evaluate(
    asked, samples=chosen['samples'], advance=chosen['advance']
  )


class Known(latent.LatentTask):
  """Text n has z = (n, 1), a rate of 1 + n and one nat a nll and its z."""

  def evaluate(self, params, batch, keys):
    n = self._number(batch)
    z = jnp.stack([n, jnp.ones_like(n)], axis=1)
    nll = 10 * n + 100
    return {
      'nll': nll,
      'kl': jnp.stack([n, jnp.ones_like(n)], axis=1),
      'mean': z,
      'logvar': jnp.full(z.shape, -9.0),
      'prior_mean': jnp.zeros(z.shape),
      'prior_logvar': jnp.zeros(z.shape),
      'z': z,
    }

  def encode(self, params, batch):
    figures = self.evaluate(params, batch, None)
    return gaussian.Gaussian(figures['mean'], figures['logvar'])

  def given(self, params, batch):
    return conditions.Given(gaussian.standard((len(batch.tokens), 2)))

  def token_nll(self, params, batch, z, points=None, given=None):
    """z's own number, and 1,000 where it is the text's own."""
    own = (z[:, 0] == self._number(batch)) & (z[:, 1] == 1)
    nll = z[:, 0] + 1000 * own + 7 * z[:, 1]
    rest = jnp.zeros((len(nll), batch.tokens.shape[1] - 2))
    return jnp.concatenate([nll[:, None], rest], axis=1)

  def weigh(self, params, batch, reading, keys, samples):
    number = self._number(batch)
    return jnp.broadcast_to(-number - 50, (len(samples), len(number)))

  def _number(self, batch):
    # A filler would be seen by its nonsense.
    real = batch.weights.sum(1) > 0
    return jnp.where(real, batch.tokens[:, 1] - 4.0, 1e6)


KNOWN = Known(tiny.model(), tiny.objective(), tiny.HIDDEN)


@pytest.mark.slow
@pytest.mark.parametrize('lengths', [LENGTHS, (7,)])
@pytest.mark.parametrize('batch_size', [1, 3, 64])
def test_every_text_counts_once(batch_size, lengths):
  finished = []
  got = report(KNOWN, {}, batch_size, lengths, advance=finished.append)
  n = np.arange(N)
  assert got.texts == N == pytest.approx(sum(finished))
  assert got.reconstruction_nll == pytest.approx((10 * n + 100).mean())
  assert got.kl == pytest.approx((1 + n).mean())
  assert got.negative_elbo == pytest.approx((11 * n + 101).mean())
  assert got.iw_nll == pytest.approx((n + 50).mean())
  assert got.iw_nll_error == pytest.approx(n.std(ddof=1) / math.sqrt(N))
  assert got.zeroed_nll == 0
  # Every z is told once, and never to its own text.
  assert got.shuffled_nll == pytest.approx(n.mean() + 7)
  assert got.active_units == 1
  assert got.latent_size == 2
  assert got.log_texts == pytest.approx(math.log(N))
  assert got.mutual_information == pytest.approx(math.log(N), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize('count', [2, 3, 7])
@pytest.mark.parametrize('seed', range(5))
def test_shuffled_is_always_another_texts(count, seed):
  got = report(KNOWN, {}, 64, corpus=corpus(SIZES[:count]), seed=seed)
  assert got.shuffled_nll == pytest.approx(np.arange(count).mean() + 7)


def test_denominators():
  got = report(KNOWN, {})
  tokens = sum(SIZES) - N  # EOS counted, BOS not
  assert got.tokens == tokens
  assert got.words == sum(range(3, 3 + N))
  assert got.characters == sum(range(11, 11 + N))
  assert got.unknown_share == pytest.approx(4 / (sum(SIZES) - 2 * N))
  assert (got.truncated, got.dropped) == (1, 2)
  derived = got.derived()
  for name, nll in (('elbo', 11 * 3 + 101), ('iw', 3 + 50)):
    total = nll * N
    for unit, count in (('token', tokens), ('word', got.words)):
      assert derived[f'{name}_perplexity_per_{unit}'] == pytest.approx(
        math.exp(total / count)
      )
    assert derived[f'{name}_bits_per_character'] == pytest.approx(
      total / got.characters / math.log(2)
    )
  assert len(derived) == 6


def test_report_is_json_and_a_table():
  got = report(KNOWN, {})
  written = json.loads(json.dumps(got.to_dict()))
  assert written == got.to_dict()
  names = {field.name for field in dataclasses.fields(got)}
  assert set(written) == names | set(got.derived())
  screen = console.Console(file=io.StringIO(), width=120)
  screen.print(figures.to_table(got, 'test'))
  text = screen.file.getvalue()
  for words in (
    'nats per sequence',
    f'per word, {got.words:,}',
    f'per model token, {got.tokens:,}',
    f'bits per character, {got.characters:,}',
    'at most ln N = 1.95',
    'K = 3',
    '1 truncated, 2 dropped',
    '3 truncated',
    f'{100 * got.unknown_share:.2f} %',
    'unknown tokens',
  ):
    assert words in text


SMALL = tiny.shallow()
TASK = tiny.task(SMALL)


@pytest.fixture(name='reports', scope='module')
def _reports():
  params = tiny.params(SMALL)
  return {
    size: report(TASK, params, size, (7,), samples=50) for size in (3, 64)
  }


def test_figures_of_a_model_do_not_depend_on_the_batches(reports):
  few, all_at_once = (reports[size].to_dict() for size in (3, 64))
  for name, value in few.items():
    assert all_at_once[name] == pytest.approx(value, rel=1e-4), name


def test_figures_of_a_model_are_in_their_order(reports):
  got = reports[3]
  # By several nats, many times the error of either.
  assert got.iw_nll < got.negative_elbo
  assert got.negative_elbo == pytest.approx(got.reconstruction_nll + got.kl)
  assert got.mutual_information <= got.log_texts + 1e-5
  assert got.shuffled_nll != pytest.approx(got.reconstruction_nll, rel=1e-3)
  assert got.zeroed_nll != pytest.approx(got.reconstruction_nll, rel=1e-3)
  assert got.samples == 50


def test_a_latent_that_is_not_used_makes_no_difference():
  params = dict(tiny.params(SMALL))
  kernel = params['injection']['input']['kernel']
  params['injection'] = {'input': {'kernel': jnp.zeros_like(kernel)}}
  got = report(TASK, params, lengths=(7,), samples=50)
  assert got.kl > 0
  for nll in (got.shuffled_nll, got.zeroed_nll):
    assert nll == pytest.approx(got.reconstruction_nll, rel=1e-6)


@pytest.mark.slow
def test_a_plain_language_model_has_no_rate_and_one_nll():
  plain = tiny.shallow(points=())
  got = report(tiny.task(plain), tiny.params(plain), lengths=(7,), samples=50)
  assert got.kl == got.mutual_information == 0
  assert got.active_units == got.latent_size == 0
  assert got.samples == 1
  for name in ('reconstruction_nll', 'negative_elbo', 'shuffled_nll'):
    assert getattr(got, name) == pytest.approx(got.iw_nll, rel=1e-6)
  screen = console.Console(file=io.StringIO(), width=120)
  screen.print(figures.to_table(got, 'test'))
  assert 'KL' not in screen.file.getvalue()


def asked(task, params, sizes=SIZES, seed=0, batch_size=3, lengths=LENGTHS):
  return split.Split(
    task=task,
    params=params,
    corpus=corpus(sizes),
    batch_size=batch_size,
    lengths=lengths,
    seed=seed,
  )


def test_validation_figures_are_means_over_texts():
  got = figures.validation_figures(asked(KNOWN, {}))
  n = np.arange(N)
  assert got == {
    'negative_elbo': pytest.approx((11 * n + 101).mean()),
    'nll': pytest.approx((10 * n + 100).mean()),
    'kl': pytest.approx((1 + n).mean()),
    'active_units': 1.0,
    'mutual_information': pytest.approx(math.log(N), abs=1e-3),
    'log_texts': pytest.approx(math.log(N)),
    'shuffled_gap': pytest.approx((n + 7).mean() - (10 * n + 100).mean()),
    'zeroed_gap': pytest.approx(-(10 * n + 100).mean()),
    # It is told whatever the points, and pays 1,000 for what is its own.
    'knocked_out_input': pytest.approx(
      (n + 1_007).mean() - (10 * n + 100).mean()
    ),
  }


def test_validation_of_a_plain_language_model_is_its_nll():
  plain = tiny.shallow(points=())
  got = figures.validation_figures(asked(tiny.task(plain), tiny.params(plain)))
  assert set(got) == {'nll', 'negative_elbo'}
  assert got['nll'] == got['negative_elbo'] > 0


def test_one_text_cannot_be_shuffled():
  one = asked(KNOWN, {}, sizes=(7,))
  assert 'shuffled_gap' not in figures.validation_figures(one)
  got = figures.evaluate(one, samples=2)
  assert math.isnan(got.shuffled_nll)
  screen = console.Console(file=io.StringIO(), width=120)
  screen.print(figures.to_table(got, 'test'))
  assert 'one text cannot be shuffled' in screen.file.getvalue()


def test_a_perplexity_beyond_all_numbers_is_infinite():
  ones = {
    field.name: field.type(1) for field in dataclasses.fields(figures.Report)
  }
  report = figures.Report(**ones | {'iw_nll': 1000.0})
  assert report.derived()['iw_perplexity_per_word'] == math.inf
