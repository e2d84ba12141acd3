"""GPT-2's weights (and DistilGPT-2's) to the tree of nn/gpt.py, and back."""

from collections.abc import Mapping
import json
import os
import pathlib
from typing import Any

from flax import traverse_util
import numpy as np
from safetensors import numpy as safetensors_numpy

from lvdecode import errors
from lvdecode.pretrained import folder as folders
from lvdecode.pretrained import options

_PREFIX = 'transformer.'
_HEAD = 'lm_head.weight'
# The causal mask, which old versions saved, and the tied head.
_IGNORED = r'h\.\d+\.attn\.(bias|masked_bias)|lm_head\.weight'
# reorder_and_upcast_attn may be either: in float32 it changes nothing.
_OPTIONS = {
  'scale_attn_weights': True,
  'scale_attn_by_inverse_layer_idx': False,
  'add_cross_attention': False,
  'quantization_config': None,
}
# Of our names, the first that transformers has for them.
_ACTIVATIONS = {
  ours: theirs for theirs, ours in reversed(options.ACTIVATIONS.items())
}


def sizes(name: str | os.PathLike[str]) -> tuple[pathlib.Path, dict[str, Any]]:
  """Where the folder is and the sizes of its network; no weight is read.

  Layers, heads, width, inner, positions, vocab_size, activation and epsilon are
  fields of nn.gpt.GPT.

  Raises:
    UserError: it is another network, or not whole.
  """
  folder, found = _opened(name)
  return folder.path, found


def read(name: str | os.PathLike[str]) -> folders.Network:
  """Opens a folder, or a hub's model, of GPT-2's family.

  Raises:
    UserError: it is another network, or not whole.
  """
  folder, sizes = _opened(name)
  folder = folders.rename(folder, lambda name: name.removeprefix(_PREFIX))
  shapes_by_name = {_name(path): shape for path, shape in shapes(sizes).items()}
  arrays = folders.read(folder, shapes_by_name, _IGNORED)
  _check_head(folder, arrays['wte.weight'])
  params = {path: arrays[_name(path)] for path in shapes(sizes)}
  return folders.Network(
    sizes, traverse_util.unflatten_dict(params, sep='/'), folder.path
  )


def write(
  path: str | os.PathLike[str],
  sizes: Mapping[str, Any],
  params: Mapping[str, Any],
) -> None:
  """Writes config.json and model.safetensors, which transformers opens.

  Args:
    path: of the folder, made where it is missing.
    sizes: as `sizes` gives them.
    params: the tree of nn.gpt.GPT.

  Raises:
    UserError: the parameters are not of these sizes.
  """
  folder = pathlib.Path(path)
  flat = traverse_util.flatten_dict(params, sep='/')
  found = {name: tuple(leaf.shape) for name, leaf in flat.items()}
  folders.check_shapes(f'parameters for {folder}', shapes(sizes), found)
  config = {
    'model_type': 'gpt2',
    'architectures': ['GPT2LMHeadModel'],
    'vocab_size': sizes['vocab_size'],
    'n_positions': sizes['positions'],
    'n_layer': sizes['layers'],
    'n_head': sizes['heads'],
    'n_embd': sizes['width'],
    'n_inner': sizes['inner'],
    'activation_function': _ACTIVATIONS[sizes['activation']],
    'layer_norm_epsilon': sizes['epsilon'],
    'tie_word_embeddings': True,
    # transformers' own ids would lie outside a smaller vocabulary.
    'bos_token_id': None,
    'eos_token_id': None,
  }
  arrays = {
    # Not contiguous, an array would be written in another order.
    _PREFIX + _name(name): np.ascontiguousarray(leaf, np.float32)
    for name, leaf in flat.items()
  }
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'config.json').write_text(json.dumps(config, indent=2) + '\n')
  safetensors_numpy.save_file(
    arrays, folder / 'model.safetensors', metadata={'format': 'pt'}
  )
  # The library lets nobody else read it; who may is for the user's umask.
  mode = (folder / 'config.json').stat().st_mode
  (folder / 'model.safetensors').chmod(mode)


def shapes(sizes: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
  """Of every parameter of nn.gpt.GPT, by its path."""
  width, inner = sizes['width'], sizes['inner']
  found: dict[str, tuple[int, ...]] = {
    'wte/embedding': (sizes['vocab_size'], width),
    'wpe/embedding': (sizes['positions'], width),
  }
  norms = ['ln_f']
  for layer in range(sizes['layers']):
    norms += [f'h_{layer}/ln_1', f'h_{layer}/ln_2']
    for name, rows, columns in (
      ('attn/c_attn', width, 3 * width),
      ('attn/c_proj', width, width),
      ('mlp/c_fc', width, inner),
      ('mlp/c_proj', inner, width),
    ):
      found[f'h_{layer}/{name}/kernel'] = (rows, columns)
      found[f'h_{layer}/{name}/bias'] = (columns,)
  for norm in norms:
    found |= {f'{norm}/scale': (width,), f'{norm}/bias': (width,)}
  return found


def _name(path: str) -> str:
  """'h_0/attn/c_attn/kernel' -> 'h.0.attn.c_attn.weight'; none is turned.

  transformers stores GPT-2's matrices [in, out], as linen does.
  """
  module, leaf = path.rsplit('/', 1)
  if module.startswith('h_'):
    module = module.replace('h_', 'h.', 1)
  return module.replace('/', '.') + ('.bias' if leaf == 'bias' else '.weight')


def _opened(
  name: str | os.PathLike[str],
) -> tuple[folders.Folder, dict[str, Any]]:
  folder = folders.open_folder(os.fspath(name))
  options.family(folder, ('gpt2',))
  options.supported(folder, _OPTIONS)
  return folder, _sizes(folder)


def _sizes(folder: folders.Folder) -> dict[str, Any]:
  width = options.size(folder, 'n_embd')
  given = folder.config.get('n_inner') is not None
  sizes: dict[str, Any] = {
    'layers': options.size(folder, 'n_layer'),
    'heads': options.size(folder, 'n_head'),
    'width': width,
    'inner': options.size(folder, 'n_inner') if given else 4 * width,
    'positions': options.size(folder, 'n_positions'),
    'vocab_size': options.size(folder, 'vocab_size'),
    'activation': options.activation(folder, 'activation_function', 'gelu_new'),
    'epsilon': options.epsilon(folder, 'layer_norm_epsilon', 1e-5),
  }
  options.heads(folder, sizes['heads'], width)
  folders.check_layers(folder, sizes['layers'])
  return sizes


def _check_head(folder: folders.Folder, embedding: np.ndarray) -> None:
  """A head of its own is refused; a copy of the embedding is not one."""
  if _HEAD in folder.tensors:
    head = folders.read(folder, {_HEAD: embedding.shape}, '.*')[_HEAD]
    tied = np.array_equal(head, embedding)
  else:
    tied = folder.config.get('tie_word_embeddings', True)
  if not tied:
    raise errors.UserError(
      f'{folder.path}: {_HEAD} is not wte.weight: a head that is not tied to '
      'the embedding (tie_word_embeddings) is not supported'
    )
