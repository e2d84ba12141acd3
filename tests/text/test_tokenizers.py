"""Round trips, specials that no text can reach, and files that are given."""

import json

import pytest
import tokenizers as hf

from lvdecode import errors
from lvdecode.text import tokenizers

_TEXTS = [
  'the soup was cold .',
  'the soups were warm !',
  'anna ate the soup , and the dog slept .',
  'les crêpes étaient très bonnes .',
] * 3
_KINDS = [('bpe', 300), ('word', 50), ('char', 60)]


def _train(kind: str, vocab_size: int) -> tokenizers.Tokenizer:
  settings = tokenizers.TokenizerSettings(
    kind=kind, vocab_size=vocab_size, path='', added=()
  )
  return tokenizers.train(settings, _TEXTS)


@pytest.fixture(name='gpt2')
def _gpt2(tmp_path):
  """GPT-2's pair of files, with its alphabet and one merge."""
  alphabet = sorted(hf.pre_tokenizers.ByteLevel.alphabet())
  units = [*alphabet, 'th', '<|endoftext|>']
  vocabulary = {unit: index for index, unit in enumerate(units)}
  (tmp_path / 'vocab.json').write_text(json.dumps(vocabulary), 'utf-8')
  (tmp_path / 'merges.txt').write_text('#version: 0.2\nt h\n', 'utf-8')
  return tmp_path


def _open(path, *added) -> tokenizers.Tokenizer:
  settings = tokenizers.TokenizerSettings(
    kind='file', vocab_size=0, path=str(path), added=added
  )
  return tokenizers.train(settings, [])


@pytest.mark.parametrize(('kind', 'size'), _KINDS)
def test_text_comes_back(kind, size):
  tokenizer = _train(kind, size)
  assert tokenizer.vocab_size <= size
  for text, ids in zip(_TEXTS, tokenizer.encode(_TEXTS), strict=True):
    assert tokenizer.decode(ids) == text
    assert max(ids) < tokenizer.vocab_size


@pytest.mark.parametrize('text', [' two  spaces ', '日本\t\n', 'a\u2028b', ''])
def test_bytes_spell_every_text(text):
  tokenizer = _train('bpe', 300)
  assert tokenizer.unk is None
  assert tokenizer.decode(tokenizer.encode([text])[0]) == text


@pytest.mark.parametrize(('kind', 'size'), _KINDS)
def test_decoding_stops_at_eos_and_skips_specials(kind, size):
  tokenizer = _train(kind, size)
  (ids,) = tokenizer.encode([_TEXTS[0]])
  framed = [tokenizer.bos, *ids, tokenizer.eos, *ids, tokenizer.pad]
  assert tokenizer.decode(framed) == _TEXTS[0]


@pytest.mark.parametrize(('kind', 'size'), _KINDS)
def test_saved_is_loaded(kind, size, tmp_path):
  tokenizer = _train(kind, size)
  tokenizer.save(tmp_path / 'run')
  loaded = tokenizers.load(tmp_path / 'run')
  texts = [*_TEXTS, 'a <eos> <pad> of unseen words']
  assert loaded.encode(texts) == tokenizer.encode(texts)
  for name in ('pad', 'bos', 'eos', 'unk', 'vocab_size'):
    assert getattr(loaded, name) == getattr(tokenizer, name)


@pytest.mark.parametrize(('kind', 'size'), _KINDS)
def test_training_twice_gives_the_same_file(kind, size, tmp_path):
  for run in ('a', 'b'):
    _train(kind, size).save(tmp_path / run)
  files = [tmp_path / run / 'tokenizer.json' for run in ('a', 'b')]
  assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(('kind', 'size'), _KINDS)
@pytest.mark.parametrize('special', ['<pad>', '<bos>', '<eos>'])
def test_no_text_reaches_a_special_token(kind, size, special):
  settings = tokenizers.TokenizerSettings(
    kind=kind, vocab_size=size, path='', added=()
  )
  # Not even when the training texts are full of it.
  tokenizer = tokenizers.train(settings, [*_TEXTS, *[f'a {special} b'] * 9])
  (ids,) = tokenizer.encode([f'a {special} b{special}'])
  assert (tokenizer.pad, tokenizer.bos, tokenizer.eos) == (0, 1, 2)
  assert not {0, 1, 2} & set(ids)
  if kind != 'word':
    assert tokenizer.decode(ids) == f'a {special} b{special}'
  else:
    assert ids[1] == tokenizer.unk


@pytest.mark.parametrize(('kind', 'size'), _KINDS)
def test_half_a_character_is_refused_in_one_line(kind, size):
  tokenizer = _train(kind, size)
  with pytest.raises(errors.UserError, match='not UTF-8 at character 5'):
    tokenizer.encode(['the soup', 'the \udcff soup'])
  with pytest.raises(TypeError):  # a defect of ours, not a text
    tokenizer.encode(['the soup', None])


def test_unknown_words_are_unknown():
  tokenizer = _train('word', 50)
  # Penn Treebank writes its rare words as <unk>: they are unknown too.
  (ids,) = tokenizer.encode(['the <unk> zebra'])
  assert ids[1:] == [tokenizer.unk, tokenizer.unk]
  assert tokenizer.decode(ids) == 'the <unk> <unk>'


def test_the_most_frequent_words_are_kept():
  tokenizer = _train('word', 7)
  assert tokenizer.vocab_size == 7
  (ids,) = tokenizer.encode(['the . soup dog'])
  assert [token == tokenizer.unk for token in ids] == [False] * 3 + [True]


def test_gpt2_files_use_one_special_token(gpt2):
  tokenizer = _open(gpt2)
  assert tokenizer.pad == tokenizer.bos == tokenizer.eos == 257
  assert tokenizer.unk is None
  assert tokenizer.vocab_size == 258
  text = 'then <|endoftext|> thé'
  (ids,) = tokenizer.encode([text])
  assert 256 in ids and 257 not in ids
  assert tokenizer.decode(ids) == text
  assert tokenizer.decode([257, *ids, 257, *ids]) == text


def test_added_specials_move_no_id(gpt2, tmp_path):
  texts = ['then thé', ' two  spaces ', 'a <|pad|> and <|sep|>\n']
  given, more = _open(gpt2), _open(gpt2, '<|pad|>', '<|sep|>')
  assert more.encode(texts) == given.encode(texts)
  assert (more.bos, more.eos) == (257, 257)
  assert (more.pad, more.vocab_size) == (258, 260)
  assert more.decode([*more.encode(texts)[2], more.pad]) == texts[2]
  # What a run stores needs no second addition.
  more.save(tmp_path / 'saved')
  again = tokenizers.load(tmp_path / 'saved')
  assert (again.pad, again.vocab_size) == (258, 260)
  assert again.encode(texts) == given.encode(texts)
  # What a run without them stored says of its end that it is its padding.
  given.save(tmp_path / 'exported')
  padded = tokenizers.load(tmp_path / 'exported', ('<|pad|>',))
  assert (padded.pad, padded.eos) == (258, 257)


def test_an_added_token_may_be_named_beside_the_file(gpt2):
  names = {'pad': '[fill]', 'bos': '[begin]', 'eos': '<|endoftext|>'}
  (gpt2 / 'special_tokens.json').write_text(json.dumps(names))
  tokenizer = _open(gpt2, '[begin]', '[fill]')
  assert (tokenizer.pad, tokenizer.bos, tokenizer.eos) == (259, 258, 257)


def test_what_cannot_be_added_is_refused(gpt2, tmp_path):
  with pytest.raises(errors.UserError, match="'th', which the tokenizer"):
    _open(gpt2, 'th')
  path = tmp_path / 'gaps.json'
  hf.Tokenizer(hf.models.WordLevel({'<s>': 0, '</s>': 2})).save(str(path))
  with pytest.raises(errors.UserError, match='has gaps in its ids'):
    _open(path, '<pad>')


def test_a_given_tokenizer_json_is_opened(tmp_path):
  given = hf.Tokenizer(
    hf.models.WordLevel(
      {'[PAD]': 0, '[UNK]': 1, '[CLS]': 2, '[SEP]': 3, 'soup': 4},
      unk_token='[UNK]',
    )
  )
  given.pre_tokenizer = hf.pre_tokenizers.WhitespaceSplit()
  given.enable_padding(length=9)
  given.enable_truncation(1)
  given.save(str(tmp_path / 'my.json'))
  tokenizer = _open(tmp_path / 'my.json')
  assert (tokenizer.pad, tokenizer.bos, tokenizer.eos) == (0, 2, 3)
  assert tokenizer.unk == 1
  assert tokenizer.encode(['soup soup [SEP]']) == [[4, 4, 1]]


def test_a_given_unigram_model_has_its_unknown_token(tmp_path):
  pieces = [('<unk>', 0.0), ('a', -1.0), ('<pad>', 0.0), ('<s>', 0.0)]
  model = hf.models.Unigram([*pieces, ('</s>', 0.0)], 0)
  hf.Tokenizer(model).save(str(tmp_path / 'my.json'))
  tokenizer = _open(tmp_path / 'my.json')
  assert tokenizer.unk == 0
  assert tokenizer.specials['unk'] == '<unk>'
  assert tokenizer.encode(['aza']) == [[1, 0, 1]]


def test_an_unknown_character_stays_one_character():
  tokenizer = _train('char', 60)
  text = 'the \u1234 soup'
  (ids,) = tokenizer.encode([text])
  assert ids[4] == tokenizer.unk
  written = tokenizer.decode(ids)
  assert len(written) == len(text)
  assert tokenizer.encode([written]) == [ids]


@pytest.mark.parametrize(
  ('kind', 'size', 'cut'),
  [
    ('word', 50, 'the  extraordinary soup'),
    ('char', 60, 'the'),
    ('bpe', 259, 'the'),
  ],
)
def test_a_cut_text_is_as_it_was_written(kind, size, cut):
  text = 'the  extraordinary soup was'
  assert _train(kind, size).cut(text, 3) == cut


def test_unusual_specials_are_named_in_a_file(tmp_path):
  given = hf.Tokenizer(hf.models.WordLevel({'_': 0, '^': 1, '$': 2, 'a': 3}))
  given.save(str(tmp_path / 'tokenizer.json'))
  names = {'pad': '_', 'bos': '^', 'eos': '$'}
  specials = tmp_path / 'special_tokens.json'
  specials.write_text(json.dumps(names))
  tokenizer = _open(tmp_path)
  assert (tokenizer.pad, tokenizer.bos, tokenizer.eos) == (0, 1, 2)
  for wrong in ('{', '{"pad": "_"}', json.dumps(names | {'eos': '!'})):
    specials.write_text(wrong)
    with pytest.raises(errors.UserError, match='special_tokens.json names no'):
      _open(tmp_path)


def test_a_special_that_cannot_be_spelled_is_an_error(tmp_path):
  given = hf.Tokenizer(hf.models.WordLevel({'<s>': 0, '</s>': 1, '<pad>': 2}))
  given.pre_tokenizer = hf.pre_tokenizers.WhitespaceSplit()
  given.save(str(tmp_path / 'tokenizer.json'))
  with pytest.raises(errors.UserError, match='spells a special token'):
    _open(tmp_path).encode(['</s>'])


def test_files_that_cannot_be_used_are_errors(tmp_path):
  with pytest.raises(errors.UserError, match='no tokenizer at'):
    _open(tmp_path)
  (tmp_path / 'tokenizer.json').write_text('{"model"')
  with pytest.raises(errors.UserError, match='cannot be read'):
    _open(tmp_path)
  hf.Tokenizer(hf.models.WordLevel({'a': 0})).save(
    str(tmp_path / 'tokenizer.json')
  )
  with pytest.raises(errors.UserError, match='no pad token'):
    _open(tmp_path)


@pytest.mark.parametrize(
  ('kind', 'size', 'path', 'added', 'message'),
  [
    ('sentencepiece', 100, '', (), "tokenizer.kind is 'sentencepiece'"),
    ('file', 0, '', (), 'tokenizer.path is empty'),
    ('bpe', 258, '', (), 'needs at least 259'),
    ('word', 4, '', (), 'needs at least 5'),
    ('word', 9, '', ('<sep>',), "only 'file' can be given more"),
    ('file', 0, 'a', ('<a>', '<a>'), 'name each token once'),
    ('file', 0, 'a', ('',), 'none empty'),
  ],
)
def test_settings_name_the_mistake(kind, size, path, added, message):
  with pytest.raises(errors.UserError, match=message):
    tokenizers.TokenizerSettings(
      kind=kind, vocab_size=size, path=path, added=added
    )
