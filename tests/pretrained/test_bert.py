"""BERT's and RoBERTa's folders: every number at its place, once."""

import flax
import foreign
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lvdecode.nn import bert as networks
from lvdecode.pretrained import bert

D = foreign.WIDTH
TENSORS = foreign.bert_tensors()
ROBERTA = foreign.BERT | {
  'model_type': 'roberta',
  'pad_token_id': 1,
  'hidden_act': 'relu',
  'layer_norm_eps': 1e-5,
}


def changed(tmp_path, config=None, tensors=None, without=()):
  """A folder that differs in these from one that can be read."""
  tensors = {k: v for k, v in TENSORS.items() if k not in without} | (
    tensors or {}
  )
  return foreign.save(tmp_path, foreign.BERT | (config or {}), tensors)


@pytest.mark.parametrize('pools', [True, False])
def test_the_tree_is_that_of_the_network(pools, tmp_path):
  without = () if pools else ('pooler.dense.weight', 'pooler.dense.bias')
  encoder = bert.read(changed(tmp_path, without=without))
  assert encoder.sizes == {
    'layers': 2,
    'heads': 2,
    'width': 8,
    'inner': 12,
    'positions': 10,
    'types': 2,
    'vocab_size': 11,
    'pools': pools,
    'activation': 'gelu',
    'epsilon': 1e-12,
  }
  model = networks.BERT(
    **encoder.sizes, dropout=0.0, dtype=jnp.dtype('float32')
  )

  def everything(model):
    tokens = jnp.zeros((1, 1), jnp.int32)
    states = model(tokens, tokens == 0)
    return model.pool(states) if pools else states

  def init(key):
    return model.init(key, method=everything)['params']

  flat = flax.traverse_util.flatten_dict(
    jax.eval_shape(init, jax.random.key(0)), sep='/'
  )
  found = flax.traverse_util.flatten_dict(encoder.params, sep='/')
  assert {path: leaf.shape for path, leaf in found.items()} == {
    path: leaf.shape for path, leaf in flat.items()
  }


@pytest.mark.parametrize('prefix', ['', 'bert.'])
def test_every_tensor_goes_to_its_place(prefix, tmp_path):
  # What old versions saved beside the weights, and the head for its training.
  extra = {f'{prefix}embeddings.position_ids': np.arange(10)[None]}
  extra |= {'cls.predictions.bias': np.ones(11, np.float32)}
  tensors = {prefix + name: array for name, array in TENSORS.items()}
  foreign.save(tmp_path, foreign.BERT, tensors | extra)
  params = bert.read(tmp_path).params
  qkv = params['h_1']['attn']['c_attn']
  h = 'encoder.layer.1'
  for place, name in [
    (params['wte']['embedding'], 'embeddings.word_embeddings.weight'),
    (params['wpe']['embedding'], 'embeddings.position_embeddings.weight'),
    (params['wtt']['embedding'], 'embeddings.token_type_embeddings.weight'),
    (params['ln_e']['scale'], 'embeddings.LayerNorm.weight'),
    (params['ln_e']['bias'], 'embeddings.LayerNorm.bias'),
    (qkv['kernel'][:, :D].T, f'{h}.attention.self.query.weight'),
    (qkv['kernel'][:, D : 2 * D].T, f'{h}.attention.self.key.weight'),
    (qkv['kernel'][:, 2 * D :].T, f'{h}.attention.self.value.weight'),
    (qkv['bias'][D : 2 * D], f'{h}.attention.self.key.bias'),
    (
      params['h_1']['attn']['c_proj']['kernel'].T,
      f'{h}.attention.output.dense.weight',
    ),
    (params['h_1']['ln_1']['scale'], f'{h}.attention.output.LayerNorm.weight'),
    (
      params['h_1']['mlp']['c_fc']['kernel'].T,
      f'{h}.intermediate.dense.weight',
    ),
    (params['h_1']['mlp']['c_proj']['kernel'].T, f'{h}.output.dense.weight'),
    (params['h_1']['ln_2']['bias'], f'{h}.output.LayerNorm.bias'),
    (params['pooler']['kernel'].T, 'pooler.dense.weight'),
  ]:
    np.testing.assert_array_equal(place, TENSORS[name])


def test_old_names_of_the_norms_are_known(tmp_path):
  old = {
    name.replace('LayerNorm.weight', 'LayerNorm.gamma').replace(
      'LayerNorm.bias', 'LayerNorm.beta'
    ): array
    for name, array in TENSORS.items()
  }
  first = bert.read(changed(tmp_path / 'new')).params
  second = bert.read(foreign.save(tmp_path / 'old', foreign.BERT, old)).params
  jax.tree.map(np.testing.assert_array_equal, first, second)


def test_robertas_positions_begin_behind_its_padding(tmp_path):
  tensors = {f'roberta.{name}': array for name, array in TENSORS.items()}
  encoder = bert.read(foreign.save(tmp_path, ROBERTA, tensors))
  assert encoder.sizes['positions'] == 8
  assert encoder.sizes['activation'] == 'relu'
  assert encoder.sizes['epsilon'] == 1e-5
  np.testing.assert_array_equal(
    encoder.params['wpe']['embedding'],
    TENSORS['embeddings.position_embeddings.weight'][2:],
  )


def test_robertas_padding_may_be_the_first_word(tmp_path):
  config = ROBERTA | {'pad_token_id': 0}
  encoder = bert.read(foreign.save(tmp_path, config, TENSORS))
  np.testing.assert_array_equal(
    encoder.params['wpe']['embedding'],
    TENSORS['embeddings.position_embeddings.weight'][1:],
  )


@pytest.mark.parametrize(
  ('config', 'words'),
  [
    ({'model_type': 'distilbert'}, ['model_type', 'bert, roberta']),
    ({'is_decoder': True}, ['is_decoder', 'true']),
    ({'add_cross_attention': True}, ['add_cross_attention', 'true']),
    (
      {'position_embedding_type': 'relative_key'},
      ['position_embedding_type', '"relative_key"', '"absolute"'],
    ),
    ({'hidden_act': 'mish'}, ['hidden_act', 'mish', 'known are']),
    ({'num_attention_heads': 3}, ['width 8', '3 heads']),
    (
      {'type_vocab_size': 1},
      ['token_type_embeddings.weight: expected [1, 8], found [2, 8]'],
    ),
    (
      {'intermediate_size': 16},
      ['layer.0.intermediate.dense.weight: expected [16, 8], found [12, 8]'],
    ),
  ],
)
def test_a_config_of_another_network_is_refused(config, words, tmp_path):
  with foreign.refused(str(tmp_path), *words):
    bert.read(changed(tmp_path, config))


def test_half_a_pooler_and_extra_tensors_are_refused(tmp_path):
  with foreign.refused('pooler.dense.bias: expected [8], found nothing'):
    bert.read(changed(tmp_path / '1', without=['pooler.dense.bias']))
  with foreign.refused('pooler.dense.bias: expected nothing, found [8]'):
    bert.read(changed(tmp_path / '2', without=['pooler.dense.weight']))
  with foreign.refused('adapter.bias: expected nothing, found [8]'):
    bert.read(changed(tmp_path / '3', tensors={'adapter.bias': np.ones(8)}))
