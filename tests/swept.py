"""A sweep over three sets of injection points, and what it might come to."""

import json

from configs import base
from lvdecode.sweeps import points
from lvdecode.sweeps import table

BASE = base.get_config('quick').to_dict()
TEXTS = 9  # asked for
SETS = ((), ('memory',), ('input', 'memory'))
COMPLETION = {
  'texts': 9,
  'written': {
    'likely words': {
      'bleu': [20.0, 9.0, 5.0, 4.25],
      'distinct_1': 3.5,
      'distinct_2': 23.5,
      'words': 90,
    },
    'drawn words': {
      'bleu': [1.0, 1.0, 1.0, 1.0],
      'distinct_1': 50.0,
      'distinct_2': 60.0,
      'words': 90,
    },
  },
}


def all_points(seeds=2):
  def sweep(add):
    for chosen in SETS:
      for seed in range(seeds):
        add({'model.injection.points': chosen, 'seed': seed})

  return points.expand(BASE, sweep)


def evaluated(folder, point, **changes):
  """Figures that name the point: KL = seed + 10 * points."""
  number = point.settings.seed
  size = len(point.settings.model.injection.points)
  figures = dict(
    samples=5 if size else 1,
    latent_size=8 if size else 0,
    kl=10.0 * size + number,
    reconstruction_nll=70.0 - 10 * size,
    negative_elbo=70.0 + number,
    iw_nll=69.0,
    shuffled_nll=72.0 - 10 * size,
    mutual_information=1.0,
    active_units=2,
    texts=9,
  )
  home = folder / point.name / 'evaluation'
  home.mkdir(parents=True, exist_ok=True)
  last = str(point.settings.training.steps)
  (folder / point.name / 'checkpoints' / last).mkdir(
    parents=True, exist_ok=True
  )
  origin = {
    'asked_texts': TEXTS,
    'asked_step': None,
    'seed': 0,
    'latest_step': point.settings.training.steps,
  }
  text = json.dumps({'figures': figures | changes, 'provenance': origin})
  (home / 'test.json').write_text(text)


def measured(folder, point, **sections):
  """Adds sections to what `evaluated` wrote."""
  path = folder / point.name / 'evaluation' / 'test.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | sections))


def came_from(folder, point, **changes):
  """Changes the provenance of what `evaluated` wrote."""
  path = folder / point.name / 'evaluation' / 'test.json'
  written = json.loads(path.read_text())
  written['provenance'] |= changes
  path.write_text(json.dumps(written))


def rows(folder, found):
  return [table.read(folder, point, 'test', 5, TEXTS) for point in found]
