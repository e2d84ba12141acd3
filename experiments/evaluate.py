"""Prints and stores the figures of a trained model on a split.

python -m experiments.evaluate --workdir=runs/a --split=test --samples=100
python -m experiments.evaluate --workdir=runs/a --sections=information,use
"""

from collections.abc import Callable, Sequence
import dataclasses
import logging
import time
from typing import Any, NamedTuple

from absl import flags
import numpy as np
from rich import console as rich_console
from rich import table as rich_table

from experiments import command
from lvdecode import errors
from lvdecode import restore
from lvdecode.evaluation import attributes
from lvdecode.evaluation import codes
from lvdecode.evaluation import disentanglement
from lvdecode.evaluation import figures
from lvdecode.evaluation import information
from lvdecode.evaluation import likelihood
from lvdecode.evaluation import probing
from lvdecode.evaluation import provenance
from lvdecode.evaluation import quality
from lvdecode.evaluation import split as split_lib
from lvdecode.evaluation import use
from lvdecode.text import pipeline
from lvdecode.text import sources
from lvdecode.training import workdir as workdir_lib

# The headline report is composed of these, and written where they all are.
_HEADLINE = ('likelihood', 'information', 'use')

_SPLIT = flags.DEFINE_string('split', 'test', 'train, validation or test.')
_SAMPLES = flags.DEFINE_integer(
  'samples', 100, 'K of the importance-weighted bound.'
)
_BATCH = flags.DEFINE_integer('batch_size', 128, 'Texts a batch.')
_SECTIONS = flags.DEFINE_list(
  'sections',
  list(_HEADLINE),
  'What is measured: likelihood, information, use, text, codes, probing, '
  "attributes, disentanglement; or 'all' that apply.",
)
_TEXTS = flags.DEFINE_integer(
  'texts', 0, 'So many texts, spread evenly over the split; 0 for all.'
)


class Asked(NamedTuple):
  """What a section may measure.

  Attributes:
    model: the trained model.
    split: its texts, tokenised.
    data: the same texts as they were read, and their labels.
    samples: K.
    advance: to be called with the number of texts just finished.
  """

  model: restore.Model
  split: split_lib.Split
  data: sources.Texts
  samples: int
  advance: Callable[[float], None]

  def training(self) -> sources.Texts:
    """What the model was trained on."""
    cache = self.model.workdir / 'data'
    return sources.read(self.model.config.data, 'train', cache)

  def means(self, texts: Sequence[str]) -> np.ndarray:
    """The posterior's means [n, Z]."""
    return np.asarray(self.model.encode(texts).mean)


class Section(NamedTuple):
  """How a section is made (a frozen dataclass) and shown.

  Attributes:
    measure: makes it.
    to_table: of it and a title.
    needs: what model or data must have, keys of `_LACKS`.
  """

  measure: Callable[[Asked], Any]
  to_table: Callable[[Any, str], rich_table.Table]
  needs: tuple[str, ...] = ()


# Texts that are decoded, or of which classifiers learn, where all of a split
# would take long and change little.
_DECODED = 1_000
_LEARNED = 10_000
_LACKS = {
  'latent': 'the run has no latent: model.injection.points is empty',
  'attributes': 'the data have no labels: set data.label_field',
  'factors': "only data.source 'embedded' has known factors",
}


def _quality(asked: Asked) -> quality.Quality:
  texts = sources.spread(asked.data, _DECODED).texts
  told = asked.model.latent_size > 0
  return quality.measure(
    texts,
    training=asked.training().texts,
    samples=asked.model.sample(len(texts), seed=asked.split.seed),
    reconstructions=asked.model.reconstruct(texts) if told else None,
    seed=asked.split.seed,
  )


def _codes(asked: Asked) -> codes.Codes:
  return codes.measure(
    asked.data.texts,
    asked.data.labels,
    encode=asked.means,
    decode=asked.model.decode,
    nll=lambda texts: asked.model.nll(texts, samples=10),
    pairs=100,
    steps=8,
    shown=5,
    seed=asked.split.seed,
  )


def _labelled(asked: Asked) -> tuple[probing.Labelled, probing.Labelled]:
  seed = asked.split.seed
  return (
    probing.label(asked.training(), asked.means, _LEARNED, seed),
    probing.label(asked.data, asked.means, _LEARNED, seed),
  )


def _attributes(asked: Asked) -> attributes.Attributes:
  return attributes.measure(
    *_labelled(asked),
    decode=asked.model.decode,
    scales=(1.0, 2.0),
    texts=_DECODED // 10,
  )


def _disentanglement(asked: Asked) -> disentanglement.Disentanglement:
  found = probing.label(
    asked.data, asked.means, _LEARNED // 2, asked.split.seed
  )
  return disentanglement.measure(
    found.mean, found.attributes, seed=asked.split.seed
  )


SECTIONS = {
  'likelihood': Section(
    lambda asked: likelihood.measure(
      asked.split, samples=asked.samples, advance=asked.advance
    ),
    likelihood.to_table,
  ),
  'information': Section(
    lambda asked: information.measure(asked.split), information.to_table
  ),
  'use': Section(
    lambda asked: use.measure(asked.split, asked.advance), use.to_table
  ),
  'text': Section(_quality, quality.to_table),
  'codes': Section(_codes, codes.to_table, ('latent',)),
  'probing': Section(
    lambda asked: probing.measure(*_labelled(asked)),
    probing.to_table,
    ('latent', 'attributes'),
  ),
  'attributes': Section(
    _attributes, attributes.to_table, ('latent', 'attributes')
  ),
  'disentanglement': Section(
    _disentanglement, disentanglement.to_table, ('latent', 'factors')
  ),
}


def main() -> None:
  workdir = command.workdir()
  errors.at_least('--samples', _SAMPLES.value, 1)
  errors.at_least('--batch_size', _BATCH.value, 1)
  errors.one_of('--split', _SPLIT.value, ('train', 'validation', 'test'))
  errors.at_least('--texts', _TEXTS.value, 0)
  for name in _SECTIONS.value:
    errors.one_of('--sections', name, (*SECTIONS, 'all'))
  model = restore.load(workdir, command.STEP.value)
  folder = provenance.folder(workdir)
  data, split = _split(model)
  names = _applicable(_SECTIONS.value, model, data)
  found, seconds = _measure(model, data, split, names)
  origin = provenance.make(
    workdir,
    split=_SPLIT.value,
    texts=split.count,
    step=model.step,
    batch_size=split.batch_size,
    samples=found['likelihood'].samples if 'likelihood' in found else None,
    seed=split.seed,
  )
  title = f'{workdir.name}, step {model.step:,}, {_SPLIT.value} split'
  console = rich_console.Console()
  if set(_HEADLINE) <= set(found):
    report = figures.compose(split, *(found[name] for name in _HEADLINE))
    console.print(figures.to_table(report, title))
  for name, section in found.items():
    console.print(SECTIONS[name].to_table(section, f'{title}: {name}'))
  written = {name: dataclasses.asdict(found[name]) for name in found}
  if set(_HEADLINE) <= set(found):
    written = {'figures': report.to_dict()} | written
  path = folder / f'{_SPLIT.value}.json'
  provenance.write(path, origin, written, seconds)
  print(f'{sum(seconds.values()):.0f} s; written to {path}')


def _split(model: restore.Model) -> tuple[sources.Texts, split_lib.Split]:
  """The data that the run was trained beside, tokenised as it did."""
  settings = model.config
  cache = model.workdir / 'data'
  trained_on = workdir_lib.read_settings(model.workdir).get('data_fingerprint')
  if sources.fingerprint(settings.data, cache) != trained_on:
    raise errors.UserError(
      'the data have changed since the run was trained on them, and a split '
      'that is held out may hold training texts now: restore them'
    )
  data = sources.spread(
    sources.read(settings.data, _SPLIT.value, cache), _TEXTS.value
  )
  return data, split_lib.Split(
    task=model.task,
    params=model.params,
    corpus=pipeline.tokenize(data.texts, model.tokenizer, settings.pipeline),
    batch_size=_BATCH.value,
    lengths=settings.pipeline.lengths,
    seed=command.SEED.value,
  )


def _applicable(
  names: Sequence[str], model: restore.Model, data: sources.Texts
) -> list[str]:
  """Those asked for; of 'all', those that model and data have what it takes.

  Raises:
    UserError: a section was asked for by name that cannot be.
  """
  there = {
    'latent': model.latent_size > 0,
    'attributes': bool(data.labels or data.factors),
    'factors': bool(data.factors),
  }
  everything = 'all' in names
  found = []
  for name in SECTIONS if everything else names:
    lacks = [_LACKS[need] for need in SECTIONS[name].needs if not there[need]]
    if not lacks:
      found.append(name)
    elif everything:
      logging.info('without %s: %s', name, lacks[0])
    else:
      raise errors.UserError(f'--sections={name}: {lacks[0]}')
  return found


def _measure(
  model: restore.Model,
  data: sources.Texts,
  split: split_lib.Split,
  names: list[str],
) -> tuple[dict[str, Any], dict[str, float]]:
  """Each section, and how long it took, in seconds."""
  found, seconds = {}, {}
  begin = time.perf_counter()
  logging.info('encoding %s texts', f'{split.count:,}')
  split.sample  # noqa: B018  (all sections start from it)
  seconds['one_sample'] = round(time.perf_counter() - begin, 1)
  for name in names:
    begin = time.perf_counter()
    with command.Progress(name, split.count) as progress:
      asked = Asked(model, split, data, _SAMPLES.value, progress.advance)
      found[name] = SECTIONS[name].measure(asked)
    seconds[name] = round(time.perf_counter() - begin, 1)
  return found, seconds


if __name__ == '__main__':
  command.run(main)
