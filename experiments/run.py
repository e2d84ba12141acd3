"""Trains a model, or goes on where its workdir stopped.

python -m experiments.run --config=configs/quickstart.py --workdir=runs/a
"""

from collections.abc import Iterator, Mapping
import contextlib
import functools
import json
import pathlib
import sys
import tempfile

from absl import flags
import jax
from ml_collections import config_flags

from experiments import command
from lvdecode import beginning
from lvdecode import errors
from lvdecode import restore
from lvdecode import settings as settings_lib
from lvdecode.evaluation import collapse
from lvdecode.evaluation import figures
from lvdecode.evaluation import labelling
from lvdecode.evaluation import split
from lvdecode.evaluation import use
from lvdecode.report import curves
from lvdecode.sweeps import points
from lvdecode.sweeps import vectorize
from lvdecode.text import batching
from lvdecode.text import corpora
from lvdecode.text import labels
from lvdecode.text import sources
from lvdecode.text import supervision
from lvdecode.text import tokenizers
from lvdecode.training import checkpoint
from lvdecode.training import hosts
from lvdecode.training import loop
from lvdecode.training import optimizer as optimizer_lib
from lvdecode.training import parallel
from lvdecode.training import parts
from lvdecode.training import progress
from lvdecode.training import spec as spec_lib
from lvdecode.training import step as step_lib
from lvdecode.training import together
from lvdecode.training import workdir as workdir_lib

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'configs/NAME.py, or configs/NAME.py:ARGUMENT'
)
_DRY_RUN = flags.DEFINE_bool(
  'dry_run', False, 'Check everything, print what would run, and stop.'
)
_TOGETHER = flags.DEFINE_string(
  'together',
  '',
  'JSON, {folder in --workdir: {key: value}}: such runs in one program.',
)


def main() -> None:
  config = command.config(_CONFIG.value)
  if _TOGETHER.value:
    if _DRY_RUN.value:
      raise errors.UserError('--dry_run checks one run: leave out --together')
    members = _members(config, _TOGETHER.value)
    command.join_others()
    if hosts.count() > 1:
      raise errors.UserError(
        f'--together trains in one process, and there are {hosts.count()}'
      )
    train_together(members, command.workdir())
    return
  settings = beginning.settings(config)
  if _DRY_RUN.value:
    with tempfile.TemporaryDirectory() as folder:
      dry_run(settings, folder)
  else:
    workdir = command.workdir()
    command.join_others()
    train(settings, workdir)


def train(settings: settings_lib.Settings, workdir: pathlib.Path) -> None:
  """The whole run, and a picture of its curves at the end."""
  _check_alike(settings, workdir)
  _devices(settings)
  with _opened(settings, workdir, '') as spec:
    state = loop.run(spec)
    picture = curves.save_curves(workdir) if hosts.first() else None
  hosts.everyone('done')  # nobody leaves while one still writes
  if not hosts.first():
    return
  print(f'workdir  {workdir}\ncurves   {picture}')
  print(f'also     tensorboard --logdir={workdir}/tensorboard')
  if int(state.step) < settings.training.steps:
    print('stopped early: the same command goes on from here')


def _check_alike(
  settings: settings_lib.Settings, workdir: pathlib.Path
) -> None:
  """Processes that train together were started in the same way."""
  if hosts.count() == 1:
    return
  what = dict(workdir_lib.dotted(settings_lib.to_dict(settings)))
  del what['data.path']  # what lies there is compared
  if settings.pretrained.decoder:  # where a hub has it differs, but not in what
    what['tokenizer.path'] = pathlib.Path(settings.tokenizer.path).name
  hosts.compare(what | hosts.code() | {'--workdir': str(workdir.absolute())})


def _devices(
  settings: settings_lib.Settings, count: int | None = None
) -> parallel.Devices:
  """The devices of a run; its batches divide over them, or `count`."""
  training = settings.training
  devices = parallel.make(
    training.parallel, training.model_axis, training.sharding
  )
  size = settings.pipeline.batch_size
  number = parallel.micro_batches(
    size, count or devices.count, training.accumulate, training.micro_batch
  )
  if settings.compares and size // number < 2:
    raise errors.UserError(
      f'{settings.compares} compares the texts of a batch, and {size} texts in '
      f'micro-batches of training.micro_batch = {training.micro_batch} are taken '
      'one by one: make pipeline.batch_size a multiple of it'
    )
  return devices


def _on(devices: parallel.Devices) -> str:
  kind = jax.devices()[0].device_kind
  return f'on {devices.mesh.size} device(s) of kind {kind}'


def train_together(
  members: Mapping[str, settings_lib.Settings], folder: pathlib.Path
) -> None:
  """Runs that share a program, each in its own folder of `folder`.

  A member that fails leaves the others alone; it is one line in the end, and
  the exit code is 2.
  """
  vectorize.check(list(members.values()))
  failed: dict[str, errors.UserError] = {}
  with contextlib.ExitStack() as stack:
    runs = []
    for name, settings in members.items():
      files = contextlib.ExitStack()
      try:
        opened = _opened(settings, folder / name, name, together=True)
        runs.append(files.enter_context(opened))
      except errors.UserError as error:
        failed[name] = error
      stack.callback(_left, files, name, failed)
    numbers = [vectorize.numbers(members[spec.name]) for spec in runs]
    if runs:
      failed |= together.run(
        runs, numbers, lambda own: vectorize.rebuilt(runs[0], own)
      )
    for spec in runs:
      if spec.name not in failed:
        curves.save_curves(spec.workdir)
        print(f'workdir  {spec.workdir}')
  for name, reason in failed.items():
    words = ' '.join(str(reason).split())
    print(f'error: {name}: {words}', file=sys.stderr)
  if failed:
    sys.exit(2)


def _left(files, name, failed):
  """Leaves a member's folder by its own failure, as if it were alone."""
  try:
    with files:
      if name in failed:
        raise failed[name]
  except errors.UserError as error:
    if error is not failed.get(name):
      raise


def _members(config, text) -> dict[str, settings_lib.Settings]:
  """Name -> settings, from what --together holds."""
  try:
    members = json.loads(text)
    assert isinstance(members, dict) and members
    return {
      name: beginning.settings(points.overridden(config, keys))
      for name, keys in members.items()
    }
  except errors.UserError:
    raise
  except (ValueError, AssertionError, AttributeError) as error:
    raise errors.UserError(
      f'--together={text} is not JSON of the form '
      '{"folder": {"seed": 0}, ...}'
    ) from error


@contextlib.contextmanager
def _opened(
  settings: settings_lib.Settings,
  workdir: pathlib.Path,
  name: str,
  *,
  together: bool = False,
) -> Iterator[spec_lib.Run]:
  """A run whose folder is held, with its data and its task.

  One of several that are trained together has a device to itself.
  """
  if (workdir / restore.EXPORTED).is_file():
    raise errors.UserError(
      f'{workdir} is an exported model, which is not trained on: choose another '
      'workdir'
    )
  cache = workdir / 'data'
  fingerprint = hosts.in_turn(lambda: sources.fingerprint(settings.data, cache))
  hosts.compare({'data fingerprint': fingerprint})
  wanted = settings_lib.to_dict(settings) | {'data_fingerprint': fingerprint}
  with workdir_lib.claim(workdir, wanted, points.may_change(settings)):
    texts = hosts.in_turn(lambda: sources.read(settings.data, 'train', cache))
    both = hosts.in_turn(lambda: _tokenizers(settings, texts, workdir))
    known = hosts.in_turn(lambda: _labels(texts, workdir))
    learned = _supervised(settings, texts, known)
    corpus = _corpus(settings, learned, both, known)
    if hosts.first():
      _describe(corpus, settings, learned)
    settings = _in_steps(settings, corpus)
    task = settings_lib.build_task(settings, *both)
    devices, shared = _devices(settings, 1 if together else None), settings
    if not together:
      if hosts.first():
        print(_on(devices))
      if devices.axis_name is None:
        shared = settings_lib.shared_out(settings, devices.count)
    data = batching.train_batches(
      corpus,
      settings.pipeline,
      settings.seed,
      jax.process_index(),
      jax.process_count(),
    )
    goes_on = hosts.agreed(lambda: bool(checkpoint.steps(workdir)))
    try:
      yield spec_lib.Run(
        task=settings_lib.build_task(shared, *both),
        data=data,
        evaluate=_evaluation(settings, task, both, known, workdir),
        settings=settings.training,
        optimizer_settings=settings.optimizer,
        seed=settings.seed,
        # A run that goes on has its own: gigabytes need not be read.
        begin=None if goes_on else beginning.weights(settings, *both),
        reset_at=settings.objective.pretraining_steps,
        workdir=workdir,
        name=name,
      )
    finally:
      data.close()


def dry_run(settings: settings_lib.Settings, folder: str) -> None:
  """Resolves and validates everything that training would use."""
  devices = _devices(settings)
  print(json.dumps(settings_lib.to_dict(settings), indent=2))
  texts = sources.read(settings.data, 'train', folder)
  both = _tokenizers(settings, texts, pathlib.Path(folder))
  known = labels.names(texts.labels)
  texts = _supervised(settings, texts, known)
  corpus = _corpus(settings, texts, both, known)
  _describe(corpus, settings, texts)
  settings = _in_steps(settings, corpus)
  task = settings_lib.build_task(settings, *both)
  beginning.weights(settings, *both)  # reads and checks them
  shapes = jax.eval_shape(task.init, jax.random.key(0))
  optimizer = optimizer_lib.make(
    settings.optimizer, settings.training.steps, shapes
  )
  print(progress.parameter_table(shapes, optimizer.trainable))
  parts.check(
    task.part,
    optimizer.trainable,
    reset_at=settings.objective.pretraining_steps,
    encoder_updates=settings.training.encoder_updates,
  )
  _evaluation(settings, task, both, known, pathlib.Path(folder))
  initial = functools.partial(
    step_lib.init_state, task, optimizer.tx, 0, settings.training.ema
  )
  devices.shardings(jax.eval_shape(initial))  # the rules fit
  if settings.optimizer.stages:
    print('\n'.join(stage.line() for stage in optimizer.stages))
  size = settings.pipeline.batch_size
  for length in settings.pipeline.lengths:
    print(f'batch: tokens int32[{size}, {length}], weights float32[same]')
  if corpus.condition is not None:
    length = settings.pipeline.condition_length
    print(f'given with each: tokens, segments int32[{size}, {length}]')
  print(_on(devices))


def _tokenizers(settings, texts, workdir) -> restore.Tokenizers:
  """The run's: trained or found once, then read from the workdir."""
  if not (workdir / restore.TOKENIZER).exists():
    markers = sources.markers(settings.data, texts)
    written = sources.written(texts, markers)
    tokenizer = tokenizers.train(settings.tokenizer, written, markers)
    _keep(tokenizer, workdir / restore.TOKENIZER)
  own = workdir / restore.ENCODER_TOKENIZER
  if settings.model.reads_apart and not own.exists():
    _keep(beginning.encoder_tokenizer(settings), own)
  return restore.open_tokenizers(workdir, settings)


def _labels(texts, workdir) -> tuple[str, ...]:
  """The names of the training texts' labels, kept for whoever opens the run."""
  known = labels.names(texts.labels)
  if known and hosts.first():
    workdir_lib.write_text(workdir / labels.FILE, labels.text(known))
  return known


def _supervised(settings, texts, known) -> sources.Texts:
  """The training texts with the labels that are kept, as often as they come."""
  chosen = settings.semi_supervised
  if not chosen.labels:
    return texts
  supervision.check(texts, chosen.labels, settings.data)
  if known != chosen.labels:
    raise errors.UserError(
      f'semi_supervised.labels = {chosen.labels}, and the training texts have '
      f'{known}: name these'
    )
  texts = supervision.kept(texts, settings.data.label_share, settings.seed)
  if not chosen.generative:
    return supervision.labelled(texts)
  return supervision.repeated(texts, chosen.labelled_share)


def _corpus(settings, texts, both, known) -> corpora.Corpus:
  with sources.placed(settings.data, texts):
    return corpora.tokenize(
      texts.texts,
      both[0],
      settings.pipeline,
      both[1],
      given=texts.given,
      labels=texts.labels,
      label_names=known,
    )


def _keep(tokenizer, folder) -> None:
  with (
    workdir_lib.writing(folder),
    tempfile.TemporaryDirectory(dir=folder.parent) as temporary,
  ):
    whole = pathlib.Path(temporary) / folder.name
    tokenizer.save(whole)
    whole.rename(folder)  # all of it or nothing


def _describe(corpus, settings, texts) -> None:
  batches = batching.batches_per_epoch(corpus, settings.pipeline)
  padding = batching.padding_fraction(corpus, settings.pipeline, settings.seed)
  print(
    f'{len(corpus.rows):,} training texts, {batches:,} batches an epoch, '
    f'{100 * padding:.1f} % padding, '
    f'{100 * corpus.unknown_share:.2f} % unknown tokens, '
    f'{corpus.truncated:,} truncated, {corpus.dropped:,} dropped'
  )
  if corpus.condition is not None:
    given = int(corpus.condition.visible.sum())
    print(
      f'given with each text: {given / len(corpus.rows):.1f} tokens, '
      f'{100 * corpus.conditions_unknown / given:.2f} % unknown, '
      f'{corpus.conditions_truncated:,} truncated'
    )
    if not settings.model.conditional and not settings.semi_supervised.labels:
      print(
        'nothing reads it: model.condition.routes is empty, and model.prior.kind '
        'not learned'
      )
  warmup, steps = settings.optimizer.warmup_steps, settings.training.steps
  if warmup >= steps:
    print(
      f'optimizer.warmup_steps = {warmup}: in {steps} steps the learning rate '
      'only rises'
    )
  if corpus.first_overlong is not None:
    place = sources.place(settings.data, texts, corpus.first_overlong)
    print(f'the first that is too long: {place}')


def _in_steps(settings, corpus) -> settings_lib.Settings:
  epoch = batching.batches_per_epoch(corpus, settings.pipeline)
  return settings_lib.in_steps(settings, epoch)


def _evaluation(settings, task, both, known, workdir):
  """Parameters -> figures of the validation split."""
  whole = hosts.in_turn(
    lambda: sources.read(settings.data, 'validation', workdir / 'data')
  )
  supervision.check(whole, settings.semi_supervised.labels, settings.data)
  texts = sources.spread(whole, settings.evaluation.texts)
  corpus = _corpus(settings, texts, both, known)
  judged = corpus.label is not None and bool((corpus.label >= 0).any())
  if settings.semi_supervised.labels and not judged:  # before it is trained
    raise errors.UserError(
      'no text of the validation split has a label, and its error chooses the '
      'checkpoint: give a validation file with some, or raise evaluation.texts'
    )
  watch = collapse.Watch()

  def measure(params):
    some = split.Split(
      task=task,
      params=params,
      corpus=corpus,
      batch_size=settings.evaluation.batch_size,
      lengths=settings.pipeline.lengths,
      seed=0,
    )
    if settings.semi_supervised.labels:
      return labelling.validation_figures(some)
    found = figures.validation_figures(some)
    watch(found)
    if settings.pretrained.decoder and task.points:
      found['nll_untold'] = use.untold_nll(some)
    return found

  return measure


if __name__ == '__main__':
  command.run(main)
