"""What is opened, what it holds, and every refusal in one line."""

import json
import sys
import types

import foreign
import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from lvdecode.pretrained import folder as folders

TENSORS = {
  'a': np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
  'b': np.ones(4, np.float32),
  'c': np.zeros((), np.float32),
}
SHAPES = {name: array.shape for name, array in TENSORS.items()}


def read(path, wanted=SHAPES, ignored='old'):
  return folders.read(folders.open_folder(str(path)), wanted, ignored)


def test_shards_hold_what_one_file_holds(tmp_path):
  one = read(foreign.save(tmp_path / 'one', {}, TENSORS))
  shards = read(foreign.save_shards(tmp_path / 'shards', {}, TENSORS, 2))
  assert one.keys() == shards.keys() == TENSORS.keys()
  for name, array in TENSORS.items():
    np.testing.assert_array_equal(one[name], array)
    np.testing.assert_array_equal(shards[name], array)


@pytest.mark.parametrize('dtype', [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_floats_become_float32(dtype, tmp_path):
  stored = {name: array.astype(dtype) for name, array in TENSORS.items()}
  got = read(foreign.save(tmp_path, {}, stored))
  for name, array in stored.items():
    assert got[name].dtype == np.float32
    np.testing.assert_array_equal(got[name], array.astype(np.float32))


def test_what_is_ignored_is_not_read(tmp_path):
  tensors = TENSORS | {'old': np.zeros(3, np.int64)}
  assert read(foreign.save(tmp_path, {}, tensors)).keys() == TENSORS.keys()


def test_a_mismatch_names_both_columns_in_one_line(tmp_path):
  foreign.save(tmp_path, {}, TENSORS)
  with foreign.refused(
    'b: expected [5], found [4]',
    'd: expected [1], found nothing',
    'c: expected nothing, found []',
  ):
    read(tmp_path, {'a': (2, 3), 'b': (5,), 'd': (1,)})


def test_a_long_mismatch_is_cut(tmp_path):
  foreign.save(tmp_path, {}, TENSORS)
  with foreign.refused('x0: expected', 'x5: expected', 'and 8 more'):
    read(tmp_path, {f'x{i}': (1,) for i in range(11)})


def test_whole_numbers_are_no_weights(tmp_path):
  foreign.save(tmp_path, {}, TENSORS | {'a': np.zeros((2, 3), np.int8)})
  with foreign.refused('a has numbers of type I8', 'quantised'):
    read(tmp_path)


@pytest.mark.parametrize('kept', [0, 5, 60, -1])
def test_a_truncated_file_is_refused(kept, tmp_path):
  file = foreign.save(tmp_path, {}, TENSORS) / 'model.safetensors'
  file.write_bytes(file.read_bytes()[:kept])
  with foreign.refused(str(file), 'cannot be read', 'fetch it again'):
    read(tmp_path)


def test_a_missing_shard_is_named(tmp_path):
  foreign.save_shards(tmp_path, {}, TENSORS, 2)
  (tmp_path / 'model-00002-of-00002.safetensors').unlink()
  with foreign.refused('names model-00002-of-00002.safetensors', 'not there'):
    read(tmp_path)


def test_a_tensor_in_two_shards_is_refused(tmp_path):
  foreign.save_shards(tmp_path, {}, TENSORS, 2)
  safetensors_numpy.save_file(
    TENSORS, tmp_path / 'model-00002-of-00002.safetensors'
  )
  with foreign.refused('a is in model-00001', 'and in model-00002'):
    read(tmp_path)


def test_an_index_leads_to_no_other_folder(tmp_path):
  other = foreign.save(tmp_path / 'other', {}, TENSORS)
  inside = foreign.save(tmp_path / 'inside', {}, TENSORS)
  (inside / 'model.safetensors').unlink()
  (inside / 'model.safetensors.index.json').write_text(
    json.dumps({'weight_map': {'a': f'../{other.name}/model.safetensors'}})
  )
  with foreign.refused('index.json names model.safetensors', 'not there'):
    read(inside)


def test_two_tensors_of_one_new_name_are_refused(tmp_path):
  opened = folders.open_folder(str(foreign.save(tmp_path, {}, TENSORS)))
  with foreign.refused('a and b are both x'):
    folders.rename(opened, lambda name: 'x' if name in 'ab' else name)


@pytest.mark.parametrize('name', ['pytorch_model.bin', 'model.pt', 'x.ckpt'])
def test_a_pickle_is_refused_with_how_to_convert_it(name, tmp_path):
  (tmp_path / 'config.json').write_text('{}')
  (tmp_path / name).write_bytes(b'not opened')
  with foreign.refused(name, 'may hold code', 'save_pretrained'):
    read(tmp_path)


@pytest.mark.parametrize(
  ('config', 'words'),
  [
    (None, ['config.json is missing']),
    ('{', ['config.json cannot be read']),
    ('[1]', ['config.json holds no object']),
    ('[' * 200_000, ['config.json cannot be read']),
    ('{}', ['no model.safetensors']),
  ],
)
def test_a_folder_without_a_model_is_refused(config, words, tmp_path):
  if config is not None:
    (tmp_path / 'config.json').write_text(config)
  with foreign.refused(*words):
    read(tmp_path)


def test_numbers_that_are_not_finite_are_refused(tmp_path):
  tensors = TENSORS | {'b': np.array([1, np.nan, 1, 1], np.float32)}
  with foreign.refused('model.safetensors: b has numbers', 'not finite'):
    read(foreign.save(tmp_path, {}, tensors))


def test_more_layers_than_tensors_are_not_listed(tmp_path):
  opened = folders.open_folder(str(foreign.save(tmp_path, {}, TENSORS)))
  folders.check_layers(opened, 3)
  with foreign.refused('1000000000000 layers', '3 tensors'):
    folders.check_layers(opened, 10**12)


def test_nobody_has_no_home():
  with foreign.refused("'~nobody9/x' is no folder"):
    read('~nobody9/x')


def test_what_is_no_folder_and_no_name_is_refused(tmp_path):
  with foreign.refused("'/no/such' is no folder"):
    read('/no/such')
  file = foreign.save(tmp_path, {}, TENSORS) / 'config.json'
  with foreign.refused('is no folder'):
    read(file)


def hub(monkeypatch, snapshot_download):
  """Stands in the place of huggingface_hub."""
  module = types.SimpleNamespace(snapshot_download=snapshot_download)
  monkeypatch.setitem(sys.modules, 'huggingface_hub', module)


def test_a_name_is_fetched_from_the_hub(tmp_path, monkeypatch):
  foreign.save(tmp_path, {}, TENSORS)
  asked = []

  def download(name, allow_patterns, ignore_patterns):
    asked.append((name, allow_patterns, ignore_patterns))
    return str(tmp_path)

  hub(monkeypatch, download)
  assert read('someone/tiny').keys() == TENSORS.keys()
  # No pickles, and no copies in other formats.
  (asked,) = asked
  assert asked[0] == 'someone/tiny'
  assert '*.bin' not in asked[1] and asked[2] == ['*/*']


def test_a_hub_that_gives_nothing_is_one_line(monkeypatch):
  def download(*args, **kwargs):
    raise RuntimeError('404\nno such repository')

  hub(monkeypatch, download)
  with foreign.refused("no folder 'someone/tiny'", '404', 'path of a folder'):
    read('someone/tiny')


def test_without_the_extra_the_hub_is_not_asked(monkeypatch):
  monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
  with foreign.refused("no folder 'someone/tiny'", "'lvdecode[hub]'"):
    read('someone/tiny')


def test_a_tokenizer_of_another_size_is_refused():
  folders.check_tokenizer(50, 50, 'there')
  for size in (49, 51):
    with foreign.refused(
      'there: the tokenizer has', f'{size} tokens', '50 rows'
    ):
      folders.check_tokenizer(50, size, 'there')
