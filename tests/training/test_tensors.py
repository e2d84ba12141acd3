"""Parameters in a file: what comes back, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from lvdecode import errors
from lvdecode.training import tensors

PARAMS = {
  'decoder': {'kernel': jnp.arange(6.0).reshape(2, 3), 'bias': jnp.zeros(3)},
  'scale': jnp.float32(2.0),
}


@pytest.fixture(name='path')
def _path(tmp_path):
  tensors.write(tmp_path / 'params.safetensors', PARAMS, {'step': 7})
  return tmp_path / 'params.safetensors'


def refusal(path, like=PARAMS):
  with pytest.raises(errors.UserError) as caught:
    tensors.read(path, like)
  assert '\n' not in str(caught.value)
  return str(caught.value)


def test_everything_comes_back(path):
  params, notes = tensors.read(path, jax.eval_shape(lambda: PARAMS))
  assert notes == {'step': 7}
  assert jax.tree.structure(params) == jax.tree.structure(PARAMS)
  jax.tree.map(np.testing.assert_array_equal, params, PARAMS)


def test_another_library_reads_it_by_the_paths(path):
  flat = safetensors_numpy.load_file(path)
  assert set(flat) == {'decoder/kernel', 'decoder/bias', 'scale'}
  np.testing.assert_array_equal(
    flat['decoder/kernel'], PARAMS['decoder']['kernel']
  )


def test_a_transposed_array_is_written_as_it_is_read(tmp_path):
  host = np.arange(6, dtype=np.float32).reshape(2, 3)
  params = {'a': jax.device_put(host.T)}
  tensors.write(tmp_path / 'a.safetensors', params, {})
  got, _ = tensors.read(tmp_path / 'a.safetensors', params)
  np.testing.assert_array_equal(got['a'], host.T)


@pytest.mark.parametrize(
  ('like', 'words'),
  [
    ({'scale': PARAMS['scale']}, "'decoder/bias' is not in the model"),
    (PARAMS | {'more': jnp.zeros(2)}, "'more' is only in the model"),
    (
      PARAMS | {'scale': jnp.zeros(2)},
      "'scale' is float32[], the model wants float32[2]",
    ),
    (
      PARAMS | {'scale': jnp.int32(2)},
      "'scale' is float32[], the model wants int32[]",
    ),
  ],
)
def test_another_model_is_refused(path, like, words):
  assert words in refusal(path, like)


def test_a_damaged_file_is_refused(path):
  whole = path.read_bytes()
  for size in (0, 4, 60, len(whole) - 1):
    path.write_bytes(whole[:size])
    assert 'cannot be read' in refusal(path)
  path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
  assert 'checksum of' in refusal(path)
  path.unlink()
  assert 'cannot be read' in refusal(path)


def test_a_file_of_another_origin_is_refused(path):
  flat = safetensors_numpy.load_file(path)
  for metadata in (
    None,
    {'format': 'pt'},
    {'lvdecode': '{}'},
    {'lvdecode': '{"checksums": [1]}'},
  ):
    safetensors_numpy.save_file(flat, path, metadata)
    assert 'no checksums' in refusal(path)
  safetensors_numpy.save_file(flat, path, {'lvdecode': '{'})
  assert 'cannot be read' in refusal(path)
