"""Prints and stores the figures of a trained model on a split.

python -m experiments.evaluate --workdir=runs/a --split=test --samples=100
python -m experiments.evaluate --workdir=runs/a --sections=information,use
"""

from collections.abc import Callable
import dataclasses
import logging
import time
from typing import Any, NamedTuple

from absl import flags
from rich import console as rich_console
from rich import table as rich_table

from experiments import command
from lvdecode import errors
from lvdecode import restore
from lvdecode.evaluation import figures
from lvdecode.evaluation import information
from lvdecode.evaluation import likelihood
from lvdecode.evaluation import provenance
from lvdecode.evaluation import split as split_lib
from lvdecode.evaluation import use
from lvdecode.text import pipeline
from lvdecode.text import sources
from lvdecode.training import workdir as workdir_lib

_SPLIT = flags.DEFINE_string('split', 'test', 'train, validation or test.')
_SAMPLES = flags.DEFINE_integer(
  'samples', 100, 'K of the importance-weighted bound.'
)
_BATCH = flags.DEFINE_integer('batch_size', 128, 'Texts a batch.')
_SECTIONS = flags.DEFINE_list(
  'sections', None, 'What is measured; everything by default.'
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


class Section(NamedTuple):
  """How a section is made (a frozen dataclass) and shown."""

  measure: Callable[[Asked], Any]
  to_table: Callable[[Any, str], rich_table.Table]


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
}
# The headline report is composed of these, and written where they all are.
_HEADLINE = ('likelihood', 'information', 'use')


def main() -> None:
  workdir = command.workdir()
  errors.at_least('--samples', _SAMPLES.value, 1)
  errors.at_least('--batch_size', _BATCH.value, 1)
  errors.one_of('--split', _SPLIT.value, ('train', 'validation', 'test'))
  names = list(SECTIONS if _SECTIONS.value is None else _SECTIONS.value)
  for name in names:
    errors.one_of('--sections', name, tuple(SECTIONS))
  model = restore.load(workdir, command.STEP.value)
  folder = provenance.folder(workdir)
  data, split = _split(model)
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
  data = sources.read(settings.data, _SPLIT.value, cache)
  return data, split_lib.Split(
    task=model.task,
    params=model.params,
    corpus=pipeline.tokenize(data.texts, model.tokenizer, settings.pipeline),
    batch_size=_BATCH.value,
    lengths=settings.pipeline.lengths,
    seed=command.SEED.value,
  )


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
