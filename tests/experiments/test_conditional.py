"""From stories and labels to commands that complete, fill and classify."""

import json

import house
import pytest

from configs import prompt_story_cvae
from configs import rocstories_tcvae
from configs import yelp_label
from experiments import run
import lvdecode
from lvdecode import settings as settings_lib
from lvdecode.evaluation import measures
from lvdecode.evaluation import split as split_lib
from lvdecode.text import sources

pytestmark = pytest.mark.slow
BLANK = '<blank>'


def _story(number):
  who = ('Tom', 'Ann', 'Sam', 'Eve')[number % 4]
  what = ('soup', 'cake', 'bread', 'tea', 'pie')[number % 5]
  return [
    f'{who} made {what}.',
    'It was hot.',
    f'{who} burnt a hand.',
    f'The {what} fell {number}.',
    f'{who} was sad.',
  ]


def _trained(config, folder, path):
  config.data.path = str(path)
  config.training.parallel = 'jit'
  config.training.steps = 4
  config.training.evaluate_every = 4
  config.training.checkpoint_every = 4
  config.objective.beta.duration = '4 steps'
  run.train(settings_lib.from_dict(config.to_dict()), folder)
  return folder


@pytest.fixture(name='stories', scope='module')
def _stories(tmp_path_factory):
  home = tmp_path_factory.mktemp('stories')
  lines = [json.dumps({'sentences': _story(n)}) for n in range(60)]
  (home / 'stories.jsonl').write_text('\n'.join(lines))
  config = rocstories_tcvae.get_config('quick')
  config.pipeline.condition_length = 48
  return _trained(config, home / 'run', home / 'stories.jsonl')


@pytest.fixture(name='labelled', scope='module')
def _labelled(tmp_path_factory):
  home = tmp_path_factory.mktemp('labelled')
  lines = [
    f'{"good" if n % 2 else "bad"}\tit was {n} times so' for n in range(99)
  ]
  (home / 'texts.tsv').write_text('\n'.join(lines))
  config = yelp_label.get_config('quick')
  return _trained(config, home / 'run', home / 'texts.tsv')


@pytest.mark.parametrize('arg', ['long,turns', 'long'])
def test_prompts_and_long_stories_are_trained(tmp_path, arg):
  """The fields, the lengths, what is computed again, and turns."""
  lines = [
    json.dumps(
      {
        'prompt': f'what of {n} ?',
        'story': 'so it went . ' * (30 + 25 * (n % 3)),
      }
    )
    for n in range(60)
  ]
  (tmp_path / 'stories.jsonl').write_text('\n'.join(lines))
  config = prompt_story_cvae.get_config(f'quick,{arg}')
  config.pipeline.batch_size = 4
  config.pipeline.lengths = (64, 384)
  config.tokenizer.vocab_size = 300
  config.evaluation.texts = 4
  for part in (config.model.decoder, config.model.encoder):
    part.width = 16
  folder = _trained(config, tmp_path / 'run', tmp_path / 'stories.jsonl')
  model = lvdecode.load(folder)
  assert model.config.model.remat == 'dots'
  assert model.config.model.decoder.positions == 1_088
  (texts,) = model.complete(['what of 3 ?'], n=2)
  assert len(texts) == 2


def _sample(workdir, *flags):
  chosen = (f'--workdir={workdir}', '--format=json', *flags)
  code, out, err = house.call(house.ROOT, 'experiments.sample', *chosen)
  return code, [json.loads(line) for line in out.splitlines()], err


def test_the_missing_sentence_is_filled_in(stories, tmp_path):
  typed = f'Tom made soup. {BLANK} It was hot. Tom was sad.'
  code, lines, err = _sample(
    stories, '--mode=fill', '--num=2', f'--text={typed}', '--ranked=3'
  )
  assert code == 0, err
  assert [list(line) for line in lines] == [['story'], *[['sentence']] * 2]
  assert lines[0]['story'] == typed
  # In a file, parts are told apart by who wrote it.
  file = tmp_path / 'given.jsonl'
  file.write_text(json.dumps({'sentences': ['It was hot.', BLANK, 'So!']}))
  code, lines, err = _sample(
    stories, '--mode=complete', '--num=1', f'--input={file}'
  )
  assert code == 0, err
  assert lines[0] == {'given': f'It was hot. {BLANK} So!'}


@pytest.mark.parametrize(
  'mode',
  [
    'prior',
    pytest.param('reconstruct', marks=pytest.mark.long),
    pytest.param('fill', marks=pytest.mark.long),
  ],
)
def test_conditions_are_those_of_the_test_split(stories, mode):
  code, lines, err = _sample(stories, f'--mode={mode}', '--num=2')
  assert code == 0, err
  given = [line.get('given') or line.get('story') for line in lines]
  assert BLANK in given[0]
  assert len(lines) == {'prior': 2, 'reconstruct': 2, 'fill': 4 * 3}[mode]


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (('--mode=fill', '--text=Tom made soup.'), 'has 0 sentences <blank>'),
    (('--mode=complete', '--text= '), 'is empty'),
    (('--mode=interpolate',), 'use --mode=complete'),
    (('--mode=reconstruct', '--text=Tom.'), 'use --mode=complete'),
  ],
)
def test_a_mistake_in_what_is_given_is_one_line(stories, flags, message):
  code, lines, err = _sample(stories, *flags)
  assert (code, lines) == (2, [])
  assert message in err and err.count('\n') == 1


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    ('Tom made soup. It was hot.', 'has 0 sentences <blank>'),
    (f'Tom made soup. {BLANK}' + ' It was hot.' * 30, 'longer than the 48'),
  ],
)
def test_a_mistake_in_a_file_is_named_with_its_line(
  stories, tmp_path, line, message
):
  file = tmp_path / 'given.txt'
  file.write_text(f'Tom made soup. {BLANK} It was hot.\n\n{line}\n')
  code, lines, err = _sample(stories, '--mode=fill', f'--input={file}')
  assert (code, lines) == (2, [])
  assert f'{file}:3: ' in err and message in err and err.count('\n') == 1


def test_a_label_is_given_by_its_name(labelled):
  code, lines, err = _sample(
    labelled, '--mode=complete', '--num=2', '--text=good'
  )
  assert code == 0, err
  assert lines[0] == {'given': 'good'} and len(lines) == 3
  code, _, err = _sample(labelled, '--mode=complete', '--text=goood')
  assert code == 2 and "did you mean 'good'" in err
  code, _, err = _sample(labelled, '--mode=fill')
  assert code == 2 and "data.story = 'missing'" in err


def _asked(workdir):
  model = lvdecode.load(workdir)
  data = sources.read(model.config.data, 'test', workdir / 'data')
  split = split_lib.Split(
    task=model.task,
    params=model.params,
    corpus=model.tokenize(data.texts, data.given, data.labels),
    batch_size=16,
    lengths=model.config.pipeline.lengths,
    seed=0,
  )
  return measures.Asked(model, split, data, 2, lambda texts: None)


def test_every_section_that_applies_is_measured(stories, labelled):
  for workdir, wanted in (
    (stories, {'completion', 'text'}),
    (labelled, {'completion', 'classification', 'text'}),
  ):
    asked = _asked(workdir)
    names = measures.applicable(['all'], asked.model, asked.data, 'test')
    assert wanted < set(names) and 'codes' not in names
    for name in wanted:
      section = measures.SECTIONS[name]
      found = section.measure(asked)
      assert isinstance(found, section.kind)
      section.to_table(found, name)


def test_labels_are_kept_with_the_run(labelled):
  assert lvdecode.load(labelled).labels == ('bad', 'good')
