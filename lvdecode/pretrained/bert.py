"""BERT's weights, and RoBERTa's, to the tree of nn/bert.py."""

import os
import pathlib
import re
from typing import Any

from flax import traverse_util
import numpy as np

from lvdecode.pretrained import folder as folders
from lvdecode.pretrained import options

# Position ids, which old versions saved, and the heads of what it was trained
# for.
_IGNORED = r'embeddings\.position_ids|(cls|lm_head|classifier|qa_outputs)\..*'
_OPTIONS = {
  'position_embedding_type': 'absolute',
  'is_decoder': False,
  'add_cross_attention': False,
  'quantization_config': None,
}
_POOLER = 'pooler.dense.weight'
# Our modules of a block, but for the attention's first, and theirs.
_DENSE = {
  'attn/c_proj': 'attention.output.dense',
  'mlp/c_fc': 'intermediate.dense',
  'mlp/c_proj': 'output.dense',
}
_NORMS = {'ln_1': 'attention.output.LayerNorm', 'ln_2': 'output.LayerNorm'}
_EMBEDDINGS = {
  'wte': 'embeddings.word_embeddings',
  'wpe': 'embeddings.position_embeddings',
  'wtt': 'embeddings.token_type_embeddings',
}


def sizes(name: str | os.PathLike[str]) -> tuple[pathlib.Path, dict[str, Any]]:
  """Where the folder is and the sizes of its network; no weight is read.

  Layers, heads, width, inner, positions, types, vocab_size, pools, activation
  and epsilon are fields of nn.bert.BERT.

  Raises:
    UserError: it is another network, or not whole.
  """
  folder, found, _ = _opened(name)
  return folder.path, found


def read(name: str | os.PathLike[str]) -> folders.Network:
  """Opens a folder, or a hub's model, of BERT's or RoBERTa's family.

  Raises:
    UserError: it is another network, or not whole.
  """
  folder, sizes, skipped = _opened(name)
  arrays = folders.read(folder, _shapes(sizes, skipped), _IGNORED)
  params = _params(arrays, sizes['layers'], skipped)
  return folders.Network(
    sizes, traverse_util.unflatten_dict(params, sep='/'), folder.path
  )


def _opened(
  name: str | os.PathLike[str],
) -> tuple[folders.Folder, dict[str, Any], int]:
  """The folder, its sizes, and how many positions no text has."""
  folder = folders.open_folder(os.fspath(name))
  family = options.family(folder, ('bert', 'roberta'))
  options.supported(folder, _OPTIONS)
  folder = folders.rename(folder, lambda name: _plain_name(name, family))
  # RoBERTa's first text position is the one behind that of its padding.
  skipped = 0
  if family == 'roberta':
    skipped = options.size(folder, 'pad_token_id', 0) + 1
  return folder, _sizes(folder, skipped), skipped


def _plain_name(name: str, family: str) -> str:
  """Without the family's prefix, and with today's names of the norms'."""
  name = name.removeprefix(f'{family}.')
  name = re.sub(r'LayerNorm\.gamma$', 'LayerNorm.weight', name)
  return re.sub(r'LayerNorm\.beta$', 'LayerNorm.bias', name)


def _sizes(folder: folders.Folder, skipped: int) -> dict[str, Any]:
  sizes: dict[str, Any] = {
    'layers': options.size(folder, 'num_hidden_layers'),
    'heads': options.size(folder, 'num_attention_heads'),
    'width': options.size(folder, 'hidden_size'),
    'inner': options.size(folder, 'intermediate_size'),
    'positions': options.size(folder, 'max_position_embeddings') - skipped,
    'types': options.size(folder, 'type_vocab_size'),
    'vocab_size': options.size(folder, 'vocab_size'),
    'pools': _POOLER in folder.tensors,
    'activation': options.activation(folder, 'hidden_act', 'gelu'),
    'epsilon': options.epsilon(folder, 'layer_norm_eps', 1e-12),
  }
  options.heads(folder, sizes['heads'], sizes['width'])
  folders.check_layers(folder, sizes['layers'])
  return sizes


def _shapes(sizes: dict[str, Any], skipped: int) -> dict[str, tuple[int, ...]]:
  """Of every tensor, by its own name; matrices are [out, in]."""
  width, inner = sizes['width'], sizes['inner']
  rows = {
    'wte': sizes['vocab_size'],
    'wpe': sizes['positions'] + skipped,
    'wtt': sizes['types'],
  }
  found: dict[str, tuple[int, ...]] = {
    f'{theirs}.weight': (rows[ours], width)
    for ours, theirs in _EMBEDDINGS.items()
  }
  norms = ['embeddings.LayerNorm']
  dense = {'pooler.dense': (width, width)} if sizes['pools'] else {}
  for layer in range(sizes['layers']):
    block = f'encoder.layer.{layer}'
    norms += [f'{block}.{norm}' for norm in _NORMS.values()]
    for part in ('query', 'key', 'value'):
      dense[f'{block}.attention.self.{part}'] = (width, width)
    dense[f'{block}.attention.output.dense'] = (width, width)
    dense[f'{block}.intermediate.dense'] = (inner, width)
    dense[f'{block}.output.dense'] = (width, inner)
  for norm in norms:
    found |= {f'{norm}.weight': (width,), f'{norm}.bias': (width,)}
  for name, shape in dense.items():
    found |= {f'{name}.weight': shape, f'{name}.bias': shape[:1]}
  return found


def _params(
  arrays: dict[str, np.ndarray], layers: int, skipped: int
) -> dict[str, np.ndarray]:
  """By our paths; the matrices turned, queries, keys and values in one."""
  params: dict[str, np.ndarray] = {}

  def embedding(ours, theirs):
    params[f'{ours}/embedding'] = arrays[f'{theirs}.weight']

  def norm(ours, theirs):
    params[f'{ours}/scale'] = arrays[f'{theirs}.weight']
    params[f'{ours}/bias'] = arrays[f'{theirs}.bias']

  def dense(ours, *theirs):
    kernels = [arrays[f'{name}.weight'].T for name in theirs]
    biases = [arrays[f'{name}.bias'] for name in theirs]
    params[f'{ours}/kernel'] = np.concatenate(kernels, axis=1)
    params[f'{ours}/bias'] = np.concatenate(biases)

  for ours, theirs in _EMBEDDINGS.items():
    embedding(ours, theirs)
  params['wpe/embedding'] = params['wpe/embedding'][skipped:]
  norm('ln_e', 'embeddings.LayerNorm')
  for layer in range(layers):
    block = f'encoder.layer.{layer}'
    attention = f'{block}.attention.self'
    dense(
      f'h_{layer}/attn/c_attn',
      *(f'{attention}.{part}' for part in ('query', 'key', 'value')),
    )
    for ours, theirs in _DENSE.items():
      dense(f'h_{layer}/{ours}', f'{block}.{theirs}')
    for ours, theirs in _NORMS.items():
      norm(f'h_{layer}/{ours}', f'{block}.{theirs}')
  if _POOLER in arrays:
    dense('pooler', 'pooler.dense')
  return params
