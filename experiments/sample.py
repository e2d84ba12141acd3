"""Writes texts with a trained model: new ones, copies, or a way between two.

python -m experiments.sample --workdir=runs/a --mode=prior --num=4
python -m experiments.sample --workdir=runs/a --mode=reconstruct --text="…"
"""

import json
import pathlib

from absl import flags

from experiments import command
from lvdecode import errors
from lvdecode import restore
from lvdecode import sampling
from lvdecode.text import corpora
from lvdecode.text import files
from lvdecode.text import sources

_MODES = ('prior', 'reconstruct', 'interpolate')
_MODE = flags.DEFINE_string('mode', 'prior', ', '.join(_MODES))
_NUM = flags.DEFINE_integer('num', 8, 'Texts; steps, when interpolating.')
_TEXT = flags.DEFINE_multi_string(
  'text', [], 'What is encoded; may be given more than once.'
)
_INPUT = flags.DEFINE_string('input', None, 'A file, one text a line.')
_METHOD = flags.DEFINE_string(
  'method', None, 'greedy or sample; by default sample from the prior only.'
)
_TEMPERATURE = flags.DEFINE_float('temperature', 1.0, 'Divides the logits.')
_TOP_K = flags.DEFINE_integer('top_k', 0, 'Keep the k best tokens; 0: all.')
_TOP_P = flags.DEFINE_float('top_p', 1.0, 'Keep the best of mass p; 1: all.')
_FORMAT = flags.DEFINE_string('format', 'text', 'text or json.')


def main() -> None:
  workdir = command.workdir()
  errors.one_of('--mode', _MODE.value, _MODES)
  errors.one_of('--format', _FORMAT.value, ('text', 'json'))
  errors.at_least('--num', _NUM.value, 1)
  method = _METHOD.value or ('sample' if _MODE.value == 'prior' else 'greedy')
  rules = sampling.Rules(
    method=method,
    temperature=_TEMPERATURE.value,
    top_k=_TOP_K.value,
    top_p=_TOP_P.value,
  )
  model = restore.load(workdir, command.STEP.value)
  if _MODE.value == 'prior':
    for text in model.sample(_NUM.value, rules, command.SEED.value):
      _show({'sample': text})
  elif _MODE.value == 'reconstruct':
    texts = _texts(model, _NUM.value)
    copies = model.reconstruct(texts, rules, command.SEED.value)
    for text, copy in zip(texts, copies, strict=True):
      _show({'text': text, 'reconstruction': copy})
  else:
    texts = _texts(model, 2)
    if len(texts) != 2:
      raise errors.UserError(
        f'{len(texts)} texts were given: interpolate goes between exactly 2'
      )
    start, end = texts
    _show({'from': start, 'to': end})
    way = model.interpolate(start, end, _NUM.value, rules, command.SEED.value)
    for text in way:
      _show({'step': text})


def _texts(model: restore.Model, count: int) -> list[str]:
  """What the user gave, or else the first texts of the test split."""
  if _TEXT.value and _INPUT.value:
    raise errors.UserError('--text and --input exclude each other: give one')
  if _TEXT.value:
    texts = _TEXT.value
  elif _INPUT.value:
    texts = files.read_lines(pathlib.Path(_INPUT.value))
  else:
    cache = model.workdir / 'data'
    return sources.read(model.config.data, 'test', cache).texts[:count]
  for text in corpora.unknown(texts, model.tokenizer):
    raise errors.UserError(
      f'no token of the text {text!r} is in the vocabulary: use words of the '
      'training data'
    )
  return texts


def _show(record: dict[str, str]) -> None:
  if _FORMAT.value == 'json':
    print(json.dumps(record, ensure_ascii=False))
  else:
    width = max(map(len, record))
    for key, text in record.items():
      print(f'{key:>{width}}  {text}')


if __name__ == '__main__':
  command.run(main)
