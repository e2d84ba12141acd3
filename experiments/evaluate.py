"""Prints and stores the figures of a trained model on a split.

python -m experiments.evaluate --workdir=runs/a --split=test --samples=100
python -m experiments.evaluate --workdir=runs/a --sections=information,use
python -m experiments.evaluate --workdir=runs/a --workdir=runs/b --report
"""

from collections.abc import Callable
import contextlib
import dataclasses
import functools
import logging
import pathlib
import time
from typing import Any, NamedTuple

from absl import flags
import numpy as np
from rich import console as rich_console

from experiments import command
from experiments import opened
from lvdecode import errors
from lvdecode import trained
from lvdecode.evaluation import figures
from lvdecode.evaluation import measures
from lvdecode.evaluation import provenance
from lvdecode.evaluation import split as split_lib
from lvdecode.evaluation import stored
from lvdecode.report import curves
from lvdecode.report import exhibit
from lvdecode.report import page
from lvdecode.text import sources
from lvdecode.text import supervision
from lvdecode.training import checkpoint
from lvdecode.training import workdir as workdir_lib

_SPLIT = flags.DEFINE_string('split', 'test', 'train, validation or test.')
_SAMPLES = flags.DEFINE_integer(
  'samples', 100, 'K of the importance-weighted bound.'
)
_BATCH = flags.DEFINE_integer('batch_size', 128, 'Texts a batch.')
_SECTIONS = flags.DEFINE_list(
  'sections',
  list(measures.HEADLINE),
  'What is measured: likelihood, information, use, text, completion, '
  'classification, codes, probing, attributes, disentanglement; or '
  "'all' that apply.",
)
_TEXTS = flags.DEFINE_integer(
  'texts', 0, 'So many texts, spread evenly over the split; 0 for all.'
)
_REPORT = flags.DEFINE_bool(
  'report',
  False,
  'Write a page of all that is known of the run, or of several side by side; '
  'what was measured before is not measured again.',
)
_MISSING = flags.DEFINE_bool(
  'missing',
  False,
  'Measure only what was not measured by this code with these settings and K, as '
  '--report does.',
)
_OUT = flags.DEFINE_string(
  'out', None, 'The page; by default report/index.html in the (first) workdir.'
)


def main() -> None:
  if _OUT.value and not _REPORT.value:
    raise errors.UserError(
      f'--out={_OUT.value} names the page of --report: give both, or neither'
    )
  workdirs = command.workdirs() if _REPORT.value else [command.workdir()]
  errors.at_least('--samples', _SAMPLES.value, 1)
  errors.at_least('--batch_size', _BATCH.value, 1)
  errors.one_of('--split', _SPLIT.value, ('train', 'validation', 'test'))
  errors.at_least('--texts', _TEXTS.value, 0)
  if not _SECTIONS.value:
    raise errors.UserError('--sections is empty: name some, or leave it out')
  for name in _SECTIONS.value:
    errors.one_of('--sections', name, (*measures.SECTIONS, 'all'))
  runs = [_evaluate(workdir) for workdir in workdirs]
  if _REPORT.value:
    path = workdirs[0] / 'report' / 'index.html'
    if _OUT.value:
      path = errors.path(_OUT.value)
    page.write(path, [_run(run) for run in runs])
    print(f'report   {path}')


class Evaluated(NamedTuple):
  """A run whose figures were printed and stored.

  Attributes:
    model: the trained model.
    data: the texts.
    origin: the provenance, as it is stored.
    found: the figures by section.
  """

  model: trained.Model
  data: sources.Texts
  origin: dict[str, Any]
  found: dict[str, Any]


def _evaluate(workdir: pathlib.Path) -> Evaluated:
  # Before a model is chosen: a run that trains meanwhile has later ones.
  latest = max(checkpoint.steps(workdir), default=None)
  model = opened.load(workdir)
  if _REPORT.value:  # before hours of work: an exported model has no curves
    curves.read_metrics(workdir)
    if model.config.semi_supervised.labels:
      raise errors.UserError(
        f'{workdir} is a classifier: --report draws a page of texts and latents, '
        'leave it out'
      )
  path = provenance.folder(workdir) / f'{_SPLIT.value}.json'
  data, split = _split(model)
  # Once: it says what is measured from here on, whatever becomes of the files.
  origin = _origin(model, split)
  found = _measured_before(path, origin, split)
  store = functools.partial(_store, path, latest, origin)
  names = _names()
  if (
    model.config.semi_supervised.labels and not flags.FLAGS['sections'].present
  ):
    names = ['classification']  # the others are of texts alone
  names = measures.applicable(names, model, data, _SPLIT.value)
  missing = [name for name in names if name not in found]
  new, seconds, mistake = _measure(model, data, split, missing, store)
  found |= new
  if not found:
    raise mistake or errors.UserError(
      f'none of {", ".join(missing)} could be measured on these texts'
    )
  title = f'{workdir.name}, step {model.step:,}, {_SPLIT.value} split'
  # The texts of the data are no markup.
  console = rich_console.Console(markup=False, emoji=False)
  if set(measures.HEADLINE) <= set(found):
    report = figures.compose(
      split, *(found[name] for name in measures.HEADLINE)
    )
    found = {'figures': report} | found
    console.print(figures.to_table(report, title))
  store(found, seconds)
  for name, section in new.items():
    console.print(measures.SECTIONS[name].to_table(section, f'{title}: {name}'))
  written = provenance.read(path)
  took = f'{sum(seconds.values()):.0f} s'
  if seconds.get('likelihood'):
    each = 1e3 * written['seconds_per_sample']
    took += f', likelihood {each:.2g} ms a sample of a text'
  print(f'{took}; written to {path}')
  if mistake is not None:
    raise mistake
  return Evaluated(model, data, written, found)


def _store(
  path: pathlib.Path,
  latest: int | None,
  origin: provenance.Provenance,
  found: dict[str, Any],
  seconds: dict[str, float],
) -> None:
  """Writes all that this process knows of a split."""
  if 'likelihood' in found:
    samples = found['likelihood'].samples
    origin = dataclasses.replace(origin, samples=samples)
  sections = {
    name: section.to_dict()
    if name == 'figures'
    else dataclasses.asdict(section)
    for name, section in found.items()
  }
  provenance.write(path, origin, sections, seconds, opened.STEP.value, latest)


def _origin(
  model: trained.Model, split: split_lib.Split
) -> provenance.Provenance:
  return provenance.make(
    model.workdir,
    split=_SPLIT.value,
    texts=split.count,
    asked_texts=_TEXTS.value,
    step=model.step,
    batch_size=split.batch_size,
    samples=None,  # until the bound is measured
    seed=split.seed,
  )


def _measured_before(
  path: pathlib.Path, origin: provenance.Provenance, split: split_lib.Split
) -> dict[str, Any]:
  """What need not be measured again; with any K, if a page asks for none."""
  if not (_REPORT.value or _MISSING.value):
    return {}
  samples = None
  if _MISSING.value or flags.FLAGS['samples'].present:
    samples = _SAMPLES.value if split.latent_size else 1  # it is exact
  stored_before = provenance.measured(path, origin, samples)
  found = {}
  for name, section in measures.SECTIONS.items():
    # One of an earlier version, with other fields, is measured again.
    with contextlib.suppress(KeyError, errors.UserError):
      found[name] = stored.rebuild(section.kind, stored_before[name])
  return found


def _names() -> list[str]:
  """What was asked for; of a page, all, and its first words always."""
  if not _REPORT.value:
    return _SECTIONS.value
  if not flags.FLAGS['sections'].present:
    return ['all']
  return list(dict.fromkeys([*measures.HEADLINE, *_SECTIONS.value]))


def _run(evaluated: Evaluated) -> exhibit.Run:
  """What the page shows of a run."""
  model = evaluated.model
  logging.info('texts for the page of %s', model.workdir)
  return exhibit.Run(
    name=model.workdir.resolve().name,
    step=model.step,
    split=_SPLIT.value,
    settings=workdir_lib.read_settings(model.workdir),
    lines=curves.read_metrics(model.workdir),
    provenance=evaluated.origin,
    evaluation=evaluated.found,
    exhibit=exhibit.make(model, evaluated.data, opened.SEED.value),
  )


def _split(model: trained.Model) -> tuple[sources.Texts, split_lib.Split]:
  """The data that the run was trained beside, tokenised as it did."""
  settings = model.config
  data = sources.spread(opened.texts(model, _SPLIT.value), _TEXTS.value)
  supervision.check(data, settings.semi_supervised.labels, settings.data)
  with sources.placed(settings.data, data):
    corpus = model.tokenize(data.texts, data.given, data.labels)
  # Texts that are dropped as too long are dropped from every figure.
  data = sources.take(data, corpus.rows)
  return data, split_lib.Split(
    task=model.task,
    params=model.params,
    corpus=corpus,
    batch_size=_BATCH.value,
    lengths=settings.pipeline.lengths,
    seed=opened.SEED.value,
    groups=sources.groups(data),
  )


def _measure(
  model: trained.Model,
  data: sources.Texts,
  split: split_lib.Split,
  names: list[str],
  store: Callable[[dict[str, Any], dict[str, float]], None],
) -> tuple[dict[str, Any], dict[str, float], errors.UserError | None]:
  """Each section, how long it took in seconds, and what ended the work.

  Each is stored before the next is begun, as they may take hours. A section that
  finds the data wanting ends the work if it was asked for by name, and is left
  out if all were; but for the headline.
  """
  found: dict[str, Any] = {}
  seconds: dict[str, float] = {}
  if names and names != ['classification']:  # which asks nothing of the latent
    begin = time.perf_counter()
    logging.info('encoding %s texts', f'{split.count:,}')
    sample = split.sample  # drawn here: all other sections start from it
    seconds['one_sample'] = round(time.perf_counter() - begin, 1)
    if not np.isfinite(sample.nll + sample.kl.sum(axis=1)).all():
      raise errors.UserError(
        f'{model.workdir}, step {model.step}: the model gives figures that are '
        'not finite: choose an earlier checkpoint by --step'
      )
  for name in names:
    begin = time.perf_counter()
    with command.Progress(name, split.count) as progress:
      asked = measures.Asked(
        model, split, data, _SAMPLES.value, progress.advance
      )
      try:
        found[name] = measures.SECTIONS[name].measure(asked)
      except errors.UserError as error:
        if name in measures.HEADLINE or 'all' not in _names():
          return found, seconds, error
        logging.info('without %s: %s', name, error)
        continue
    seconds[name] = round(time.perf_counter() - begin, 1)
    store(found, seconds)
  return found, seconds, None


if __name__ == '__main__':
  command.run(main)
