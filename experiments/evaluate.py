"""Prints and stores the figures of a trained model on a split.

python -m experiments.evaluate --workdir=runs/a --split=test --samples=100
"""

import json
import math
import time

from absl import flags
from rich import console as rich_console
from rich import progress as rich_progress

from experiments import command
from lvdecode import errors
from lvdecode import restore
from lvdecode.evaluation import figures
from lvdecode.evaluation import split
from lvdecode.text import pipeline
from lvdecode.text import sources
from lvdecode.training import workdir as workdir_lib

_SPLIT = flags.DEFINE_string('split', 'test', 'train, validation or test.')
_SAMPLES = flags.DEFINE_integer(
  'samples', 100, 'K of the importance-weighted bound.'
)
_BATCH = flags.DEFINE_integer('batch_size', 128, 'Texts a batch.')


def main() -> None:
  workdir = command.workdir()
  errors.at_least('--samples', _SAMPLES.value, 1)
  errors.at_least('--batch_size', _BATCH.value, 1)
  errors.one_of('--split', _SPLIT.value, ('train', 'validation', 'test'))
  model = restore.load(workdir, command.STEP.value)
  settings = model.config
  cache = workdir / 'data'
  trained_on = workdir_lib.read_settings(workdir).get('data_fingerprint')
  if sources.fingerprint(settings.data, cache) != trained_on:
    raise errors.UserError(
      'the data have changed since the run was trained on them, and a split '
      'that is held out may hold training texts now: restore them'
    )
  texts = sources.read(settings.data, _SPLIT.value, cache).texts
  corpus = pipeline.tokenize(texts, model.tokenizer, settings.pipeline)
  begin = time.perf_counter()
  with rich_progress.Progress(
    *rich_progress.Progress.get_default_columns(),
    console=rich_console.Console(stderr=True),
    transient=True,
  ) as bar:
    texts_done = bar.add_task(_SPLIT.value, total=len(corpus.rows))
    report = figures.evaluate(
      split.Split(
        task=model.task,
        params=model.params,
        corpus=corpus,
        batch_size=_BATCH.value,
        lengths=settings.pipeline.lengths,
        seed=command.SEED.value,
      ),
      samples=_SAMPLES.value,
      advance=lambda count: bar.advance(texts_done, count),
    )
  seconds = time.perf_counter() - begin
  title = f'{workdir.name}, step {model.step:,}, {_SPLIT.value} split'
  rich_console.Console().print(figures.to_table(report, title))
  written = {
    name: value if math.isfinite(value) else None  # JSON has no infinity
    for name, value in report.to_dict().items()
  } | {
    'split': _SPLIT.value,
    'step': model.step,
    'seed': command.SEED.value,
    'seconds': round(seconds, 1),
  }
  folder = workdir / 'evaluation'
  folder.mkdir(exist_ok=True)
  path = folder / f'{_SPLIT.value}.json'
  workdir_lib.write_text(path, json.dumps(written, indent=2) + '\n')
  print(f'{seconds:.0f} s; written to {path}')


if __name__ == '__main__':
  command.run(main)
