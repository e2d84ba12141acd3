"""The same model in PyTorch, and Hugging Face's decoding: the extra `peer`."""

from typing import Any

import jax
import numpy as np

from lvdecode import settings as settings_lib
from lvdecode.bench import timing
from lvdecode.bench import training
from lvdecode.latent import sizes as sizes_lib
from lvdecode.sweeps import points

MISSING = (
  "no peer: PyTorch and transformers are not installed (pip install '.[peer]')"
)
_DEVICES = {'cpu': 'cpu', 'gpu': 'cuda'}  # of JAX, and PyTorch's name
# What the peer has; anything else would be timed beside less, or more, work.
_WRITTEN = {
  'model.injection.points': ('input', 'memory', 'softmax'),
  'model.injection.memory_layers': (),
  'model.injection.memory_tied': False,
  'model.injection.memory_score': None,
  'model.injection.softmax_rank': 0,
  'model.encoder.pooling': 'attention',
  'model.encoder.activation': 'gelu_tanh',
  'model.decoder.activation': 'gelu_tanh',
  'model.posterior.batch_norm': 0.0,
  'model.condition.routes': (),
  'model.adapters.rank': 0,
  'model.remat': 'none',
  'objective.estimator': 'elbo',
  'objective.samples': 1,
  'objective.mmd.weight': 0.0,
  'objective.bag_of_words': 0.0,
  'training.accumulate': 1,
  'training.micro_batch': 0,
  'training.ema': 0.0,
}


def missing() -> str:
  """Why there is no peer; '' if there is one, on the same kind of device."""
  try:
    import torch
    import transformers  # noqa: F401
  except ImportError:
    return MISSING
  backend = jax.default_backend()
  if backend not in _DEVICES:
    return f'no peer: PyTorch is not timed on a {backend}'
  if backend == 'gpu' and not torch.cuda.is_available():
    return 'no peer: JAX has a GPU, and the PyTorch that is installed has none'
  return ''


def unlike(settings: settings_lib.Settings) -> str:
  """Why `trainer` does other work than a step of ours; '' if it does not."""
  for key, written in _WRITTEN.items():
    found = points.value(settings, key)
    if found != written:
      return f'no peer: it has {key} = {written!r}, and this is {found!r}'
  return ''


def _device() -> str:
  """Of the kind that JAX has, and as exact with float32."""
  import torch

  device = _DEVICES[jax.default_backend()]
  if device == 'cuda':  # as XLA's default: TF32
    torch.set_float32_matmul_precision('high')
  return device


def _precision(model: sizes_lib.ModelSettings) -> Any:
  import torch

  half = model.compute_dtype.name == 'bfloat16'
  return torch.bfloat16 if half else torch.float32


def trainer(
  settings: settings_lib.Settings, vocab_size: int, *, compiled: bool
) -> timing.Subject:
  """A training step of the same sizes, told z at the same three points.

  scaled_dot_product_attention, fused AdamW, clipping, on JAX's kind of device;
  `compiled` by torch.compile. Of settings that are not `unlike`.
  """
  import torch

  from lvdecode.bench import torch_model

  device = _device()
  half = _precision(settings.model) is torch.bfloat16
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
  model: sizes_lib.ModelSettings,
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

  sizes = model.decoder
  device = _device()
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
  network = network.to(device, _precision(model)).eval()
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
