"""GPT-2 in NumPy float64, written from its equations: what tests compare to."""

import numpy as np


def layer_norm(p, x, epsilon=1e-5):
  mean = x.mean(-1, keepdims=True)
  variance = ((x - mean) ** 2).mean(-1, keepdims=True)
  x = (x - mean) / np.sqrt(variance + epsilon)
  return x * p['scale'] + p['bias']


def gelu(x):
  return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def softmax(x):
  x = np.exp(x - x.max(-1, keepdims=True))
  return x / x.sum(-1, keepdims=True)


def log_softmax(x):
  x = x - x.max(-1, keepdims=True)
  return x - np.log(np.exp(x).sum(-1, keepdims=True))


def dense(p, x):
  return x @ p['kernel'] + p['bias']


def attention(p, x, mask, heads, memory=None):
  """One row x [T, D] under mask [T, T]; memory (keys, values, score, seen).

  keys and values [M, H, K], score [H, M], seen [M]: one head and one query at
  a time, with the slots in front.
  """
  width = x.shape[-1] // heads
  q, k, v = np.split(dense(p['c_attn'], x), 3, axis=-1)
  out = np.zeros_like(q)
  for h in range(heads):
    part = slice(h * width, (h + 1) * width)
    for t in range(len(x)):
      keys, values = k[:, part][mask[t]], v[:, part][mask[t]]
      bias = np.zeros(len(keys))
      if memory is not None:
        seen = memory['seen']
        keys = np.concatenate([memory['keys'][seen, h], keys])
        values = np.concatenate([memory['values'][seen, h], values])
        bias = np.concatenate([memory['score'][h][seen], bias])
      scores = keys @ q[t, part] / np.sqrt(width) + bias
      out[t, part] = softmax(scores) @ values
  return dense(p['c_proj'], out)


def block(p, x, mask, heads, memory=None):
  x = x + attention(p['attn'], layer_norm(p['ln_1'], x), mask, heads, memory)
  hidden = gelu(dense(p['mlp']['c_fc'], layer_norm(p['ln_2'], x)))
  return x + dense(p['mlp']['c_proj'], hidden)


def hidden_states(p, tokens, heads, mask=None, embedding=0.0, memory=None):
  """One row of tokens [T] -> [T, D]; memory is a list, one entry a layer."""
  length = len(tokens)
  if mask is None:
    mask = np.tril(np.ones((length, length), bool))
  x = p['wte']['embedding'][tokens] + p['wpe']['embedding'][:length]
  x = x + embedding
  for layer in range(sum(name.startswith('h_') for name in p)):
    told = None if memory is None else memory[layer]
    x = block(p[f'h_{layer}'], x, mask, heads, told)
  return layer_norm(p['ln_f'], x)


def rows(p, tokens, heads, **told):
  """`hidden_states` of a batch [B, T]."""
  return np.stack([hidden_states(p, row, heads, **told) for row in tokens])
