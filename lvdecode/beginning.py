"""What a run begins with: sizes and weights of the pretrained models it names."""

from collections.abc import Callable, Mapping
import copy
from typing import Any

import jax
import jax.numpy as jnp

from lvdecode import errors
from lvdecode import settings as settings_lib
from lvdecode.latent import readers
from lvdecode.nn import vocabulary
from lvdecode.pretrained import bert
from lvdecode.pretrained import folder as folders
from lvdecode.pretrained import gpt2
from lvdecode.pretrained import options
from lvdecode.text import tokenizers
from lvdecode.training import flat


def settings(config: Mapping[str, Any]) -> settings_lib.Settings:
  """Settings from a config, where pretrained weights decide what is theirs.

  Sizes, activation and epsilon of `model.decoder`, and the tokenizer, are
  those of the folder `pretrained.decoder`, and so is the width of an encoder on
  its embeddings; those of `model.encoder` are those of `pretrained.encoder`, of
  which a GPT-2 gives as many layers as the config asks for, its first ones.

  Raises:
    UserError: as `settings.from_dict`, or of a folder that cannot be used.
  """
  tree = copy.deepcopy(dict(config))
  match tree:  # a config of another form is refused below
    case {
      'pretrained': {'decoder': str(name)},
      'model': {'decoder': dict(decoder), 'encoder': dict(encoder)},
      'tokenizer': dict(tokenizer),
    } if name:
      folder, sizes = gpt2.sizes(name)
      decoder |= _chosen(sizes)
      if encoder.get('kind') == 'shared_embeddings':
        encoder['width'] = sizes['width']
      tokenizer |= {'kind': 'file', 'path': str(folder)}
  written = settings_lib.from_dict(tree)
  if not (written.pretrained.encoder and _reads(written)):
    return written
  tree = settings_lib.to_dict(written)
  tree['model']['encoder'] |= _encoder_sizes(written)
  return settings_lib.from_dict(tree)


def _chosen(sizes: Mapping[str, Any]) -> dict[str, Any]:
  return {key: sizes[key] for key in options.SIZES}


def _encoder_sizes(written: settings_lib.Settings) -> dict[str, Any]:
  name, encoder = written.pretrained.encoder, written.model.encoder
  if encoder.kind == 'bert':
    return _chosen(bert.sizes(name)[1])
  if encoder.kind != 'own':
    raise errors.UserError(
      f'model.encoder.kind = {encoder.kind!r}: pretrained.encoder is for '
      "'bert', or for 'own' with the blocks of a GPT-2"
    )
  sizes = _chosen(gpt2.sizes(name)[1])
  if encoder.layers > sizes['layers']:
    raise errors.UserError(
      f'model.encoder.layers = {encoder.layers}: pretrained.encoder {name} has '
      f'{sizes["layers"]}'
    )
  return sizes | {'layers': encoder.layers}


def encoder_tokenizer(
  chosen: settings_lib.Settings,
) -> tokenizers.Tokenizer:
  """That of `pretrained.encoder`, by which an encoder of its own reads."""
  return tokenizers.load(folders.find(chosen.pretrained.encoder))


def weights(
  chosen: settings_lib.Settings,
  tokenizer: tokenizers.Tokenizer,
  encoder_tokenizer: tokenizers.Tokenizer | None,
) -> Callable[[dict[str, Any]], dict[str, Any]] | None:
  """Puts pretrained weights into the parameters a run begins with.

  None where the settings name none. The files are read here, and every tensor
  is checked against its config; what the function is given is replaced where
  there is a pretrained value. Rows of `wte` beyond those of the file, of added
  tokens, are their mean.

  Raises:
    UserError: a folder that is not whole, or is not one of the tokenizer's.
  """
  found = {}
  words = tokenizer.vocab_size - len(chosen.tokenizer.added)
  if chosen.pretrained.decoder:
    found['decoder'] = _params(gpt2.read(chosen.pretrained.decoder), words)
  encoder = None
  if chosen.pretrained.encoder and _reads(chosen):
    read = gpt2.read
    if encoder_tokenizer is not None:
      read, words = bert.read, encoder_tokenizer.vocab_size
    encoder = _params(read(chosen.pretrained.encoder), words)
  if not found and encoder is None:
    return None

  def begin(params):
    trees = found
    if encoder is not None:  # whatever reads a text or a condition
      there = [name for name in readers.READERS if name in params]
      trees = found | dict.fromkeys(there, encoder)
    return params | {
      part: _placed(part, tree, params[part]) for part, tree in trees.items()
    }

  return begin


def _reads(chosen: settings_lib.Settings) -> bool:
  """Whether anything reads a text or a condition beside the decoder."""
  return bool(chosen.model.injection.points) or chosen.model.conditional


def _params(network: folders.Network, words: int) -> dict[str, Any]:
  """Its parameters, for a tokenizer of so many tokens."""
  rows = network.sizes['vocab_size']
  folders.check_tokenizer(rows, words, str(network.folder))
  return network.params


def _placed(part: str, tree: Any, params: Any) -> Any:
  """`params` with the values of `tree`, which may hold more layers."""
  values = dict(zip(flat.names(tree), jax.tree.leaves(tree), strict=True))
  names = flat.names(params)
  leaves = [
    _rows(f'{part}/{name}', values[name], leaf)
    for name, leaf in zip(names, jax.tree.leaves(params), strict=True)
  ]
  return jax.tree.unflatten(jax.tree.structure(params), leaves)


def _rows(name: str, value: Any, leaf: Any) -> jax.Array:
  if value.shape == leaf.shape:
    return jnp.asarray(value, leaf.dtype)
  if name.endswith('wte/embedding') and len(value) < len(leaf):
    return jnp.asarray(vocabulary.widen(value, len(leaf)), leaf.dtype)
  if name.endswith('wtt/embedding'):  # a text alone is of the first type
    return jnp.asarray(value[: len(leaf)], leaf.dtype)
  raise errors.UserError(
    f'the pretrained {name} has the shape {value.shape}, the model '
    f'{leaf.shape}: is the tokenizer that of the weights?'
  )
