"""Tiny folders as other projects write them, and how they are refused."""

import json
import re

import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from lvdecode import errors

LAYERS, HEADS, WIDTH, INNER, POSITIONS, VOCAB, TYPES = 2, 2, 8, 12, 10, 11, 2
GPT2 = {
  'model_type': 'gpt2',
  'n_layer': LAYERS,
  'n_head': HEADS,
  'n_embd': WIDTH,
  'n_inner': INNER,
  'n_positions': POSITIONS,
  'vocab_size': VOCAB,
  'activation_function': 'gelu_new',
  'layer_norm_epsilon': 1e-5,
}
BERT = {
  'model_type': 'bert',
  'num_hidden_layers': LAYERS,
  'num_attention_heads': HEADS,
  'hidden_size': WIDTH,
  'intermediate_size': INNER,
  'max_position_embeddings': POSITIONS,
  'type_vocab_size': TYPES,
  'vocab_size': VOCAB,
  'hidden_act': 'gelu',
  'layer_norm_eps': 1e-12,
  'pad_token_id': 0,
}


def _random(shapes):
  rng = np.random.default_rng(0)
  return {
    name: rng.normal(size=shape).astype(np.float32)
    for name, shape in shapes.items()
  }


def gpt2_tensors():
  """What GPT2Model saves; matrices [in, out]."""
  shapes = {'wte.weight': (VOCAB, WIDTH), 'wpe.weight': (POSITIONS, WIDTH)}
  for i in range(LAYERS):
    for name, shape in {
      'ln_1': (WIDTH,),
      'attn.c_attn': (WIDTH, 3 * WIDTH),
      'attn.c_proj': (WIDTH, WIDTH),
      'ln_2': (WIDTH,),
      'mlp.c_fc': (WIDTH, INNER),
      'mlp.c_proj': (INNER, WIDTH),
    }.items():
      shapes[f'h.{i}.{name}.weight'] = shape
      shapes[f'h.{i}.{name}.bias'] = shape[-1:]
  shapes |= {'ln_f.weight': (WIDTH,), 'ln_f.bias': (WIDTH,)}
  return _random(shapes)


def bert_tensors():
  """What BertModel saves; matrices [out, in]."""
  shapes = {
    'embeddings.word_embeddings.weight': (VOCAB, WIDTH),
    'embeddings.position_embeddings.weight': (POSITIONS, WIDTH),
    'embeddings.token_type_embeddings.weight': (TYPES, WIDTH),
  }
  modules = {'embeddings.LayerNorm': (WIDTH,), 'pooler.dense': (WIDTH, WIDTH)}
  for i in range(LAYERS):
    for name, shape in {
      'attention.self.query': (WIDTH, WIDTH),
      'attention.self.key': (WIDTH, WIDTH),
      'attention.self.value': (WIDTH, WIDTH),
      'attention.output.dense': (WIDTH, WIDTH),
      'attention.output.LayerNorm': (WIDTH,),
      'intermediate.dense': (INNER, WIDTH),
      'output.dense': (WIDTH, INNER),
      'output.LayerNorm': (WIDTH,),
    }.items():
      modules[f'encoder.layer.{i}.{name}'] = shape
  for name, shape in modules.items():
    shapes |= {f'{name}.weight': shape, f'{name}.bias': shape[:1]}
  return _random(shapes)


def save(folder, config, tensors):
  """Writes config.json and model.safetensors; returns the folder."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'config.json').write_text(json.dumps(config))
  safetensors_numpy.save_file(tensors, folder / 'model.safetensors')
  return folder


def save_shards(folder, config, tensors, shards):
  """The same in several files with an index."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'config.json').write_text(json.dumps(config))
  where = {}
  for shard in range(shards):
    file = f'model-{shard + 1:05}-of-{shards:05}.safetensors'
    names = list(tensors)[shard::shards]
    where |= dict.fromkeys(names, file)
    part = {name: tensors[name] for name in names}
    safetensors_numpy.save_file(part, folder / file)
  index = json.dumps({'metadata': {}, 'weight_map': where})
  (folder / 'model.safetensors.index.json').write_text(index)
  return folder


def refused(*words):
  """One line with each of the words."""
  ahead = ''.join(f'(?=.*{re.escape(word)})' for word in words)
  return pytest.raises(errors.UserError, match=rf'\A{ahead}[^\n]*\Z')
