"""The measurements of one size: subjects, limits, ratios and their targets."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import jax

from lvdecode import settings as settings_lib
from lvdecode.bench import decoding
from lvdecode.bench import flops
from lvdecode.bench import loss
from lvdecode.bench import machine
from lvdecode.bench import peer
from lvdecode.bench import timing
from lvdecode.bench import training

PEER, COMPILED = 'PyTorch', 'PyTorch, compiled'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """What all measurements have in common.

  Attributes:
    name: of the size.
    settings: the model and its batch.
    vocab_size: rows of the vocabulary.
    texts: how many are written at a time.
    samples: K of the importance-weighted bound.
    rounds: in each of which all subjects are timed.
    units: steps a subject takes in a round.
    torch: whether PyTorch runs beside ours.
    torch_compile: whether torch.compile is tried too.
  """

  name: str
  settings: settings_lib.Settings
  vocab_size: int
  texts: int
  samples: int
  rounds: int
  units: int
  torch: bool
  torch_compile: bool

  @property
  def shape(self) -> str:
    """The size in words."""
    model, data = self.settings.model, self.settings.pipeline
    return (
      f'{model.encoder.layers} + {model.decoder.layers} layers, width '
      f'{model.decoder.width}, {model.decoder.heads} heads, V = '
      f'{self.vocab_size:,}, T = {data.lengths[-1]}, B = {data.batch_size}, '
      f'Z = {model.latent_size}, {model.dtype}'
    )


def train(plan: Plan) -> dict[str, Any]:
  """Our step, with less of what z costs, and the peer's."""
  settings, notes = plan.settings, []
  data = settings.pipeline
  tasks = training.variants(settings, plan.vocab_size)
  subjects = {
    name: training.subject(settings, task) for name, task in tasks.items()
  }
  operations = {
    name: flops.training_step(
      task.model.settings,
      plan.vocab_size,
      data.batch_size,
      data.lengths[-1],
      settings.objective.samples,
    )
    for name, task in tasks.items()
  }
  operations['encoder + plain decoder'] = (
    flops.TRAINING
    * data.batch_size
    * (
      flops.encoder(settings.model, data.lengths[-1])
      + operations['plain decoder'] / (flops.TRAINING * data.batch_size)
    )
  )
  beside = ['encoder + plain decoder', 'plain decoder']
  unlike = peer.unlike(settings) if plan.torch else ''
  if unlike:
    notes.append(unlike)
  torch = plan.torch and not unlike
  if torch:
    subjects[PEER] = peer.trainer(settings, plan.vocab_size, compiled=False)
    operations[PEER] = operations['ours']
    beside.append(PEER)
  if torch and plan.torch_compile:
    compiled = peer.trainer(settings, plan.vocab_size, compiled=True)
    try:
      compiled.run(1)
    except Exception as error:  # whatever the other compiler raises
      notes.append(f'torch.compile failed here: {type(error).__name__}')
    else:
      subjects[COMPILED], operations[COMPILED] = compiled, operations['ours']
      beside.append(COMPILED)
  tokens = data.batch_size * (data.lengths[-1] - 1)
  limit = 'matrix product, FLOP'
  seconds, best = timing.alternately(
    subjects,
    {limit: machine.matmul(settings.model.dtype)},
    plan.rounds,
    plan.units,
  )
  rows = _rows(subjects, seconds, 'step', tokens, 'target tokens')
  for row in rows:
    row['flops'] = operations[row['name']]
    row['share'] = row['flops'] / row['seconds'] / best[limit]
    row['share_of'] = 'the measured matrix product (MFU)'
  targets = {'encoder + plain decoder': 0.95, PEER: 1.0}
  ratios = _ratios(seconds, beside, targets)
  of_memory = timing.ratio(seconds, 'memory alone', 'encoder + plain decoder')
  ratios.append(of_memory | {'target': 0.97})
  return _section(plan, 'train', rows, best, ratios, notes)


def sample(plan: Plan) -> dict[str, Any]:
  """Texts of the longest length, by each of the rules."""
  settings = plan.settings
  length = settings.pipeline.lengths[-1]
  tasks = training.variants(settings, plan.vocab_size)
  subjects, ratios, rows = {}, [], []
  for name, rules in decoding.RULES.items():
    task = tasks['ours']
    subjects[name] = decoding.sampler(
      task, decoding.parameters(task), rules, plan.texts, length
    )
    if plan.torch:
      subjects[f'transformers {name}'] = peer.writer(
        settings.model, plan.vocab_size, name, plan.texts, length
      )
  plain = tasks['plain decoder']
  subjects['plain decoder greedy'] = decoding.sampler(
    plain,
    decoding.parameters(plain),
    decoding.RULES['greedy'],
    plan.texts,
    length,
  )
  limit = 'memory read, bytes'
  seconds, best = timing.alternately(
    subjects, {limit: machine.bandwidth()}, plan.rounds, 1
  )
  tokens = plan.texts * (length - 1)
  rows = _rows(subjects, seconds, 'batch', tokens, 'tokens')
  needed = flops.decoding_bytes(
    settings.model, plan.vocab_size, plan.texts, length
  )
  for row in rows:
    row['share'] = (length - 1) * needed / row['seconds'] / best[limit]
    row['share_of'] = 'the measured memory bandwidth'
  names = list(decoding.RULES) if plan.torch else []
  for name in names:
    ratio = timing.ratio(seconds, name, f'transformers {name}')
    ratios.append(ratio | {'target': 3.0})
  ratios.append(timing.ratio(seconds, 'greedy', 'plain decoder greedy'))
  return _section(
    plan,
    'sample',
    rows,
    best,
    ratios,
    [f'{plan.texts} texts of {length} tokens'],
  )


def evaluate(plan: Plan) -> dict[str, Any]:
  """The importance-weighted bound by 1 and by K samples."""
  data = plan.settings.pipeline
  task = training.variants(plan.settings, plan.vocab_size)['ours']
  params = decoding.parameters(task)
  subjects = {
    f'K = {count}': decoding.bound(
      task, params, data.batch_size, data.lengths[-1], count
    )
    for count in sorted({1, plan.samples})
  }
  seconds, best = timing.alternately(subjects, {}, plan.rounds, 1)
  rows = _rows(subjects, seconds, 'batch', data.batch_size, 'texts')
  for row in rows:
    row['value'] = int(row['name'].removeprefix('K = '))
  return _section(plan, 'evaluate', rows, best, [], [])


def vocabulary(plan: Plan) -> dict[str, Any]:
  """The loss over the vocabulary, by chunks and of all logits at once."""
  settings = plan.settings
  whole = loss.logits_bytes(settings, plan.vocab_size)
  ways = {
    'in chunks': settings.objective.logits_bytes,
    'of all logits': whole,
  }
  found = {
    name: loss.make(settings, plan.vocab_size, max_bytes)
    for name, max_bytes in ways.items()
  }
  subjects = {name: way.subject for name, way in found.items()}
  seconds, best = timing.alternately(subjects, {}, plan.rounds, plan.units)
  data = settings.pipeline
  tokens = data.batch_size * data.lengths[-1]
  rows = _rows(subjects, seconds, 'loss and gradient', tokens, 'tokens')
  ratios = [timing.ratio(seconds, *ways)]
  held = found['in chunks'].temporary_bytes
  if held is not None:
    ratios.append(_held(held / whole, plan, whole))
  return _section(plan, 'vocabulary', rows, best, ratios, [])


def _held(share: float, plan: Plan, whole: int) -> dict[str, Any]:
  """Memory of the loss beside that of the logits; a target for large ones."""
  ratio = {
    'name': 'in chunks / the logits themselves',
    'of': 'memory',
    'value': share,
    'rounds': [share],
  }
  embedding = 4 * plan.vocab_size * plan.settings.model.decoder.width
  chunk = plan.settings.objective.logits_bytes
  # Few rows have nothing to save beside the embedding's own gradient.
  if whole > 8 * chunk and whole > 20 * embedding:
    ratio['target'] = 0.2
  return ratio


def scaling(plan: Plan, factors: Sequence[int]) -> list[dict[str, Any]]:
  """A training step with one size after the other multiplied."""
  sections = []
  for axis, changed in _AXES.items():
    rows = []
    for factor in factors:
      settings, value = changed(plan.settings, factor)
      task = training.variants(settings, plan.vocab_size)['ours']
      subjects = {f'{axis} {value}': training.subject(settings, task)}
      seconds, _ = timing.alternately(subjects, {}, plan.rounds, plan.units)
      data = settings.pipeline
      tokens = data.batch_size * (data.lengths[-1] - 1)
      (row,) = _rows(subjects, seconds, 'step', tokens, 'target tokens')
      rows.append(row | {'value': value})
    section = _section(plan, 'scaling', rows, {}, [], [])
    sections.append(section | {'size': f'{plan.name}, {axis}'})
  return sections


def _replaced(settings, part, **changes):
  return dataclasses.replace(
    settings, **{part: dataclasses.replace(getattr(settings, part), **changes)}
  )


def _more_texts(settings, factor):
  value = settings.pipeline.batch_size * factor
  return _replaced(settings, 'pipeline', batch_size=value), value


def _longer(settings, factor):
  value = settings.pipeline.lengths[-1] * factor
  decoder = dataclasses.replace(settings.model.decoder, positions=value)
  longer = dataclasses.replace(  # together: one without the other is refused
    settings,
    pipeline=dataclasses.replace(settings.pipeline, lengths=(value,)),
    model=dataclasses.replace(settings.model, decoder=decoder),
  )
  return longer, value


def _deeper(settings, factor):
  value = settings.model.decoder.layers * factor
  decoder = dataclasses.replace(settings.model.decoder, layers=value)
  return _replaced(settings, 'model', decoder=decoder), value


def _more_latent(settings, factor):
  value = settings.model.latent_size * factor
  return _replaced(settings, 'model', latent_size=value), value


def _more_samples(settings, factor):
  return _replaced(settings, 'objective', samples=factor), factor


_AXES = {
  'texts': _more_texts,
  'length': _longer,
  'decoder layers': _deeper,
  'latent size': _more_latent,
  'samples K': _more_samples,
}


def devices(plan: Plan) -> dict[str, Any]:
  """A training step on one device, and on all of them."""
  subjects, value, notes = {}, {}, []
  data, there = plan.settings.pipeline, jax.local_device_count()
  kinds = [('jit', 1), ('pmap', there)]
  if data.batch_size % there:
    notes.append(f'{data.batch_size} texts do not divide by {there} devices')
    kinds = kinds[:1]
  for kind, count in kinds:
    settings = _replaced(plan.settings, 'training', parallel=kind)
    task = training.variants(settings, plan.vocab_size)['ours']
    name = f'{count} devices ({kind})'
    subjects[name], value[name] = training.subject(settings, task), count
  seconds, _ = timing.alternately(subjects, {}, plan.rounds, plan.units)
  tokens = data.batch_size * (data.lengths[-1] - 1)
  rows = _rows(subjects, seconds, 'step', tokens, 'target tokens')
  rows = [row | {'value': value[row['name']]} for row in rows]
  section = _section(plan, 'scaling', rows, {}, [], notes)
  return section | {'size': f'{plan.name}, devices'}


def _rows(subjects, seconds, unit, count, counted) -> list[dict[str, Any]]:
  rows = []
  for name, subject in subjects.items():
    least = min(seconds[name])
    rows.append(
      {
        'name': name,
        'seconds': least,
        'rounds': seconds[name],
        'unit': unit,
        'per_second': count / least,
        'counted': counted,
        'count': count,
        'compile_seconds': subject.compile_seconds,
        'program_bytes': subject.program_bytes,
      }
    )
  return rows


def _ratios(
  seconds: Mapping[str, Sequence[float]],
  beside: Sequence[str],
  targets: Mapping[str, float],
) -> list[dict[str, Any]]:
  return [
    timing.ratio(seconds, 'ours', name)
    | ({'target': targets[name]} if name in targets else {})
    for name in beside
  ]


def _section(plan, kind, rows, limits, ratios, notes) -> dict[str, Any]:
  return {
    'kind': kind,
    'size': plan.name,
    'shape': plan.shape,
    'rows': rows,
    'limits': dict(limits),
    'ratios': ratios,
    'notes': list(notes),
    'peak_bytes': machine.peak_bytes(),
  }
