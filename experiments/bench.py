"""Measures how fast training, sampling, evaluation and a start are here.

python -m experiments.bench all
python -m experiments.bench train --size=cpu --rounds=5 --json=bench.json
python -m experiments.bench vocabulary --size=gpt2

Ratios are the result: each compares what ran alternately in one process. With
PyTorch and transformers (pip install '.[peer]') they run the same beside.
"""

import json
import pathlib
import sys

from absl import flags
from ml_collections import config_dict
from ml_collections import config_flags

from experiments import command
from lvdecode import errors
from lvdecode import settings as settings_lib
from lvdecode.bench import machine
from lvdecode.bench import peer
from lvdecode.bench import report as report_lib
from lvdecode.bench import startup
from lvdecode.bench import suite
from lvdecode.report import style

_KINDS = ('train', 'sample', 'evaluate', 'vocabulary', 'startup', 'all')
_SIZES = {
  # layers of encoder and decoder, width, heads, V, T, B, texts, dtype
  'quick': (1, 2, 64, 2, 1_000, 16, 8, 4, 'float32'),
  'cpu': (6, 6, 256, 8, 10_000, 64, 32, 16, 'float32'),
  'gpt2': (6, 12, 768, 12, 50_257, 1_024, 16, 256, 'bfloat16'),
  'gpt2_medium': (6, 24, 1_024, 16, 50_257, 1_024, 8, 256, 'bfloat16'),
}
# What a size says, and the same for all of them.
_OF_A_SIZE = (
  'pipeline.lengths',
  'pipeline.batch_size',
  'model.dtype',
  'model.injection.points',
  'model.encoder.kind',
  'model.encoder.layers',
  'model.encoder.width',
  'model.encoder.heads',
  'model.decoder.layers',
  'model.decoder.width',
  'model.decoder.heads',
  'training.parallel',
)
_CONFIG = config_flags.DEFINE_config_file(
  'config', 'configs/base.py', 'What a size does not say; base by default.'
)
_SIZE = flags.DEFINE_multi_string(
  'size', [], f'Of {", ".join(_SIZES)}; more than one may be given.'
)
_ROUNDS = flags.DEFINE_integer('rounds', 5, 'Rounds, in turn.', lower_bound=1)
_STEPS = flags.DEFINE_integer('steps', 2, 'Steps a round.', lower_bound=1)
_SAMPLES = flags.DEFINE_integer('samples', 10, 'K.', lower_bound=1)
_PEER = flags.DEFINE_bool('peer', True, 'PyTorch beside ours, where it is.')
_TORCH_COMPILE = flags.DEFINE_bool('torch_compile', True, 'It compiled, too.')
_SCALING = flags.DEFINE_bool('scaling', True, 'With `all`: one size doubled.')
_JSON = flags.DEFINE_string('json', None, 'A file for all numbers; - prints.')
_CHART = flags.DEFINE_string('chart', None, 'A PNG of the ratios.')


def main(kind: str) -> None:
  errors.one_of('what to measure', kind, _KINDS)
  for name in _SIZE.value:
    errors.one_of('--size', name, tuple(_SIZES))
  for flag, path in (('--json', _JSON.value), ('--chart', _CHART.value)):
    if path and path != '-' and not pathlib.Path(path).parent.is_dir():
      raise errors.UserError(f'{flag}={path}: there is no such folder')
    if path and pathlib.Path(path).is_dir():
      raise errors.UserError(f'{flag}={path} is a folder: name a file in it')
  given = config_flags.get_override_values(flags.FLAGS['config'])
  for key in _OF_A_SIZE:
    if key in given:
      raise errors.UserError(
        f'--config.{key}: a size says what it is, so that figures compare: '
        'choose another --size, or leave it out'
      )
  missing = peer.missing() if _PEER.value else ''
  if missing:
    # Not among numbers that another program reads.
    print(missing, file=sys.stderr if _JSON.value == '-' else sys.stdout)
  described = machine.describe()  # with the load before this adds to it
  sections = []
  for name in _SIZE.value or ['quick']:
    sections += _measured(kind, _plan(name, torch=_PEER.value and not missing))
  if kind in ('startup', 'all'):
    sections.append(startup.measure())
  report = {'machine': described, 'sections': sections}
  if _JSON.value == '-':
    print(json.dumps(report, indent=2))
  else:
    print('\n'.join(report_lib.lines(report)))
  if _JSON.value and _JSON.value != '-':
    pathlib.Path(_JSON.value).write_text(json.dumps(report, indent=2) + '\n')
  if _CHART.value:
    style.save(report_lib.chart(report), pathlib.Path(_CHART.value))


def _measured(kind: str, plan: suite.Plan) -> list[dict]:
  """The sections of one size."""
  sections = []
  for name, measure in (
    ('train', suite.train),
    ('sample', suite.sample),
    ('evaluate', suite.evaluate),
    ('vocabulary', suite.vocabulary),
  ):
    if kind in (name, 'all'):
      sections.append(measure(plan))
  if kind == 'all' and _SCALING.value:
    sections += suite.scaling(plan, (1, 2, 4))
    sections.append(suite.devices(plan))
  return sections


def _plan(name: str, *, torch: bool) -> suite.Plan:
  encoder, decoder, width, heads, vocab, length, batch, texts, dtype = _SIZES[
    name
  ]
  c = config_dict.ConfigDict(command.config(_CONFIG.value))
  c.pipeline.lengths = (length,)
  c.pipeline.batch_size = batch
  c.model.dtype = dtype
  c.model.injection.points = ('input', 'memory', 'softmax')
  c.model.encoder.kind = 'own'
  c.model.encoder.layers, c.model.decoder.layers = encoder, decoder
  for part in (c.model.encoder, c.model.decoder):
    part.width, part.heads = width, heads
  c.model.decoder.positions = max(length, c.model.decoder.positions)
  c.training.parallel = 'jit'
  settings = settings_lib.from_dict(c.to_dict())
  return suite.Plan(
    name=name,
    settings=settings,
    vocab_size=vocab,
    texts=texts,
    samples=_SAMPLES.value,
    rounds=_ROUNDS.value,
    units=_STEPS.value,
    torch=torch,
    torch_compile=_TORCH_COMPILE.value,
  )


if __name__ == '__main__':
  command.run_with_word(main, 'all')
