"""The latent-variable decoder in PyTorch, to be timed beside ours."""

import torch
from torch import nn
from torch.nn import functional as F

from lvdecode.latent import sizes as sizes_lib


class Block(nn.Module):
  """GPT-2's block, with a memory in front of the keys."""

  def __init__(self, width: int, heads: int, inner: int, dropout: float):
    super().__init__()
    self.heads = heads
    self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
    self.c_attn = nn.Linear(width, 3 * width)
    self.c_out = nn.Linear(width, width)
    self.c_fc, self.c_proj = nn.Linear(width, inner), nn.Linear(inner, width)
    self.drop = nn.Dropout(dropout)

  def forward(self, h, mask, memory=None):
    batch, length, width = h.shape
    q, k, v = (
      x.view(batch, length, self.heads, -1).transpose(1, 2)
      for x in self.c_attn(self.ln_1(h)).split(width, -1)
    )
    if memory is not None:
      k = torch.cat([memory[0].to(k.dtype), k], 2)
      v = torch.cat([memory[1].to(v.dtype), v], 2)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    out = out.transpose(1, 2).reshape(batch, length, width)
    h = h + self.drop(self.c_out(out))
    inner = F.gelu(self.c_fc(self.ln_2(h)), approximate='tanh')
    return h + self.drop(self.c_proj(inner))


class Stack(nn.Module):
  """Embeddings, blocks, and the last norm."""

  def __init__(self, sizes, vocab_size: int, positions: int):
    super().__init__()
    self.wte = nn.Embedding(vocab_size, sizes.width)
    self.wpe = nn.Embedding(positions, sizes.width)
    nn.init.normal_(self.wte.weight, std=0.02)
    inner = sizes.inner or 4 * sizes.width
    self.h = nn.ModuleList(
      Block(sizes.width, sizes.heads, inner, sizes.dropout)
      for _ in range(sizes.layers)
    )
    self.ln_f = nn.LayerNorm(sizes.width)
    self.drop = nn.Dropout(sizes.dropout)

  def forward(self, tokens, mask=None, added=None, memory=None):
    places = torch.arange(tokens.shape[1], device=tokens.device)
    h = self.wte(tokens) + self.wpe(places)
    if added is not None:
      h = h + added[:, None]
    h = self.drop(h)
    for index, block in enumerate(self.h):
      h = block(h, mask, None if memory is None else memory[index])
    return self.ln_f(h)


class Latent(nn.Module):
  """-ELBO of a decoder that is told z at input, memory and softmax."""

  def __init__(self, settings: sizes_lib.ModelSettings, vocab_size: int):
    super().__init__()
    sizes, latent = settings.decoder, settings.latent_size
    self.slots = settings.injection.memory_slots
    self.shape = (sizes.layers, self.slots, sizes.heads)
    self.decoder = Stack(sizes, vocab_size, sizes.positions)
    self.encoder = Stack(settings.encoder, vocab_size, sizes.positions)
    width = settings.encoder.width
    self.query = nn.Linear(width, settings.encoder.heads, bias=False)
    self.mean, self.logvar = nn.Linear(width, latent), nn.Linear(width, latent)
    self.input = nn.Linear(latent, sizes.width, bias=False)
    self.slices = nn.Linear(latent, sizes.layers * self.slots * sizes.width)
    self.memory = nn.Parameter(
      0.02 * torch.randn(sizes.layers, sizes.width, 2 * sizes.width)
    )
    self.softmax = nn.Linear(latent, vocab_size)

  def forward(self, tokens):
    mean, logvar = self.encode(tokens)
    z = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
    hidden = self.decoder(
      tokens[:, :-1], self.mask(tokens), self.input(z), self.told(z)
    )
    logits = hidden @ self.decoder.wte.weight.T + self.softmax(z)[:, None]
    nll = F.cross_entropy(
      logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction='sum'
    )
    kl = 0.5 * (mean**2 + logvar.exp() - logvar - 1).sum()
    return (nll + kl) / len(tokens)

  def encode(self, tokens):
    states = self.encoder(tokens)
    shares = self.query(states).softmax(1)
    by_head = states.unflatten(-1, (shares.shape[-1], -1))
    pooled = torch.einsum('bth,bthk->bhk', shares, by_head).flatten(1)
    return self.mean(pooled), self.logvar(pooled)

  def mask(self, tokens):
    length = tokens.shape[1] - 1
    ones = torch.ones(
      length, length + self.slots, dtype=torch.bool, device=tokens.device
    )
    return ones.tril(self.slots)

  def told(self, z):
    """Keys and values [L, 2, B, H, M, K]."""
    layers, slots, heads = self.shape
    slices = self.slices(z).view(len(z), layers, slots, -1)
    both = torch.einsum('blmd,lde->lbme', slices, self.memory)
    both = both.unflatten(-1, (2, heads, -1))
    return both.permute(0, 3, 1, 4, 2, 5)
