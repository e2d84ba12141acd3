"""A run with figures of every kind, none of them computed, and its texts."""

import numpy as np

from lvdecode.evaluation import figures
from lvdecode.evaluation import information
from lvdecode.evaluation import likelihood
from lvdecode.evaluation import use
from lvdecode.report import exhibit
from lvdecode.report import maps

# Letters that HTML, JavaScript and matplotlib take for their own.
NASTY = '</script><script>alert("1")</script> & <b>$x_$ \u2028 {{ 7 * 7 }}'


def report(**changes):
  chosen = dict(
    texts=4,
    tokens=40,
    words=30,
    characters=200,
    unknown_share=0.0,
    truncated=0,
    dropped=0,
    conditions_truncated=0,
    samples=5,
    kl=3.5,
    reconstruction_nll=20.0,
    negative_elbo=23.5,
    iw_nll=23.25,
    iw_nll_error=0.5,
    shuffled_nll=26.25,
    zeroed_nll=24.0,
    active_units=2,
    latent_size=3,
    mutual_information=1.25,
    log_texts=1.375,
  )
  return figures.Report(**{**chosen, **changes})


def the_likelihood():
  points = [
    likelihood.Point(
      samples=samples, nll=nll, error=0.5, fall=0.25, fall_error=0.125
    )
    for samples, nll in ((1, 24.0), (2, 23.5), (5, 23.25))
  ]
  return likelihood.Likelihood(
    texts=4,
    samples=5,
    nll=23.25,
    error=0.5,
    monte_carlo_error=0.25,
    effective_samples=3.0,
    least_effective_samples=1.5,
    curve=tuple(points),
  )


def the_information():
  interval = information.Interval(value=3.5, low=3.0, high=4.0)
  return information.Information(
    texts=4,
    log_texts=1.375,
    saturated=False,
    kl=interval,
    mutual_information=interval,
    most_mutual_information=4.5,
    marginal_kl=interval,
    prior_information=interval,
    total_correlation=interval,
    active_units=2,
    kl_by_dimension=(0.5, 2.75, 0.25),
    variance_by_dimension=(0.5, 0.75, 0.0),
    variance_spectrum=(1.0, 0.25, 0.0),
  )


def the_use(points=('input', 'memory')):
  def change(gap):
    return use.Change(nll=20.0 + gap, gap=gap, error=0.125)

  return use.Use(
    texts=4,
    own_nll=20.0,
    shuffled=change(6.25),
    zeroed=change(4.0),
    prior=change(5.0),
    knocked_out={point: change(n + 1.0) for n, point in enumerate(points)},
    alone={point: change(n + 2.0) for n, point in enumerate(points)},
    memory_mass=((0.5, 0.25), (0.0, 0.125)),
    even_mass=0.25,
    positions=tuple(
      use.Position(
        position=place,
        texts=4 // place,
        nll=2.0,
        prior_gain=1.0 / place,
        shuffled_gain=1.5 / place,
      )
      for place in (1, 2, 4)
    ),
    verdict='used',
    evidence=("another text's z costs 6.25 nats",),
  )


def an_exhibit(texts=('one two', 'two three', 'four', 'five six')):
  texts = list(texts)
  mean = np.random.default_rng(0).normal(size=(len(texts), 3))
  view = maps.principal_axes(mean)
  return exhibit.Exhibit(
    texts=texts,
    groups={'label': [text[0] for text in texts], 'length': ['short'] * 4},
    views=[view, view._replace(name='t-SNE', unit='')],
    copies=[exhibit.compare(text, f'{text} more') for text in texts],
    ways=[[texts[0], 'between', texts[1]]],
    samples=[f'{text} sample' for text in texts],
    completions=[],
  )


def a_run(name='run', **changes):
  evaluation = {
    'figures': report(),
    'likelihood': the_likelihood(),
    'information': the_information(),
    'use': the_use(),
  }
  chosen = dict(
    name=name,
    step=30,
    split='test',
    settings={
      'seed': 0,
      'data': {'source': 'files', 'path': 'texts.txt'},
      'model': {'injection': {'points': ['input', 'memory']}},
    },
    lines=[
      {'step': 10, 'train/nll': 5.0, 'train/kl': 2.0},
      {'step': 20, 'train/nll': 4.0, 'evaluate/nll': 4.5},
    ],
    provenance={'split': 'test', 'seed': 0, 'seconds': {'use': 1.5}},
    evaluation=evaluation,
    exhibit=an_exhibit(),
  )
  return exhibit.Run(**{**chosen, **changes})
