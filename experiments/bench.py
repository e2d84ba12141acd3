"""Measures how fast training, sampling, evaluation and a start are here.

python -m experiments.bench all
python -m experiments.bench train --size=cpu --rounds=5 --json=bench.json
python -m experiments.bench vocabulary --size=gpt2

Ratios are the result: each compares what ran alternately in one process. With
PyTorch and transformers (pip install '.[peer]') they run the same beside.
"""

from collections.abc import Iterator
import json
import pathlib
import sys
from typing import Any

from absl import flags
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
from lvdecode.sweeps import points
from lvdecode.training import workdir

_KINDS = ('train', 'sample', 'evaluate', 'vocabulary', 'startup', 'all')
_SIZES = {
  # layers of encoder and decoder, width, heads, V, T, B, texts, dtype
  'quick': (1, 2, 64, 2, 1_000, 16, 8, 4, 'float32'),
  'cpu': (6, 6, 256, 8, 10_000, 64, 32, 16, 'float32'),
  'gpt2': (6, 12, 768, 12, 50_257, 1_024, 16, 256, 'bfloat16'),
  'gpt2_medium': (6, 24, 1_024, 16, 50_257, 1_024, 8, 256, 'bfloat16'),
}
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
  for key in _keys('quick'):
    if key in given:
      raise errors.UserError(
        f'--config.{key}: a size says what it is, so that figures compare: '
        'choose another --size, or leave it out'
      )
  missing = peer.missing() if _PEER.value else ''
  if missing:
    # Not among numbers that another program reads.
    print(missing, file=sys.stderr if _JSON.value == '-' else sys.stdout)
  report: dict[str, Any] = {
    'machine': machine.describe(),  # with the load before this adds to it
    'sections': [],
  }
  quiet = _JSON.value == '-'
  if not quiet:
    print('\n'.join(report_lib.head(report['machine'])), flush=True)
  for section in _measured(kind, torch=_PEER.value and not missing):
    # Each as soon as it is there: what is stopped has not been in vain.
    report['sections'].append(section)
    if not quiet:
      print('\n'.join(['', *report_lib.section_lines(section)]), flush=True)
    if _JSON.value and not quiet:
      workdir.write_text(
        pathlib.Path(_JSON.value), json.dumps(report, indent=2) + '\n'
      )
  if quiet:
    print(json.dumps(report, indent=2))
  if _CHART.value:
    style.save(report_lib.chart(report), pathlib.Path(_CHART.value))


def _measured(kind: str, *, torch: bool) -> Iterator[dict[str, Any]]:
  """The sections of all sizes, one after the other."""
  for size in _SIZE.value or ['quick']:
    plan = _plan(size, torch=torch)
    for name, measure in (
      ('train', suite.train),
      ('sample', suite.sample),
      ('evaluate', suite.evaluate),
      ('vocabulary', suite.vocabulary),
    ):
      if kind in (name, 'all'):
        yield measure(plan)
    if kind == 'all' and _SCALING.value:
      yield from suite.scaling(plan, (1, 2, 4))
      yield suite.devices(plan)
  if kind in ('startup', 'all'):
    yield startup.measure()


def _keys(name: str) -> dict[str, Any]:
  """What a size sets, by dotted key; the same keys for all of them."""
  encoder, decoder, width, heads, vocab, length, batch, _, dtype = _SIZES[name]
  return {
    'tokenizer.vocab_size': vocab,
    'pipeline.lengths': (length,),
    'pipeline.batch_size': batch,
    'model.dtype': dtype,
    'model.injection.points': ('input', 'memory', 'softmax'),
    'model.encoder.kind': 'own',
    'model.encoder.layers': encoder,
    'model.encoder.width': width,
    'model.encoder.heads': heads,
    'model.decoder.layers': decoder,
    'model.decoder.width': width,
    'model.decoder.heads': heads,
    'training.parallel': 'jit',
  }


def _plan(name: str, *, torch: bool) -> suite.Plan:
  _, _, _, _, vocab, length, _, texts, _ = _SIZES[name]
  tree = points.overridden(command.config(_CONFIG.value), _keys(name))
  decoder = tree['model']['decoder']
  decoder['positions'] = max(length, decoder['positions'])
  settings = settings_lib.from_dict(tree)
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
