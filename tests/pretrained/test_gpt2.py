"""GPT-2's folders, in and out: every number at its place, once."""

import flax
import foreign
import house
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lvdecode.nn import gpt
from lvdecode.pretrained import gpt2

TENSORS = foreign.gpt2_tensors()
# layers, heads, width and parameters of the four that were published.
PUBLISHED = {
  'gpt2': (12, 12, 768, 124_439_808),
  'gpt2-medium': (24, 16, 1024, 354_823_168),
  'gpt2-large': (36, 20, 1280, 774_030_080),
  'gpt2-xl': (48, 25, 1600, 1_557_611_200),
}


def model(sizes):
  return gpt.GPT(
    **sizes, vocab_multiple=1, dropout=0.0, dtype=jnp.dtype('float32')
  )


def shapes(sizes):
  tokens = jnp.zeros((1, 1), jnp.int32)
  init = jax.eval_shape(model(sizes).init, jax.random.key(0), tokens)
  flat = flax.traverse_util.flatten_dict(init['params'], sep='/')
  return {path: leaf.shape for path, leaf in flat.items()}


def changed(tmp_path, config=None, tensors=None, without=()):
  """A folder that differs in these from one that can be read."""
  tensors = {k: v for k, v in TENSORS.items() if k not in without} | (
    tensors or {}
  )
  return foreign.save(tmp_path, foreign.GPT2 | (config or {}), tensors)


def test_the_tree_is_that_of_the_network(tmp_path):
  decoder = gpt2.read(changed(tmp_path))
  assert decoder.sizes == {
    'layers': 2,
    'heads': 2,
    'width': 8,
    'inner': 12,
    'positions': 10,
    'vocab_size': 11,
    'activation': 'gelu_tanh',
    'epsilon': 1e-5,
  }
  assert decoder.folder == tmp_path
  flat = flax.traverse_util.flatten_dict(decoder.params, sep='/')
  assert {path: leaf.shape for path, leaf in flat.items()} == shapes(
    decoder.sizes
  )


@pytest.mark.parametrize('prefix', ['', 'transformer.'])
def test_every_tensor_goes_to_its_place(prefix, tmp_path):
  # What old versions saved beside the weights.
  extra = {f'{prefix}h.{i}.attn.bias': np.ones((1, 1, 3, 3)) for i in range(2)}
  extra |= {f'{prefix}h.0.attn.masked_bias': np.ones(())}
  extra |= {'lm_head.weight': TENSORS['wte.weight']}
  tensors = {prefix + name: array for name, array in TENSORS.items()}
  foreign.save(tmp_path, foreign.GPT2, tensors | extra)
  params = gpt2.read(tmp_path).params
  for place, name in [
    (params['wte']['embedding'], 'wte.weight'),
    (params['wpe']['embedding'], 'wpe.weight'),
    (params['h_0']['ln_1']['scale'], 'h.0.ln_1.weight'),
    (params['h_1']['attn']['c_attn']['kernel'], 'h.1.attn.c_attn.weight'),
    (params['h_1']['attn']['c_attn']['bias'], 'h.1.attn.c_attn.bias'),
    (params['h_0']['mlp']['c_proj']['kernel'], 'h.0.mlp.c_proj.weight'),
    (params['h_1']['ln_2']['bias'], 'h.1.ln_2.bias'),
    (params['ln_f']['scale'], 'ln_f.weight'),
  ]:
    np.testing.assert_array_equal(place, TENSORS[name])


def test_what_is_written_is_read_back(tmp_path):
  first = gpt2.read(
    changed(tmp_path / 'first', {'activation_function': 'relu'})
  )
  # Numbers of JAX, and an array that does not lie in order.
  params = jax.tree.map(jnp.asarray, first.params)
  kernel = first.params['h_0']['attn']['c_attn']['kernel']
  params['h_0']['attn']['c_attn']['kernel'] = np.asfortranarray(kernel)
  gpt2.write(tmp_path / 'new' / 'second', first.sizes, params)
  second = gpt2.read(tmp_path / 'new' / 'second')
  assert second.sizes == first.sizes
  jax.tree.map(np.testing.assert_array_equal, second.params, first.params)
  files = (tmp_path / 'new' / 'second').iterdir()
  assert len({file.stat().st_mode for file in files}) == 1


def test_parameters_of_other_sizes_are_not_written(tmp_path):
  decoder = gpt2.read(changed(tmp_path))
  with foreign.refused('wte/embedding: expected [12, 8], found [11, 8]'):
    gpt2.write(
      tmp_path / 'x', decoder.sizes | {'vocab_size': 12}, decoder.params
    )
  assert not (tmp_path / 'x').exists()


@pytest.mark.parametrize('inner', [None, 'absent'])
def test_the_usual_width_of_an_mlp_is_four(inner, tmp_path):
  config = {k: v for k, v in foreign.GPT2.items() if k != 'n_inner'}
  if inner is None:
    config |= {'n_inner': None}
  tensors = dict(TENSORS)
  for i in range(2):
    tensors[f'h.{i}.mlp.c_fc.weight'] = np.ones((8, 32), np.float32)
    tensors[f'h.{i}.mlp.c_fc.bias'] = np.ones(32, np.float32)
    tensors[f'h.{i}.mlp.c_proj.weight'] = np.ones((32, 8), np.float32)
  assert gpt2.read(foreign.save(tmp_path, config, tensors)).sizes['inner'] == 32


@pytest.mark.parametrize(
  ('config', 'words'),
  [
    ({'model_type': 'llama'}, ['model_type', '"llama"', 'gpt2']),
    ({'model_type': None}, ['model_type', 'null', 'gpt2']),
    ({'scale_attn_by_inverse_layer_idx': True}, ['inverse_layer_idx', 'true']),
    ({'scale_attn_weights': False}, ['scale_attn_weights', 'false']),
    ({'add_cross_attention': True}, ['add_cross_attention', 'true']),
    ({'quantization_config': {'bits': 4}}, ['quantization_config', '"bits"']),
    ({'tie_word_embeddings': False}, ['lm_head.weight', 'tie_word_embeddings']),
    ({'activation_function': 'gelu_ne'}, ["did you mean 'gelu_new'"]),
    ({'activation_function': ['relu']}, ['activation_function']),
    ({'n_head': 3}, ['width 8', '3 heads']),
    ({'n_layer': '2'}, ['n_layer', '"2"']),
    ({'n_embd': 0}, ['n_embd', '0']),
    ({'layer_norm_epsilon': 'x'}, ['layer_norm_epsilon', '"x"']),
    ({'vocab_size': 12}, ['wte.weight: expected [12, 8], found [11, 8]']),
    ({'n_layer': 1}, ['h.1.ln_1.weight: expected nothing, found [8]']),
    ({'n_layer': 3}, ['h.2.mlp.c_fc.bias: expected [12], found nothing']),
  ],
)
def test_a_config_of_another_network_is_refused(config, words, tmp_path):
  with foreign.refused(str(tmp_path), *words):
    gpt2.read(changed(tmp_path, config))


def test_reordered_attention_is_the_same_network(tmp_path):
  gpt2.read(changed(tmp_path, {'reorder_and_upcast_attn': True}))


def test_a_missing_an_extra_and_a_wrong_tensor_are_refused(tmp_path):
  with foreign.refused('ln_f.bias: expected [8], found nothing'):
    gpt2.read(changed(tmp_path / '1', without=['ln_f.bias']))
  with foreign.refused('score.weight: expected nothing, found [2, 8]'):
    gpt2.read(
      changed(tmp_path / '2', tensors={'score.weight': np.ones((2, 8))})
    )
  turned = {'h.0.mlp.c_fc.weight': np.ones((12, 8), np.float32)}
  with foreign.refused('h.0.mlp.c_fc.weight: expected [8, 12], found [12, 8]'):
    gpt2.read(changed(tmp_path / '3', tensors=turned))
  twice = {'transformer.ln_f.bias': TENSORS['ln_f.bias']}
  with foreign.refused('ln_f.bias', 'transformer.ln_f.bias', 'both'):
    gpt2.read(changed(tmp_path / '4', tensors=twice))


def test_a_head_of_its_own_is_refused(tmp_path):
  head = TENSORS['wte.weight'].copy()
  head[3, 2] += 1
  with foreign.refused('lm_head.weight is not wte.weight'):
    gpt2.read(changed(tmp_path, tensors={'lm_head.weight': head}))


@pytest.mark.parametrize(
  'name',
  [
    # Tracing so many layers takes seconds.
    pytest.param(name, marks=[pytest.mark.slow] * (name != 'gpt2'))
    for name in PUBLISHED
  ],
)
def test_the_published_sizes_have_their_numbers_of_parameters(name):
  layers, heads, width, count = PUBLISHED[name]
  sizes = {
    'layers': layers,
    'heads': heads,
    'width': width,
    'inner': 4 * width,
    'positions': 1024,
    'vocab_size': 50257,
    'activation': 'gelu_tanh',
    'epsilon': 1e-5,
  }
  found = shapes(sizes)
  assert sum(map(np.prod, found.values())) == count
  assert gpt2.shapes(sizes) == found


READ = """
import resource, sys, time
from lvdecode.pretrained import gpt2
start = time.monotonic()
decoder = gpt2.read(sys.argv[1])
print(time.monotonic() - start, 's to read')
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
def test_a_full_size_gpt2_is_read_in_3_gb(tmp_path):
  sizes = dict(
    layers=12,
    heads=12,
    width=768,
    inner=3072,
    positions=1024,
    vocab_size=50257,
    activation='gelu_tanh',
    epsilon=1e-5,
  )
  rng = np.random.default_rng(0)
  flat = {
    path: rng.standard_normal(shape, np.float32)
    for path, shape in gpt2.shapes(sizes).items()
  }
  params = flax.traverse_util.unflatten_dict(flat, sep='/')
  gpt2.write(tmp_path, sizes, params)
  assert (tmp_path / 'model.safetensors').stat().st_size > 4 * 124_439_808
  printed = house.python(house.ROOT, '-c', READ, str(tmp_path))
  assert int(printed.splitlines()[-1]) < 3e9, printed
