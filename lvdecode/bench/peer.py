"""The same model in PyTorch, and Hugging Face's decoding: the extra `peer`."""

from typing import Any

import numpy as np

from lvdecode import errors
from lvdecode import settings as settings_lib
from lvdecode.bench import timing
from lvdecode.bench import training
from lvdecode.latent import sizes as sizes_lib

MISSING = (
  "no peer: PyTorch and transformers are not installed (pip install '.[peer]')"
)


def missing() -> str:
  """Why there is no peer; '' if there is one."""
  try:
    import torch  # noqa: F401
    import transformers  # noqa: F401
  except ImportError:
    return MISSING
  return ''


def trainer(
  settings: settings_lib.Settings, vocab_size: int, *, compiled: bool
) -> timing.Subject:
  """A training step of the same sizes, told z at the same three points.

  scaled_dot_product_attention, fused AdamW, clipping; on a GPU where there is
  one. `compiled` by torch.compile.

  Raises:
    UserError: settings that are not written here.
  """
  import torch

  from lvdecode.bench import torch_model

  if set(settings.model.injection.points) != {'input', 'memory', 'softmax'}:
    raise errors.UserError(
      'the peer is told z at input, memory and softmax: model.injection.points '
      f'is {settings.model.injection.points}'
    )
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  half = settings.model.compute_dtype.name == 'bfloat16'
  network: Any = torch_model.Latent(settings.model, vocab_size).to(device)
  chosen = settings.optimizer
  optimizer = torch.optim.AdamW(
    network.parameters(),
    lr=chosen.learning_rate,
    betas=(chosen.b1, chosen.b2),
    eps=chosen.eps,
    fused=True,
  )
  data = settings.pipeline
  rows = training.batch(data.batch_size, data.lengths[-1], vocab_size)
  tokens = torch.tensor(np.asarray(rows.tokens), device=device).long()
  forward = torch.compile(network) if compiled else network

  def run(units: int) -> None:
    for _ in range(units):
      with torch.autocast(device, torch.bfloat16, enabled=half):
        loss = forward(tokens)
      optimizer.zero_grad(set_to_none=True)
      loss.backward()
      if chosen.clip_norm:
        torch.nn.utils.clip_grad_norm_(network.parameters(), chosen.clip_norm)
      optimizer.step()
    loss.item()  # waits for the device

  return timing.Subject(run)


def writer(
  sizes: sizes_lib.DecoderSettings,
  vocab_size: int,
  rules: str,
  count: int,
  length: int,
) -> timing.Subject:
  """`generate` of a GPT-2 of these sizes: `length` tokens, BOS counted.

  `rules` is a key of `decoding.RULES`.
  """
  import torch
  import transformers

  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  config = transformers.GPT2Config(
    vocab_size=vocab_size,
    n_positions=max(sizes.positions, length),
    n_embd=sizes.width,
    n_layer=sizes.layers,
    n_head=sizes.heads,
    n_inner=sizes.inner or 4 * sizes.width,
    bos_token_id=training.BOS,
    eos_token_id=2,
    pad_token_id=0,
  )
  network: Any = transformers.GPT2LMHeadModel(config)
  network = network.to(device).eval()
  begin = torch.full((count, 1), training.BOS, device=device)
  chosen: dict[str, Any] = {'do_sample': rules != 'greedy'}
  if chosen['do_sample']:
    chosen |= {'top_k': 0, 'top_p': 0.9 if 'top_p' in rules else 1.0}
  new = length - 1

  def run(units: int) -> None:
    for _ in range(units):
      with torch.no_grad():
        out = network.generate(
          begin,
          attention_mask=torch.ones_like(begin),
          max_new_tokens=new,
          min_new_tokens=new,
          **chosen,
        )
      assert out.shape == (count, length)
      out[0, -1].item()

  return timing.Subject(run)
