"""BERT in NumPy float64, written from its equations: what tests compare to."""

import math

import numpy as np
import numpy_gpt2

EPSILON = 1e-12


def gelu(x):
  return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def layer_norm(p, x):
  return numpy_gpt2.layer_norm(p, x, EPSILON)


def block(p, x, mask, heads):
  x = layer_norm(p['ln_1'], x + numpy_gpt2.attention(p['attn'], x, mask, heads))
  hidden = gelu(numpy_gpt2.dense(p['mlp']['c_fc'], x))
  return layer_norm(p['ln_2'], x + numpy_gpt2.dense(p['mlp']['c_proj'], hidden))


def hidden_states(p, tokens, types, visible, heads):
  """One row of tokens, types and visible [T] -> [T, D]."""
  length = len(tokens)
  x = p['wte']['embedding'][tokens] + p['wpe']['embedding'][:length]
  x = layer_norm(p['ln_e'], x + p['wtt']['embedding'][types])
  mask = np.broadcast_to(visible, (length, length))
  for layer in range(sum(name.startswith('h_') for name in p)):
    x = block(p[f'h_{layer}'], x, mask, heads)
  return x
