"""Writes texts with a trained model: new ones, copies, or a way between two.

python -m experiments.sample --workdir=runs/a --mode=prior --num=4
python -m experiments.sample --workdir=runs/a --mode=reconstruct --text="…"

A conditional model writes the text that follows from what it is given, or the
sentence that a story lacks:

python -m experiments.sample --workdir=runs/a --mode=complete --text="…" --num=4
python -m experiments.sample --workdir=runs/a --mode=fill --text="… <blank> …"
"""

import json
import pathlib

from absl import flags
import numpy as np

from experiments import command
from experiments import opened
from lvdecode import errors
from lvdecode import sampling
from lvdecode import trained
from lvdecode.text import conditions
from lvdecode.text import corpora
from lvdecode.text import files
from lvdecode.text import sources

_MODES = ('prior', 'reconstruct', 'interpolate', 'complete', 'fill')
_SHOWN = 4  # conditions of the test split, where none is typed
_MODE = flags.DEFINE_string('mode', 'prior', ', '.join(_MODES))
_NUM = flags.DEFINE_integer(
  'num', 8, 'Texts; steps, when interpolating; completions of each condition.'
)
_TEXT = flags.DEFINE_multi_string(
  'text', [], 'What is encoded, or given; may be given more than once.'
)
_INPUT = flags.DEFINE_string(
  'input',
  None,
  'A file, one text or condition a line; objects in a .jsonl; of a .tsv the '
  'texts.',
)
_RANKED = flags.DEFINE_integer(
  'ranked',
  0,
  'complete, fill: sort by the importance-weighted likelihood of so many '
  'samples; 0: as they were drawn.',
)
_METHOD = flags.DEFINE_string(
  'method', None, 'greedy or sample; by default greedy for what is encoded.'
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
  errors.at_least('--ranked', _RANKED.value, 0)
  method = 'sample'
  if _MODE.value in ('reconstruct', 'interpolate'):
    method = 'greedy'
  rules = sampling.Rules(
    method=_METHOD.value or method,
    temperature=_TEMPERATURE.value,
    top_k=_TOP_K.value,
    top_p=_TOP_P.value,
  )
  if _RANKED.value and _MODE.value not in ('complete', 'fill'):
    raise errors.UserError(
      f'--ranked={_RANKED.value} sorts completions: --mode={_MODE.value} '
      'makes none, leave it out'
    )
  model = opened.load(workdir)
  if _MODE.value in ('complete', 'fill'):
    _complete(model, rules)
  elif model.task.model.settings.conditional:
    _of_conditions(model, rules)
  else:
    _of_texts(model, rules)


def _of_texts(model: trained.Model, rules: sampling.Rules) -> None:
  seed = opened.SEED.value
  if _MODE.value == 'prior':
    if _TEXT.value or _INPUT.value:
      raise errors.UserError(
        f'{model.workdir} is given nothing: --mode=prior takes no --text or '
        '--input'
      )
    for text in model.sample(_NUM.value, rules, seed):
      _show({'sample': text})
  elif _MODE.value == 'reconstruct':
    texts = _texts(model, _NUM.value)
    copies = model.reconstruct(texts, rules, seed)
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
    for text in model.interpolate(start, end, _NUM.value, rules, seed):
      _show({'step': text})


def _of_conditions(model: trained.Model, rules: sampling.Rules) -> None:
  """Each with the condition of a text of the test split."""
  if _MODE.value == 'interpolate' or _TEXT.value or _INPUT.value:
    raise errors.UserError(
      f'{model.workdir} writes texts for what it is given: --mode='
      f'{_MODE.value} takes both from the test split, or none; use '
      '--mode=complete'
    )
  data = _test_split(model, _NUM.value)
  assert data.given is not None
  seed = opened.SEED.value
  if _MODE.value == 'prior':
    written = [each[0] for each in model.complete(data.given, 1, rules, seed)]
  else:
    written = model.reconstruct(data.texts, rules, seed, given=data.given)
  for parts, text, ours in zip(data.given, data.texts, written, strict=True):
    if _MODE.value == 'prior':
      _show({'given': conditions.readable(parts), 'sample': ours})
    else:
      copy = {'text': text, 'reconstruction': ours}
      _show({'given': conditions.readable(parts)} | copy)


def _complete(model: trained.Model, rules: sampling.Rules) -> None:
  """So many texts for each condition."""
  if model.config.semi_supervised.labels:
    raise errors.UserError(
      f'{model.workdir} is a classifier, which writes nothing for what it is '
      'given: lvdecode.load(DIR).judge(texts, aspects) asks it'
    )
  if not model.task.model.settings.conditional:
    raise errors.UserError(
      f'{model.workdir} is a model of texts alone, which are given nothing: '
      '--mode=prior writes some'
    )
  fill = _MODE.value == 'fill'
  if fill and model.config.data.story != 'missing':
    raise errors.UserError(
      f'{model.workdir} was not trained on stories that lack a sentence '
      "(data.story = 'missing'): use --mode=complete"
    )
  given = _given(model)
  completions = model.complete(
    given, _NUM.value, rules, opened.SEED.value, ranked=_RANKED.value
  )
  for parts, texts in zip(given, completions, strict=True):
    shown = 'story' if fill else 'given'
    _show({shown: conditions.readable(parts)})
    for text in texts:
      _show({'sentence' if fill else 'completion': text})


def _given(model: trained.Model) -> list[conditions.Parts]:
  """The parts of what the user typed, or else of the test split's first."""
  if _TEXT.value and _INPUT.value:
    raise errors.UserError('--text and --input exclude each other: give one')
  typed: list[tuple[str, str | list[str]]]
  if _TEXT.value:
    typed = [('--text', each) for each in _TEXT.value]
  elif _INPUT.value:
    data = model.config.data
    typed = files.read_given(pathlib.Path(_INPUT.value), data.fields)
  else:
    given = _test_split(model, _SHOWN).given
    assert given is not None
    return given
  found = []
  for place, each in typed:
    try:
      found.append(_checked(model, model.config.data.given(each)))
    except errors.UserError as error:
      raise errors.UserError(f'{place}: {error}') from error
  return found


def _checked(model: trained.Model, parts: conditions.Parts) -> conditions.Parts:
  """The same; UserError for what the model cannot be given."""
  length = model.config.pipeline.condition_length
  told = conditions.encode([parts], model.tokenizer, length)
  if told.truncated[0]:
    raise errors.UserError(
      f'the condition {errors.beginning(conditions.readable(parts))} is longer '
      f'than the {length} tokens that the model was trained with '
      '(pipeline.condition_length): shorten it'
    )
  if conditions.all_unknown(parts, model.tokenizer):
    raise errors.UserError(
      f'no token of the condition {conditions.readable(parts)!r} is in the '
      'vocabulary: use words of the training data'
    )
  return parts


def _test_split(model: trained.Model, count: int) -> sources.Texts:
  """Its first texts, with what is given with them."""
  data = opened.texts(model, 'test')
  return sources.take(data, np.arange(min(count, len(data.texts))))


def _texts(model: trained.Model, count: int) -> list[str]:
  """What the user gave, or else the first texts of the test split."""
  if _TEXT.value and _INPUT.value:
    raise errors.UserError('--text and --input exclude each other: give one')
  if _TEXT.value:
    texts = _TEXT.value
  elif _INPUT.value:
    field = model.config.data.text_field or 'text'
    texts = files.read_texts(pathlib.Path(_INPUT.value), field)
  else:
    return _test_split(model, count).texts
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
