"""The bound against likelihoods that are known, and what must not move it."""

import math

import jax
from jax import flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import truth

from lvdecode import errors
from lvdecode.evaluation import likelihood
from lvdecode.latent import bounds
from lvdecode.latent import gaussian

CORPUS = truth.texts()
BATCH = truth.whole(CORPUS)
OFF = dict(shift=0.4, widen=0.5)
TASKS = {
  'exact': truth.linear(),
  'exact_conditional': truth.linear(conditional=True),
  'linear': truth.linear(**OFF),
  'linear_conditional': truth.linear(**OFF, conditional=True),
  'words': truth.categorical(),
  'words_conditional': truth.categorical(conditional=True),
}
EXACT, ROUGH = list(TASKS)[:2], list(TASKS)[2:]


def measure(name, samples=500, **changes):
  split = {k: changes.pop(k) for k in ('batch_size', 'seed') if k in changes}
  asked = truth.ask(TASKS[name], CORPUS, **split)
  return likelihood.measure(asked, samples=samples, **changes)


def exact(name):
  task = TASKS[name]
  return task.exact_nll(truth.params(task), BATCH)


@pytest.mark.slow
@pytest.mark.parametrize('name', EXACT)
def test_no_gap_for_the_exact_posterior(name):
  got = measure(name, 50)
  for point in got.curve:
    assert point.nll == pytest.approx(exact(name).mean(), rel=1e-5)
  assert got.effective_samples == pytest.approx(50, rel=1e-3)
  assert got.least_effective_samples == pytest.approx(50, rel=1e-3)
  assert got.monte_carlo_error < 1e-3
  assert got.error == pytest.approx(exact(name).std(ddof=1) / 60**0.5, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('name', ROUGH)
def test_the_bound_falls_to_the_truth(name):
  got = measure(name)
  known = exact(name).mean()
  assert [p.samples for p in got.curve] == [1, 2, 5, 10, 20, 50, 100, 200, 500]
  for point in got.curve[1:]:
    assert point.fall > -3 * point.fall_error
  nll = {point.samples: point.nll for point in got.curve}
  assert nll[1] > nll[5] > nll[50] > known - 3 * got.monte_carlo_error
  assert abs(got.nll - known) < 3 * got.monte_carlo_error
  assert got.monte_carlo_error < 0.02
  assert 1 < got.least_effective_samples < got.effective_samples < 500


class Lost(truth.Linear):
  """One weight of one text is no number."""

  def weigh(self, *of_texts):
    return super().weigh(*of_texts).at[0, 1].set(jnp.nan)


def test_a_bound_that_is_not_finite_is_refused():
  asked = truth.ask(Lost(**vars(TASKS['linear'])), CORPUS, batch_size=60)
  with pytest.raises(
    errors.UserError, match='weights of a text are not finite'
  ):
    likelihood.measure(asked, samples=3)


def weigh(task, params, keys, samples):
  """All in one call."""
  numbers = jnp.arange(samples)
  return task.weigh(params, BATCH, task.read(params, BATCH), keys, numbers)


@pytest.mark.slow
@pytest.mark.parametrize('name', TASKS)
def test_the_gap_of_the_elbo_is_the_kl_to_the_true_posterior(name):
  task, draws = TASKS[name], 2_000
  params = truth.params(task)
  if isinstance(task, truth.Linear):
    q, p = task.encode(params, BATCH), task.posterior(params, BATCH)
    gap = np.asarray(gaussian.kl(q, p)).sum(1)
  else:
    gap = task.exact(params, BATCH)[1]
  elbo = -np.asarray(weigh(task, params, tiny.keys(60), draws), np.float64)
  error = elbo.std(0) / draws**0.5 + 1e-5
  assert (abs(elbo.mean(0) - exact(name) - gap) < 5 * error).all()


@pytest.mark.slow
@pytest.mark.parametrize('name', ['linear_conditional', 'words_conditional'])
def test_kl_of_evaluate_is_the_kl_to_the_prior_of_the_task(name):
  task, draws = TASKS[name], 2_000
  params = truth.params(task)
  q, p = task.encode(params, BATCH), task.prior(params, BATCH)
  noise = jax.random.normal(jax.random.key(0), (draws, 60, truth.Z))
  q, p = jax.tree.map(lambda x: jnp.broadcast_to(x, noise.shape), (q, p))
  z = q.sample(noise)
  estimate = np.asarray(q.log_prob(z) - p.log_prob(z))
  got = np.asarray(task.evaluate(params, BATCH, tiny.keys(60))['kl']).sum(1)
  error = estimate.std(0) / draws**0.5
  assert (abs(estimate.mean(0) - got) < 5 * error).all()


def gradient(bound, task, samples, groups, names=('loads', 'bias')):
  """Of the mean bound, in some parameters; mean and its error."""
  params = truth.params(task)

  @jax.jit
  def one(keys):
    def mean(changed):
      weights = weigh(task, params | changed, keys, samples)
      return jnp.mean(bound(weights))

    changed = {name: params[name] for name in names}
    return jax.grad(mean)(changed)

  found = [one(tiny.keys(60, seed)) for seed in range(groups)]
  flat = np.array([flatten_util.ravel_pytree(g)[0] for g in found])
  return flat.mean(0), flat.std(0) / groups**0.5


def exact_gradient(task, names=('loads', 'bias')):
  """By differences of the exact -log p(y), in float64."""
  params = truth.params(task)
  changed = {name: params[name] for name in names}
  flat, back = flatten_util.ravel_pytree(changed)
  flat, found = np.asarray(flat, np.float64), []
  for place in range(len(flat)):
    ends = []
    for step in (1e-2, -1e-2):
      moved = flat.copy()
      moved[place] += step
      changed = params | back(jnp.asarray(moved, jnp.float32))
      ends.append(task.exact_nll(changed, BATCH).mean())
    found.append((ends[0] - ends[1]) / 2e-2)
  return np.array(found)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['exact', 'linear'])
def test_the_gradient_of_the_bound_is_that_of_the_likelihood(name):
  """Of many samples: IW's for any q; one sample's where q is exact."""
  task = TASKS[name]
  known = exact_gradient(task)
  got, error = gradient(bounds.importance_weighted_nll, task, 500, 8)
  np.testing.assert_allclose(got, known, atol=0.004, rtol=0.02)
  if not task.shift:
    got, error = gradient(lambda w: -w[0], task, 1, 50)
    assert (abs(got - known) < 5 * error + 1e-3).all()


@pytest.mark.slow
def test_so_it_is_where_the_likelihood_is_an_integral():
  task = TASKS['words']
  known = exact_gradient(task, ('loads',))
  got, _ = gradient(bounds.importance_weighted_nll, task, 500, 8, ('loads',))
  np.testing.assert_allclose(got, known, atol=0.004, rtol=0.03)
  # The posterior's parameters are no part of the likelihood.
  of_q = ('q_mean', 'q_logvar')
  got, error = gradient(bounds.importance_weighted_nll, task, 500, 8, of_q)
  assert (abs(got) < 0.004).all()
  got, _ = gradient(lambda w: -w[0], task, 1, 50, of_q)
  assert abs(got).max() > 0.02


@pytest.mark.slow
@pytest.mark.parametrize('name', ['linear', 'linear_conditional'])
def test_the_gradient_of_the_elbo_has_its_closed_form(name):
  """Where q is wrong, through q's own parameters and the prior's, too."""
  task, params = TASKS[name], truth.params(TASKS[name])
  names = ('loads', 'bias', 'log_noise')
  if task.conditional:
    names += ('prior_mean', 'prior_logvar')

  def minus_elbo(changed):
    whole = params | changed
    q, prior = task.encode(whole, BATCH), task.prior(whole, BATCH)
    nll = task.expected_nll(whole, BATCH, q)
    return jnp.mean(nll.sum(1) + gaussian.kl(q, prior).sum(1))

  known = jax.grad(minus_elbo)({name: params[name] for name in names})
  known = np.asarray(flatten_util.ravel_pytree(known)[0])
  got, error = gradient(lambda w: -w[0], task, 1, 100, names)
  assert (abs(got - known) < 5 * error + 1e-4).all()
  assert (error < 0.05 * abs(known).max() + 1e-6).all()


SMALL = tiny.shallow(points=('input', 'memory'))
TASK = tiny.task(SMALL)


@pytest.mark.slow
@pytest.mark.parametrize(
  'changes',
  [{'samples_a_call': 7}, {'samples_a_call': 1}, {'batch_size': 9}],
  ids=str,
)
@pytest.mark.parametrize(
  'task',
  [
    pytest.param(TASK, marks=pytest.mark.slow, id='gpt'),
    pytest.param(TASKS['linear'], id='truth'),
  ],
)
def test_the_split_over_calls_and_devices_moves_nothing(task, changes):
  assert jax.local_device_count() == 8
  params = tiny.params(SMALL) if task is TASK else truth.params(task)
  asked = truth.ask(task, CORPUS, params=params)
  batch_size = changes.get('batch_size', 25)
  again = truth.ask(task, CORPUS, params=params, batch_size=batch_size)
  calls = changes.get('samples_a_call')
  one = likelihood.measure(asked, samples=12)
  many = likelihood.measure(again, samples=12, samples_a_call=calls)
  for a, b in zip(one.curve, many.curve, strict=True):
    assert a.nll == pytest.approx(b.nll, rel=1e-5)
  assert one.effective_samples == pytest.approx(many.effective_samples, 1e-3)


@pytest.mark.slow
def test_one_device_has_the_figures_of_eight(monkeypatch):
  eight = measure('linear', 20)
  monkeypatch.setattr(jax, 'local_devices', lambda: jax.devices()[:1])
  one = measure('linear', 20)
  assert one.nll == pytest.approx(eight.nll, rel=1e-6)


@pytest.mark.slow
def test_a_prefix_of_the_samples_is_the_bound_of_fewer():
  many, few = measure('words', 20), measure('words', 5)
  assert few.nll == pytest.approx(many.curve[2].nll, rel=1e-6)
  other = measure('words', 5, seed=1)
  assert abs(other.nll - few.nll) > 1e-3
  assert abs(other.nll - few.nll) < 6 * few.monte_carlo_error


def test_progress_counts_every_text_once():
  finished = []
  measure('words', 10, samples_a_call=3, advance=finished.append)
  assert sum(finished) == pytest.approx(60)


@pytest.mark.slow
def test_the_monte_carlo_error_is_that_of_other_samples():
  got = [measure('linear', 20, seed=seed) for seed in range(20)]
  spread = np.std([one.nll for one in got], ddof=1)
  assert got[0].monte_carlo_error == pytest.approx(spread, rel=0.4)


@pytest.mark.slow
def test_thousands_of_samples_take_the_room_of_a_few(monkeypatch):
  """And a text is read once, however many there are."""
  weighed, read = [], []
  weigh_whole, read_whole = likelihood._weigh, likelihood._read

  def weigh(*args, samples, mesh):
    weighed.append(samples)
    return weigh_whole(*args, samples=samples, mesh=mesh)

  def read_once(*args):
    read.append(args)
    return read_whole(*args)

  monkeypatch.setattr(likelihood, '_weigh', weigh)
  monkeypatch.setattr(likelihood, '_read', read_once)
  # A device has 4 of 25 texts and 7 fillers, 7 numbers each: 200 samples.
  monkeypatch.setattr(likelihood, '_CALL_BYTES', {'cpu': 200 * 4 * 4 * 7})
  got = measure('linear', 5_000)
  assert set(weighed) == {200} and len(weighed) == 3 * 25
  assert len(read) == 3
  known = exact('linear').mean()
  assert abs(got.nll - known) < 3 * got.monte_carlo_error
  assert got.curve[-1].samples == 5_000


def test_a_plain_language_model_has_its_exact_nll():
  plain = tiny.shallow(points=())
  asked = truth.ask(tiny.task(plain), CORPUS, params=tiny.params(plain))
  got = likelihood.measure(asked, samples=50)
  assert got.samples == got.effective_samples == 1
  assert got.nll == pytest.approx(asked.sample.nll.mean())
  assert got.monte_carlo_error == 0
  assert math.isnan(got.curve[0].fall)


def test_one_sample_says_nothing_of_others():
  assert math.isnan(measure('exact', 1).monte_carlo_error)
