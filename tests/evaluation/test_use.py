"""Whether z is used, on models of which that is known."""

import dataclasses
import io

import jax.numpy as jnp
import numpy as np
import pytest
from rich import console
import tiny
import truth

from lvdecode.evaluation import collapse
from lvdecode.evaluation import use
from lvdecode.latent import injection

CORPUS = truth.texts(40)
BATCH = truth.whole(CORPUS)
LINEAR = truth.linear(conditional=True)


@pytest.mark.slow
def test_every_way_of_telling_z_has_its_closed_form():
  """Means over texts, within the error of one z a text."""
  params = truth.params(LINEAR)
  got = [use.measure(truth.ask(LINEAR, CORPUS, seed=s)) for s in range(12)]
  q, prior = LINEAR.encode(params, BATCH), LINEAR.prior(params, BATCH)
  own, drawn = (
    np.asarray(LINEAR.expected_nll(params, BATCH, normal))
    for normal in (q, prior)
  )
  # Each prior has a mean of its own.
  middle = np.asarray(LINEAR.token_nll(params, BATCH, prior.mean)).sum(1)

  def near(found, known):
    found = np.array(found)
    error = found.std(ddof=1) / len(found) ** 0.5
    assert abs(found.mean() - known) < 4 * error + 1e-4

  near([one.own_nll for one in got], own.sum(1).mean())
  near([one.prior.nll for one in got], drawn.sum(1).mean())
  near([one.prior.gap for one in got], (drawn - own).sum(1).mean())
  assert got[0].zeroed.nll == pytest.approx(middle.mean(), rel=1e-5)
  # By position, over the texts that reach it.
  for place, position in enumerate(got[0].positions):
    there = CORPUS.lengths > place + 1
    assert position.position == place + 1
    assert position.texts == there.sum()
    gains = [one.positions[place].prior_gain for one in got]
    near(gains, (drawn - own)[there, place].mean())
  assert sum(p.texts for p in got[0].positions) == (CORPUS.lengths - 1).sum()


def test_the_gains_by_position_add_up_to_the_gaps():
  got = use.measure(truth.ask(LINEAR, CORPUS))
  for gap, name in ((got.prior, 'prior_gain'), (got.shuffled, 'shuffled_gain')):
    total = sum(getattr(p, name) * p.texts for p in got.positions)
    assert total / got.texts == pytest.approx(gap.gap, rel=1e-4)
  total = sum(p.nll * p.texts for p in got.positions)
  assert total / got.texts == pytest.approx(got.own_nll, rel=1e-5)


@pytest.mark.slow
def test_one_text_is_not_shuffled_and_judged_by_the_prior():
  got = use.measure(truth.ask(LINEAR, truth.texts(1)))
  assert got.shuffled is None
  assert got.positions[0].shuffled_gain is None
  assert 'one text cannot be shuffled' in got.evidence
  assert got.verdict == collapse.verdict(got.prior.gap)
  assert 'one text cannot be shuffled' in shown(got)


def split(points, corpus=CORPUS, scale=1.0, model=tiny.shallow, **changes):
  """A tiny GPT; `scale` of every weight by which it is told z."""
  model = model(points=points, **changes)
  params = dict(tiny.params(model))
  params['injection'] = {
    name: (
      {k: scale * v for k, v in leaf.items()}
      if isinstance(leaf, dict)
      else scale * leaf
    )
    for name, leaf in params['injection'].items()
  }
  return truth.ask(tiny.task(model), corpus, params=params)


SOME = truth.texts(7)


@pytest.fixture(name='both', scope='module')
def _both():
  """A split under a model that is told at two points, and its figures."""
  asked = split(('input', 'memory'), SOME)
  return asked, use.measure(asked)


@pytest.mark.parametrize(
  'points',
  [('input',), pytest.param(('softmax', 'fuse'), marks=pytest.mark.slow)],
)
def test_a_told_point_matters_and_a_silent_one_does_not(points):
  got = use.measure(split(points, SOME))
  assert set(got.knocked_out) == set(got.alone) == set(points)
  for change in got.knocked_out.values():
    assert abs(change.gap) > 1e-3
  silent = use.measure(split(points, SOME, scale=0.0))
  changes = [*silent.knocked_out.values(), *silent.alone.values()]
  for change in [*changes, silent.shuffled, silent.prior, silent.zeroed]:
    assert change.gap == pytest.approx(0.0, abs=1e-5)
  assert silent.verdict == 'collapsed'


@pytest.mark.slow
def test_the_points_of_which_one_is_left_are_those_of_the_other_model(both):
  """Told at `input` alone = the model that has no other point."""
  both, got = both
  assert got.alone['input'] == got.knocked_out['memory']
  assert got.alone['memory'] == got.knocked_out['input']
  model = tiny.shallow(points=('input',))
  params = both.params | {
    'injection': {'input': both.params['injection']['input']}
  }
  z = both.sample.z
  batch = truth.whole(SOME)
  nll = tiny.task(model).nll(params, batch, jnp.asarray(z))
  assert got.alone['input'].nll == pytest.approx(float(nll.mean()), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('point', injection.POINTS)
def test_without_a_point_z_makes_no_difference_there(point):
  others = tuple(p for p in injection.POINTS if p != point)
  task = tiny.task(tiny.shallow(points=injection.POINTS))
  params, batch = tiny.params(task.model), tiny.batch()

  def nll(z, points):
    return np.asarray(task.nll(params, batch, z, points))

  near, far = tiny.latents(), tiny.latents(seed=1)
  assert (abs(nll(near, (point,)) - nll(far, (point,))) > 1e-3).all()
  np.testing.assert_array_equal(nll(near, ()), nll(far, ()))
  assert (abs(nll(near, others) - nll(near, injection.POINTS)) > 1e-4).all()
  np.testing.assert_array_equal(nll(near, injection.POINTS), nll(near, None))


@pytest.mark.slow
def test_what_is_followed_in_training_are_the_same_figures(both, monkeypatch):
  asked, got = both

  def expected(got, few):
    return {
      'shuffled_gap': got.shuffled.gap,
      'zeroed_gap': got.zeroed.gap,
      'knocked_out_input': few.knocked_out['input'].gap,
      'knocked_out_memory': few.knocked_out['memory'].gap,
      'memory_mass_0': np.mean(few.memory_mass[0]),
    }

  assert use.followed(asked) == pytest.approx(expected(got, got), abs=1e-4)
  monkeypatch.setattr(use, '_FOLLOWED', 3)
  few = use.measure(asked.few(3))
  assert few.texts == 3 and few.own_nll != pytest.approx(got.own_nll)
  assert use.followed(asked) == pytest.approx(expected(got, few), abs=1e-4)


@pytest.mark.slow
def test_attention_on_memory_is_known_where_scores_are_equal():
  """Zero keys and queries: attention is even over all that is seen."""
  slots = 2
  asked = split(('memory',), SOME, model=tiny.model, memory_slots=slots)
  params = dict(asked.params)
  decoder = dict(params['decoder'])
  for name in ('h_0', 'h_1'):
    attn = dict(decoder[name]['attn'])
    attn['c_attn'] = {k: 0 * v for k, v in attn['c_attn'].items()}
    decoder[name] = decoder[name] | {'attn': attn}
  params['decoder'] = decoder
  got = use.measure(dataclasses.replace(asked, params=params))
  by_text = [
    np.mean([slots / (slots + t) for t in range(1, length)])
    for length in SOME.lengths
  ]
  assert got.even_mass == pytest.approx(np.mean(by_text), rel=1e-6)
  assert np.shape(got.memory_mass) == (tiny.LAYERS, tiny.HEADS)
  np.testing.assert_allclose(got.memory_mass, got.even_mass, rtol=1e-5)


@pytest.mark.slow
def test_a_layer_without_memory_has_no_attention_on_it():
  got = use.measure(
    split(('memory',), SOME, model=tiny.model, memory_layers=(1,))
  )
  assert max(got.memory_mass[0]) == 0
  assert min(got.memory_mass[1]) > 0.01


@pytest.mark.slow
def test_batches_and_lengths_move_nothing(both):
  one, a = both
  b = use.measure(dataclasses.replace(one, batch_size=3, lengths=(5, 7)))
  np.testing.assert_allclose(a.memory_mass, b.memory_mass, rtol=1e-4)
  for name in ('shuffled', 'zeroed', 'prior'):
    assert getattr(a, name).gap == pytest.approx(getattr(b, name).gap, abs=1e-4)
  for x, y in zip(a.positions, b.positions, strict=True):
    assert x.texts == y.texts
    assert x.prior_gain == pytest.approx(y.prior_gain, abs=1e-4)


def test_a_plain_language_model_says_only_its_nll():
  plain = tiny.shallow(points=())
  asked = truth.ask(tiny.task(plain), SOME, params=tiny.params(plain))
  got = use.measure(asked)
  assert got.verdict == 'no latent' and got.positions == ()
  assert got.own_nll == pytest.approx(asked.sample.nll.mean())
  assert 'prior' not in shown(got)


def shown(found):
  screen = console.Console(file=io.StringIO(), width=120)
  screen.print(use.to_table(found, 'title'))
  return ' '.join(screen.file.getvalue().split())


def test_the_table_says_where_and_how(both):
  got = both[1]
  text = shown(got)
  for words in (
    'not told at input',
    'told at memory only',
    'memory, layer 0',
    f'{got.shuffled.gap:+.2f}',
    f'z is {got.verdict}',
    'token 2 of',
  ):
    assert words in text


@pytest.mark.slow
def test_z_of_the_prior_is_that_of_the_text():
  """A learned prior is asked for, with the text's own key."""
  far = truth.params(LINEAR) | {
    'prior_mean': jnp.full((tiny.VOCAB, truth.Z), 30.0),
    'prior_logvar': jnp.full((tiny.VOCAB, truth.Z), -9.0),
  }
  got = use.measure(truth.ask(LINEAR, CORPUS, params=far))
  z = jnp.full((40, truth.Z), 30.0)
  told = LINEAR.token_nll(far, BATCH, z).sum(1).mean()
  assert got.prior.nll == pytest.approx(float(told), rel=0.01)
