"""What is given with a text: its parts, its tokens, and where both are read."""

import dataclasses
import json

import numpy as np
import pytest

from lvdecode import errors
from lvdecode.text import batching
from lvdecode.text import conditions
from lvdecode.text import corpora
from lvdecode.text import files
from lvdecode.text import labels
from lvdecode.text import pipeline
from lvdecode.text import sources
from lvdecode.text import tokenizers

BLANK = conditions.BLANK
_WORDS = [f'w{n}' for n in range(30)]


def _data(**changes) -> sources.DataSettings:
  values = {
    'source': 'files',
    'path': '',
    'text_field': 'text',
    'label_field': '',
    'condition_field': '',
    'story': '',
    'limit': 0,
    'label_share': 1.0,
  }
  return sources.DataSettings(**(values | changes))


def _settings(**changes) -> pipeline.PipelineSettings:
  values = {
    'batch_size': 4,
    'lengths': (6, 10),
    'overlong': 'truncate',
    'encoder_length': 8,
    'condition_length': 8,
    'workers': 0,
  }
  return pipeline.PipelineSettings(**(values | changes))


def _trained(texts, markers=(), kind='word', vocab_size=300):
  settings = tokenizers.TokenizerSettings(
    kind=kind, vocab_size=vocab_size, path='', added=()
  )
  return tokenizers.train(settings, texts, markers)


def _write(tmp_path, name, lines, **changes):
  (tmp_path / name).write_text('\n'.join(lines), 'utf-8')
  return _data(path=str(tmp_path / name), **changes)


def _story(number, sentences=5):
  return [f'w{number} s{place} .' for place in range(sentences)]


def _stories(tmp_path, kind, count=60):
  lines = [json.dumps({'text': _story(n)}) for n in range(count)]
  return _write(tmp_path, 'stories.jsonl', lines, story=kind)


def _read(settings, tmp_path, split='train'):
  return sources.read(settings, split, tmp_path / 'cache')


def test_any_sentence_of_a_story_may_be_the_missing_one():
  story = ['a .', 'b .', 'c .']
  assert list(conditions.story(story, 'missing')) == [
    ((BLANK, 'b .', 'c .'), 'a .'),
    (('a .', BLANK, 'c .'), 'b .'),
    (('a .', 'b .', BLANK), 'c .'),
  ]
  assert list(conditions.story(story, 'ending')) == [(('a .', 'b .'), 'c .')]
  assert list(conditions.story(story, 'prompt')) == [(('a .',), 'b . c .')]


@pytest.mark.parametrize(
  ('kind', 'parts'),
  [
    ('missing', ['a .', 'b .', 'c .']),
    ('ending', ['a .', 'b .']),
    ('prompt', ['a .']),
  ],
)
def test_what_a_story_asks_for_is_not_given(tmp_path, kind, parts):
  path = tmp_path / 'some.jsonl'
  path.write_text(json.dumps({'text': ['a .', 'b .', 'c .']}))
  fields = _stories(tmp_path, kind).fields
  assert files.read_given(path, fields) == [(f'{path}:1', parts)]
  (tmp_path / 'none.txt').write_text('\n \n')
  with pytest.raises(errors.UserError, match='none.txt holds no condition'):
    files.read_given(tmp_path / 'none.txt', fields)
  with pytest.raises(errors.UserError, match='make it a .txt'):
    files.read_given(tmp_path / 'some.tsv', fields)


def test_a_limit_keeps_every_sentence_of_stories(tmp_path):
  settings = dataclasses.replace(_stories(tmp_path, 'missing', 100), limit=50)
  asked = [text.split()[1] for text in _read(settings, tmp_path).texts]
  assert len(asked) == 50 and set(asked) == {f's{place}' for place in range(5)}


@pytest.mark.parametrize('kind', ['missing', 'ending', 'prompt'])
def test_a_story_is_never_on_both_sides(tmp_path, kind):
  settings = _stories(tmp_path, kind)
  parts = {split: _read(settings, tmp_path, split) for split in files.SPLITS}
  there = {
    split: {text.split()[0] for text in texts.texts}
    for split, texts in parts.items()
  }
  assert sum(map(len, there.values())) == 60 == len(set.union(*there.values()))
  assert len(there['test']) == 3
  each = 5 if kind == 'missing' else 1
  assert len(parts['test'].texts) == 3 * each == len(parts['test'].given)
  for text, given in zip(parts['test'].texts, parts['test'].given, strict=True):
    whole = ' '.join(given).replace(BLANK, text)
    expected = ' '.join(_story(text.split()[0][1:]))
    assert (whole if kind == 'missing' else f'{whole} {text}') == expected


def test_prompts_and_stories_are_two_fields(tmp_path):
  lines = [
    json.dumps({'prompt': f'[ WP ] w{n}', 'text': ['one .', f'two {n} .']})
    for n in range(40)
  ]
  settings = _write(tmp_path, 'a.jsonl', lines, condition_field='prompt')
  texts = _read(settings, tmp_path)
  assert texts.given[0][0].startswith('[ WP ] w')
  assert texts.texts[0].startswith('one . two ')
  assert sources.markers(settings, texts) == ()
  written = sources.written(texts, ())
  assert set(written) == {*texts.texts, *(g[0] for g in texts.given)}


def test_a_tsv_may_have_three_columns(tmp_path):
  lines = [f'{"good" * (n % 2)}\taspect {n}\ttext {n}' for n in range(40)]
  settings = _write(tmp_path, 'a.tsv', lines, condition_field='condition')
  texts = _read(settings, tmp_path)
  for text, label, (given,) in zip(
    texts.texts, texts.labels, texts.given, strict=True
  ):
    number = int(text.split()[1])
    assert given == f'aspect {number}'
    assert label == 'good' * (number % 2)
  assert labels.names(texts.labels) == ('good',)
  assert sources.markers(settings, texts) == ()
  assert set(labels.numbers(texts.labels, ('good',))) == {0, -1}


def test_where_nothing_is_given_a_marker_stands(tmp_path):
  lines = [f'good\tw{n}\tw{n} <none> w1' for n in range(40)]
  lines += [f'\t<none>\tw{n} w1' for n in range(40)]
  settings = _write(tmp_path, 'a.tsv', lines, condition_field='condition')
  texts = _read(settings, tmp_path)
  markers = sources.markers(settings, texts)
  assert markers == ('<none>',)
  tokenizer = _trained(sources.written(texts, markers), markers)
  (ids,) = tokenizer.encode(['w1 <none>'])
  assert tokenizer.markers['<none>'] not in ids  # no text has it


def test_texts_of_one_origin_are_no_draws_of_their_own(tmp_path):
  stories = _read(_stories(tmp_path, 'missing'), tmp_path)
  assert sources.groups(stories).tolist() == [
    row // 5 for row in range(len(stories.texts))
  ]
  endings = _read(_stories(tmp_path, 'ending'), tmp_path)
  assert len(set(sources.groups(endings))) == len(endings.texts)
  aspects = sources.Texts(
    ['a b c', 'd', 'a b c'], None, {}, [('a',), ('d',), ('b',)]
  )
  assert sources.groups(aspects).tolist() == [0, 1, 0]
  labels_of = [('<label:x>',), ('<label:y>',), ('<label:x>',)]
  assert sources.groups(aspects._replace(given=labels_of)) is None
  assert sources.groups(aspects._replace(given=None)) is None


def _labelled(tmp_path):
  lines = [f'{"good" if n % 2 else "bad"}\tw{n % 30} w1' for n in range(90)]
  return _write(tmp_path, 'l.tsv', lines, condition_field='label')


def test_a_label_is_a_condition_of_one_token(tmp_path):
  settings = _labelled(tmp_path)
  texts = _read(settings, tmp_path)
  markers = sources.markers(settings, texts)
  assert markers == ('<label:bad>', '<label:good>')
  tokenizer = _trained(sources.written(texts, markers), markers)
  plain = _trained(texts.texts)
  # The ids of words are those of a tokenizer without the labels.
  assert tokenizer.encode(texts.texts) == plain.encode(texts.texts)
  assert tokenizer.vocab_size == plain.vocab_size + 2
  corpus = corpora.tokenize(
    texts.texts,
    tokenizer,
    _settings(condition_length=3),
    given=texts.given,
    labels=texts.labels,
    label_names=('bad', 'good'),
  )
  seen = set()
  for batch, rows in batching.eval_batches(corpus, 8, (6, 10)):
    assert batch.condition.tokens.shape == (8, 3)
    assert batch.condition.visible.sum(axis=1).tolist() == [1] * 8
    for row, tokens, label in zip(
      rows, batch.condition.tokens, batch.label, strict=True
    ):
      if row >= 0:
        name = texts.labels[row]
        assert tokens[0] == tokenizer.markers[f'<label:{name}>']
        assert corpus.label_names[label] == name
        seen.add(row)
  assert len(seen) == len(texts.texts)


def test_a_factor_of_the_embedded_set_may_be_given():
  settings = _data(source='embedded', condition_field='tense')
  assert settings.labels_given and settings.conditional
  assert settings.given('past') == ('<label:past>',)
  with pytest.raises(errors.UserError, match="did you mean 'tense'"):
    _data(source='embedded', condition_field='tens')


@pytest.mark.parametrize('kind', ['word', 'bpe', 'char'])
def test_no_text_spells_a_marker(kind, tmp_path):
  texts = [f'a text with {BLANK} in it', 'and <label:good> , too']
  markers = (BLANK, '<label:good>')
  tokenizer = _trained(texts, markers, kind)
  assert list(tokenizer.markers) == list(markers)
  assert max(tokenizer.markers.values()) == tokenizer.vocab_size - 1
  tokenizer.save(tmp_path)
  for opened in (tokenizer, tokenizers.load(tmp_path)):
    assert opened.markers == tokenizer.markers
    ids = {token for text in opened.encode(texts) for token in text}
    assert ids.isdisjoint(opened.markers.values())
    given = [(BLANK, f'with {BLANK}'), ('<label:good>',)]
    encoded = conditions.encode(given, opened, 40)
    assert [row[0] for row in encoded.condition.tokens] == [
      opened.markers[marker] for marker in markers
    ]
    only = np.isin(encoded.condition.tokens, list(opened.markers.values()))
    assert only.sum() == 2


def test_a_given_tokenizer_must_have_the_markers(tmp_path):
  _trained(_WORDS).save(tmp_path)
  settings = tokenizers.TokenizerSettings(
    kind='file', vocab_size=0, path=str(tmp_path), added=()
  )
  with pytest.raises(errors.UserError, match=r"added to \('<blank>',\)"):
    tokenizers.train(settings, [], (BLANK,))
  settings = tokenizers.TokenizerSettings(
    kind='file', vocab_size=0, path=str(tmp_path), added=(BLANK,)
  )
  assert tokenizers.train(settings, [], (BLANK,)).markers == {
    BLANK: len(_WORDS) + 4
  }


def test_the_markers_count_towards_the_size():
  tokenizer = _trained(_WORDS, (BLANK, '<label:a>'), vocab_size=20)
  assert tokenizer.vocab_size == 20
  with pytest.raises(errors.UserError, match='tokenizer.vocab_size is 6'):
    _trained(_WORDS, (BLANK, '<label:a>'), vocab_size=6)


def _by_hand(given, tokenizer, length):
  """Row by row, token by token."""
  tokens, segments = [], []
  for parts in given:
    pairs = [
      (token, place)
      for place, part in enumerate(parts)
      for token in (
        [tokenizer.markers[part]]
        if part in tokenizer.markers
        else tokenizer.encode([part])[0]
      )
    ]
    cut = len(pairs) - length  # so many words, from the left
    while cut > 0:
      word = next(
        n
        for n, (token, _) in enumerate(pairs)
        if token not in tokenizer.markers.values()
      )
      del pairs[word]
      cut -= 1
    fill = length - len(pairs)
    tokens.append([token for token, _ in pairs] + [tokenizer.pad] * fill)
    segments.append([place for _, place in pairs] + [0] * fill)
  return tokens, segments


def test_conditions_are_encoded_part_by_part():
  rng = np.random.default_rng(0)
  tokenizer = _trained(_WORDS, (BLANK,))
  given = [
    tuple(
      BLANK if rng.random() < 0.2 else ' '.join(rng.choice(_WORDS[:25], size))
      for size in rng.integers(1, 5, rng.integers(1, 6))
    )
    for _ in range(200)
  ]
  encoded = conditions.encode(given, tokenizer, 8)
  tokens, segments = _by_hand(given, tokenizer, 8)
  assert encoded.condition.tokens.tolist() == tokens
  assert encoded.condition.segments.tolist() == segments
  np.testing.assert_array_equal(
    encoded.condition.visible, np.array(tokens) != tokenizer.pad
  )
  whole = [len(' '.join(parts).split()) for parts in given]
  assert encoded.truncated.tolist() == [size > 8 for size in whole]
  assert 0 < encoded.truncated.sum() < 200


def test_a_blank_outlives_what_stands_beside_it():
  tokenizer = _trained(_WORDS, (BLANK,))
  given = [('w1 w2', BLANK, 'w3 w4 w5'), (BLANK, 'w1 w2 w3'), ('w1', BLANK)]
  encoded = conditions.encode(given, tokenizer, 3)
  (ids,) = tokenizer.encode(['w1 w2 w3 w4 w5'])
  blank = tokenizer.markers[BLANK]
  assert encoded.condition.tokens.tolist() == [
    [blank, *ids[3:]],
    [blank, *ids[1:3]],
    [ids[0], blank, tokenizer.pad],
  ]
  assert encoded.condition.segments.tolist() == [
    [1, 2, 2],
    [0, 1, 1],
    [0, 1, 0],
  ]
  assert encoded.truncated.tolist() == [True, True, False]


def test_more_blanks_than_there_is_room_for_are_cut():
  tokenizer = _trained(_WORDS, (BLANK,))
  encoded = conditions.encode([(BLANK,) * 3], tokenizer, 2)
  assert encoded.condition.tokens.tolist() == [[tokenizer.markers[BLANK]] * 2]
  assert encoded.condition.visible.tolist() == [[True, True]]


def test_unknown_tokens_of_conditions_are_counted():
  tokenizer = _trained(_WORDS)
  corpus = corpora.tokenize(
    ['w1', 'w2'], tokenizer, _settings(), given=[('w1 x y',), ('w3', 'z')]
  )
  assert (corpus.conditions_unknown, corpus.unknown) == (3, 0)


@pytest.mark.parametrize('overlong', ['truncate', 'drop'])
def test_overlong_conditions_are_counted(overlong):
  tokenizer = _trained(_WORDS)
  given = [('w1 w2 w3',), ('w1', 'w2 w3 w4'), ('w5',)]
  texts = ['w1', 'w2', ' '.join(_WORDS)]
  settings = _settings(condition_length=3, overlong=overlong)
  corpus = corpora.tokenize(texts, tokenizer, settings, given=given)
  if overlong == 'drop':
    assert corpus.rows.tolist() == [0]
    assert (corpus.dropped, corpus.conditions_truncated) == (2, 0)
    assert len(corpus.condition.tokens) == 1
    with pytest.raises(errors.UserError, match='condition_length = 3'):
      corpora.tokenize(texts[1:2], tokenizer, settings, given=given[1:2])
  else:
    assert (corpus.truncated, corpus.conditions_truncated) == (1, 1)
    (ids,) = tokenizer.encode(['w2 w3 w4'])
    assert corpus.condition.tokens[1].tolist() == ids
    assert corpus.condition.segments[1].tolist() == [1, 1, 1]


def test_the_first_that_is_too_long_is_named_and_can_be_refused(tmp_path):
  tokenizer = _trained(_WORDS)
  path = tmp_path / 'texts.tsv'
  path.write_text(
    '\n\tw1 w2\tw3\n\tw1 w2 w3 w4\tw5\n\tw1\tw2 w3 w4 w5 w6 w7 w8\n\tw4\tw5\n'
  )
  data = _data(path=str(path), condition_field='condition')
  rows = files.parse(files.load(str(path)), data.fields)
  train = [row for split in rows.values() for row in split]
  train.sort(key=lambda row: row.place)
  texts = sources.Texts(
    [row.text for row in train], None, {}, [row.condition for row in train]
  )
  chosen = dict(condition_length=3, lengths=(4, 6))
  for overlong in ('truncate', 'drop'):
    settings = _settings(**chosen, overlong=overlong)
    corpus = corpora.tokenize(
      texts.texts, tokenizer, settings, given=texts.given
    )
    assert corpus.first_overlong == 1
    assert sources.place(data, texts, 1) == f'{path}:3'
  settings = _settings(**chosen, overlong='refuse')
  with pytest.raises(
    errors.RowError, match="'w1 w2 w3 w4' is longer than .*_length = 3"
  ) as refused:
    corpora.tokenize(texts.texts, tokenizer, settings, given=texts.given)
  assert refused.value.row == 1
  with pytest.raises(errors.RowError, match='has 7 tokens.*room for 4'):
    corpora.tokenize(texts.texts[2:], tokenizer, settings)
  short = corpora.tokenize(texts.texts[:1], tokenizer, settings)
  assert short.first_overlong is None
  # What no file holds any more is a row.
  assert sources.place(data, texts._replace(texts=['?'] * 4), 1) == 'row 2'


def test_a_label_that_is_none_of_the_runs_is_named_with_its_row():
  labels.check(['good', '', 'bad'], ('bad', 'good'))
  with pytest.raises(errors.RowError, match="'goood'.*mean 'good'") as refused:
    labels.check(['good', '', 'goood'], ('bad', 'good'))
  assert refused.value.row == 2


def test_what_is_given_stays_with_its_text(tmp_path):
  settings = _stories(tmp_path, 'missing', 40)
  texts = _read(settings, tmp_path)
  tokenizer = _trained(sources.written(texts, (BLANK,)), (BLANK,))
  chosen = _settings(condition_length=16, lengths=(5, 10))
  corpus = corpora.tokenize(texts.texts, tokenizer, chosen, given=texts.given)
  iterator = batching.train_batches(corpus, chosen, seed=0)
  for _ in range(20):
    batch = next(iterator)
    assert batch.condition.tokens.dtype == np.int32
    for text, tokens, visible, segments in zip(
      batch.tokens, *batch.condition, strict=True
    ):
      blank = np.flatnonzero(tokens == tokenizer.markers[BLANK])
      name, place, _ = tokenizer.decode(text).split()
      assert segments[blank].tolist() == [int(place[1:])]
      assert name in tokenizer.decode(tokens).split()
      assert (tokens[~visible] == tokenizer.pad).all()
      assert (segments[~visible] == 0).all()
  iterator.close()


@pytest.mark.parametrize(
  ('typed', 'kind', 'parts'),
  [
    (f'One. Two! {BLANK} Four?', 'missing', ('One.', 'Two!', BLANK, 'Four?')),
    (f'One.{BLANK}', 'missing', ('One.', BLANK)),
    (['a b', BLANK], 'missing', ('a b', BLANK)),
    ('One. Two.', 'ending', ('One.', 'Two.')),
    ('One. Two.', 'prompt', ('One. Two.',)),
    (' One. Two. ', '', ('One. Two.',)),
    (['One.', 'Two.'], '', ('One.', 'Two.')),
  ],
)
def test_a_typed_condition_has_the_parts_of_the_data(typed, kind, parts):
  assert conditions.given(typed, kind, labels=False) == parts


@pytest.mark.parametrize(
  ('typed', 'kind', 'message'),
  [
    ('', '', "condition '' is empty"),
    ([], '', 'is empty'),
    (['a', ' '], '', 'is empty'),
    ('One. Two.', 'missing', 'has 0 sentences <blank>'),
    (f'{BLANK} {BLANK}', 'missing', 'has 2 sentences <blank>'),
  ],
)
def test_a_typed_condition_that_gives_nothing_is_refused(typed, kind, message):
  with pytest.raises(errors.UserError, match=message):
    conditions.given(typed, kind, labels=False)


def test_an_unknown_label_is_answered_with_those_there_are():
  tokenizer = _trained(_WORDS, ('<label:bad>', '<label:good>'))
  given = [conditions.given('goood', '', labels=True)]
  with pytest.raises(errors.UserError, match="did you mean 'good'"):
    corpora.condition_of(given, tokenizer, _settings())


_TSV = {'condition_field': 'condition'}
_FIELD = {'condition_field': 'p'}
_STORY = {'story': 'missing'}


@pytest.mark.parametrize(
  ('name', 'content', 'changes', 'message'),
  [
    ('a.tsv', 'l\tc\tt\nl\tc\t\n', _TSV, 'a.tsv:2: 3 columns, 2 of them'),
    ('a.tsv', 'l\tc\tt\nl\t\tt\n', _TSV, 'a.tsv:2: 3 columns, 2 of them'),
    ('a.tsv', 'l\tt\n', _TSV, 'a.tsv:1: 2 columns'),
    ('a.tsv', 'l\tt\n', _FIELD, "data.condition_field = 'p'"),
    ('a.tsv', 'l\tt\n', _STORY, "data.story 'missing' reads lists"),
    ('a.txt', 't\n', _FIELD, 'has only texts'),
    ('a.txt', 't\n', {'label_field': 'l'}, "data.label_field 'l'"),
    ('a.jsonl', '{"text": "a"}\n', _FIELD, "a.jsonl:1: no field 'p'"),
    ('a.jsonl', '{"text": "a", "p": " "}', _FIELD, "field 'p' is ' '"),
    ('a.jsonl', '{"text": "a", "p": []}', _FIELD, "field 'p' is []"),
    ('a.jsonl', '{"text": "", "p": "b"}', _FIELD, "field 'text' is ''"),
    ('a.jsonl', '{"text": "a", "p": "\\ud83d"}', _FIELD, 'surrogate'),
    ('a.jsonl', '{"text": ["a"]}', _STORY, 'a.jsonl:1: field'),
    ('a.jsonl', '{"text": "a b"}', _STORY, 'at least 2'),
    ('a.jsonl', '{"text": ["a", " "]}', _STORY, 'a.jsonl:1: sentence 2'),
    ('a.jsonl', '{"text": ["a", "<blank>"]}', _STORY, 'a.jsonl:1: a sentence'),
    ('a.jsonl', '{"text": "a", "p": %s}' % ('7' * 5000), _FIELD, 'a.jsonl:1'),
    ('a.jsonl', '[' * 200_000, _FIELD, 'a.jsonl:1: JSON that cannot be read'),
    (
      'a.jsonl',
      '{"text": "a", "l": "x\\ud800"}',
      {'label_field': 'l'},
      "a.jsonl:1: field 'l' holds half a surrogate pair",
    ),
    (
      'a.jsonl',
      '{"text": "a"}',
      {'condition_field': 'label'},
      'needs data.label_field',
    ),
    (
      'a.jsonl',
      '{"text": "a", "l": ""}',
      {'condition_field': 'l', 'label_field': 'l'},
      'a.jsonl:1: the label is empty',
    ),
  ],
)
def test_a_bad_row_is_named_with_its_place(
  tmp_path, name, content, changes, message
):
  (tmp_path / name).write_text(content)
  with pytest.raises(errors.UserError) as error:
    _read(_data(path=str(tmp_path / name), **changes), tmp_path)
  assert message in str(error.value)
  assert '\n' not in str(error.value)


def test_a_label_that_was_not_learned_is_named_with_its_place(tmp_path):
  for split in files.SPLITS:
    label = 'gooood' if split == 'test' else 'good'
    (tmp_path / f'{split}.tsv').write_text(f'good\ta b\n{label}\ta\n')
  settings = _data(path=str(tmp_path), condition_field='label')
  with pytest.raises(errors.UserError, match=r"test.tsv:2.*label 'gooood'"):
    _read(settings, tmp_path)


def test_a_label_that_was_held_out_is_not_blamed_on_its_row(tmp_path):
  path = tmp_path / 'one.tsv'
  path.write_text(''.join(f'label{n}\ttext {n}\n' for n in range(60)))
  settings = _data(path=str(path), condition_field='label')
  with pytest.raises(errors.UserError, match='were held out for validation'):
    _read(settings, tmp_path)


def test_a_row_that_a_limit_leaves_without_its_label_is_named(tmp_path):
  labels_of = ['rare' if n in (1, 11) else 'often' for n in range(400)]
  for split in files.SPLITS:
    lines = [f'{label}\t{split} {n}\n' for n, label in enumerate(labels_of)]
    (tmp_path / f'{split}.tsv').write_text(''.join(lines))
  settings = _data(path=str(tmp_path), condition_field='label', limit=2)
  train = _read(settings, tmp_path)
  tokenizer = _trained(_WORDS, sources.markers(settings, train))
  whole = _read(dataclasses.replace(settings, limit=0), tmp_path, 'test')
  with (
    pytest.raises(errors.UserError, match="test.tsv:2: no training.*'rare'"),
    sources.placed(settings, whole),
  ):
    corpora.tokenize(whole.texts, tokenizer, _settings(), given=whole.given)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'story': 'ending', 'condition_field': 'x'}, 'both say what is given'),
    ({'source': 'embedded', 'story': 'ending'}, 'data.source must be files'),
    ({'source': 'ptb', 'condition_field': 'x'}, "'ptb' has only texts"),
    ({'source': 'tfds:a', 'condition_field': 'label'}, 'data.label_field'),
    ({'condition_field': 'text'}, "one field, 'text'"),
    ({'condition_field': 'label', 'label_field': 'text'}, "one field, 'text'"),
  ],
)
def test_settings_name_the_mistake(changes, message):
  with pytest.raises(errors.UserError, match=message):
    _data(**({'path': 'x'} | changes))


def test_what_is_given_changes_the_fingerprint(tmp_path):
  settings = _stories(tmp_path, 'missing', 20)
  prints = {
    sources.fingerprint(
      _data(path=settings.path, story=kind), tmp_path / 'cache'
    )
    for kind in ('missing', 'ending', 'prompt')
  }
  assert len(prints) == 3
