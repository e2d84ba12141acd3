"""From sentences with few labels to commands that classify."""

import dataclasses
import json

import house
import numpy as np
import pytest

from configs import aspect_semisupervised
from experiments import run
import lvdecode
from lvdecode import errors
from lvdecode import settings as settings_lib

pytestmark = pytest.mark.slow
FOODS, MOODS = ('soup', 'cake', 'tea pot'), ('bad', 'fair', 'good')
NAMES = dict(zip(MOODS, ('negative', 'neutral', 'positive'), strict=True))


def _lines(count):
  for n in range(count):
    food, mood = FOODS[n % 3], MOODS[n // 3 % 3]
    yield f'{NAMES[mood]}\t{food}\tthe {food} was {mood} at {n}'


def _config(home):
  lines = [*(f'\t<none>\tit was so at {n}' for n in range(40)), *_lines(90)]
  (home / 'train.tsv').write_text('\n'.join(lines))
  (home / 'test.tsv').write_text('\n'.join(_lines(18)))
  config = aspect_semisupervised.get_config('quick')
  config.data.path = str(home)
  config.data.label_share = 0.2
  config.pipeline.lengths = (12,)
  config.training.parallel = 'jit'
  config.training.steps = 4
  config.training.evaluate_every = config.training.checkpoint_every = 4
  config.objective.beta.duration = '4 steps'
  return config


@pytest.fixture(name='trained', scope='module')
def _trained(tmp_path_factory):
  home = tmp_path_factory.mktemp('aspects')
  run.train(settings_lib.from_dict(_config(home).to_dict()), home / 'run')
  return home / 'run'


def _call(command, *flags):
  return house.call(house.ROOT, f'experiments.{command}', *flags)


def test_both_kinds_of_text_are_learned_from(trained):
  lines = (trained / 'metrics.jsonl').read_text().splitlines()
  last = json.loads(lines[-1])
  assert last['evaluate/error'] == 1 - last['evaluate/accuracy']
  assert last['evaluate/negative_elbo'] > 0
  learned = next(json.loads(line) for line in lines if 'train/loss' in line)
  assert learned['train/labelled_bound'] > 0
  assert learned['train/unlabelled_bound'] > 0


def test_a_run_is_evaluated_by_its_labels(trained):
  code, out, err = _call('evaluate', f'--workdir={trained}')
  assert code == 0, err
  assert 'macro-F1' in out
  stored = json.loads((trained / 'evaluation' / 'test.json').read_text())
  judged = stored['classification']
  assert (judged['texts'], judged['samples']) == (18, 0)
  assert judged['majority'] == pytest.approx(1 / 3)
  assert stored['provenance']['texts'] == 18
  model = lvdecode.load(trained)
  fields = [line.split('\t') for line in _lines(18)]
  shares = model.judge([f[2] for f in fields], [f[1] for f in fields])
  given = [model.labels[place] for place in shares.argmax(axis=1)]
  right = np.mean([name == f[0] for name, f in zip(given, fields, strict=True)])
  assert judged['accuracy'] == pytest.approx(right)


def test_texts_without_labels_leave_what_was_measured(trained):
  flags = (f'--workdir={trained}', '--split=train', '--sections=all')
  code, _, err = _call('evaluate', *flags)
  assert code == 0, err
  path = trained / 'evaluation' / 'train.json'
  before = path.read_text()
  code, _, err = _call('evaluate', *flags, '--texts=1')  # the first has none
  assert code == 2 and 'none of classification could be measured' in err, err
  assert path.read_text() == before


def test_sentences_as_a_whole_have_labels_too(trained):
  model = lvdecode.load(trained)
  texts = ['the soup was good', 'the cake was bad', 'it was so']
  whole = model.judge(texts)
  np.testing.assert_allclose(whole.sum(axis=1), np.ones(3), rtol=1e-5)
  np.testing.assert_allclose(whole, model.judge(texts, ['<none>'] * 3))
  of_soup = model.judge(texts, ['soup'] * 3)
  moved = np.abs(whole - of_soup).max(axis=1)
  assert moved[0] > 1e-6
  np.testing.assert_allclose(moved[1:], 0, atol=1e-6)  # no soup there
  with pytest.raises(errors.UserError, match='3 texts need as many aspects'):
    model.judge(texts, ['soup'])
  data = dataclasses.replace(model.config.data, condition_field='')
  model.config = dataclasses.replace(model.config, data=data)
  with pytest.raises(errors.UserError, match='texts without aspects'):
    model.judge(texts, ['soup'] * 3)


@pytest.mark.parametrize(
  ('command', 'flag', 'words'),
  [
    ('evaluate', '--sections=use', '--sections=classification'),
    ('evaluate', '--report', 'leave it out'),
    ('sample', '--mode=prior', 'Model.judge'),
    ('sample', '--mode=complete', 'judge(texts, aspects)'),
    ('export', '--to=nowhere', 'copy its folder'),
  ],
)
def test_what_a_classifier_cannot_do_is_said_in_a_line(
  trained, command, flag, words
):
  code, _, err = _call(command, f'--workdir={trained}', flag)
  assert code == 2, err
  said = [line for line in err.splitlines() if line.startswith('error: ')]
  assert len(said) == 1 and words in said[0]


def test_with_labels_alone_the_rest_is_left_out(tmp_path, capsys):
  config = _config(tmp_path)
  aspect_semisupervised.labels_only(config)
  run.dry_run(settings_lib.from_dict(config.to_dict()), str(tmp_path / 'dry'))
  assert '\n17 training texts' in capsys.readouterr().out  # of 85


def test_labels_that_are_not_the_datas_are_named(tmp_path):
  config = _config(tmp_path)
  for names, message in (
    (('bad', 'good'), r':41: the label .* known are bad, good'),
    (('negative', 'neutral', 'odd', 'positive'), "'positive'.: name these"),
  ):
    config.semi_supervised.labels = names
    built = settings_lib.from_dict(config.to_dict())
    with pytest.raises(errors.UserError, match=message):
      run.dry_run(built, str(tmp_path / 'dry'))
