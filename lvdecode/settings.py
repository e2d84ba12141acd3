"""All settings of a run: plain JSON in, frozen dataclasses out."""

from collections.abc import Mapping
import dataclasses
import types
import typing
from typing import Any

from lvdecode import errors
from lvdecode.latent import bounds
from lvdecode.latent import labelled
from lvdecode.latent import rate
from lvdecode.latent import sizes
from lvdecode.latent import vae
from lvdecode.tasks import latent
from lvdecode.tasks import objective as objective_lib
from lvdecode.tasks import semi_supervised as semi_lib
from lvdecode.text import pipeline
from lvdecode.text import sources
from lvdecode.text import tokenizers
from lvdecode.training import optimizer
from lvdecode.training import schedules
from lvdecode.training import settings as training_settings

_SENTENCES = 5  # of a story
# Figures of the validation split of which less is better, the last of a run
# with semi_supervised.labels.
BEST_METRICS = ('negative_elbo', 'nll', 'error')


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
  """What is measured while training, on the validation split.

  Attributes:
    batch_size: texts a batch.
    texts: so many texts, spread evenly over the split; 0 for all.
  """

  batch_size: int
  texts: int

  def __post_init__(self):
    errors.at_least('evaluation.batch_size', self.batch_size, 1)
    errors.at_least('evaluation.texts', self.texts, 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainedSettings:
  """Weights that a run begins with, in Hugging Face's layout; '' for none.

  Attributes:
    decoder: a folder (or a name on the hub) of a GPT-2.
    encoder: of a BERT, or of a GPT-2 for `model.encoder.kind` 'own'.
  """

  decoder: str
  encoder: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """One run. `configs/base.py` holds every key with its reason."""

  seed: int
  data: sources.DataSettings
  tokenizer: tokenizers.TokenizerSettings
  pipeline: pipeline.PipelineSettings
  pretrained: PretrainedSettings
  model: sizes.ModelSettings
  objective: objective_lib.ObjectiveSettings
  semi_supervised: semi_lib.SemiSupervisedSettings
  optimizer: optimizer.OptimizerSettings
  training: training_settings.TrainingSettings
  evaluation: EvaluationSettings

  def __post_init__(self):
    errors.between('seed', self.seed, 0, 2**32)
    best = self.training.best_metric
    if best:
      errors.one_of('training.best_metric', best, BEST_METRICS)
    longest = self.pipeline.lengths[-1]
    positions = self.model.decoder.positions
    if longest > positions:
      raise errors.UserError(
        f'pipeline.lengths ends at {longest}, model.decoder.positions = '
        f'{positions}: give at least as many positions'
      )
    self._check_pretrained()
    begin = self.objective.pretraining_steps
    if begin >= self.training.steps:
      raise errors.UserError(
        f'objective.pretraining_steps = {begin}, training.steps = '
        f'{self.training.steps}: nothing would be left to train'
      )
    if self.objective.rate.kind != 'none' and not self.model.injection.points:
      raise errors.UserError(
        f'objective.rate.kind = {self.objective.rate.kind!r}: without '
        "model.injection.points there is no KL to control, make it 'none'"
      )
    # Only to be refused early; of epochs nothing is known yet.
    schedules.resolve(
      'objective.beta', self.objective.beta, self.training.steps - begin, 0
    )
    self._check_condition()
    self._check_remedies()
    self._check_stages()
    self._check_semi_supervised()
    self._check_model_axis()

  def _check_model_axis(self):
    """Attention heads are shared out evenly."""
    shares, model = self.training.model_axis, self.model
    reads = bool(model.injection.points) or model.condition.encoded
    apart = model.reads_condition_apart or (
      reads and model.encoder.kind != 'decoder'
    )
    for part in ('decoder', 'encoder') if apart else ('decoder',):
      heads = getattr(model, part).heads
      if heads % shares:
        raise errors.UserError(
          f'training.model_axis = {shares} does not divide model.{part}.heads '
          f'= {heads}: give a divisor'
        )

  def _check_stages(self):
    """Stages leave steps for what comes after, and treat no part apart."""
    stages = self.optimizer.stages
    steps = sum(steps for steps, _ in stages)
    if steps >= self.training.steps:
      raise errors.UserError(
        f'optimizer.stages take {steps} steps, training.steps = '
        f'{self.training.steps}: leave some for optimizer.multipliers'
      )
    for key, value, off in (
      ('training.encoder_updates', self.training.encoder_updates, 1),
      ('objective.pretraining_steps', self.objective.pretraining_steps, 0),
    ):
      if stages and value != off:
        raise errors.UserError(
          f'optimizer.stages and {key} = {value} both say what moves: make the '
          f'stages () or {key} {off}'
        )

  def _check_pretrained(self):
    """What begins with given weights has a place for them."""
    if self.pretrained.decoder and self.objective.pretraining_steps:
      raise errors.UserError(
        'objective.pretraining_steps ends with a decoder that begins anew, '
        'without the weights of pretrained.decoder: give one of them'
      )
    if self.model.reads_apart and not self.pretrained.encoder:
      raise errors.UserError(
        "model.encoder.kind = 'bert' reads by the tokenizer of its weights: "
        'give their folder as pretrained.encoder'
      )
    read, encoder = self.pipeline.lengths[-1], self.model.encoder
    shorten = 'pipeline.lengths'
    if self.model.reads_apart:
      read, shorten = self.pipeline.encoder_length, 'pipeline.encoder_length'
    if self.model.conditional:  # for the posterior one sequence with the text
      read = read if self.model.injection.points else 0
      read += self.pipeline.condition_length
      shorten += ' or pipeline.condition_length'
    if encoder.kind == 'decoder':  # others than the posterior's are apart
      apart = self.model.reads_condition_apart
      read = self.pipeline.condition_length if apart else 0
    if 0 < encoder.positions < read and encoder.kind != 'shared_embeddings':
      raise errors.UserError(
        f'model.encoder.positions = {encoder.positions}, and texts of {read} '
        f'tokens are to be read: shorten {shorten}'
      )

  def _check_condition(self):
    """What reads a condition is given one, and has positions for it."""
    model, given = self.model, self.pipeline.condition_length
    if not model.conditional:
      return
    if not self.data.conditional:
      key = f'model.condition.routes = {model.condition.routes}'
      if not model.condition.routes:
        key = "model.prior.kind = 'learned'"
      raise errors.UserError(
        f'{key} needs data with a condition: set data.condition_field or '
        'data.story'
      )
    segments = model.condition.segments
    if self.data.story == 'missing' and 0 < segments < _SENTENCES:
      raise errors.UserError(
        f"model.condition.segments = {segments}: data.story = 'missing' has "
        f'{_SENTENCES} sentences to tell apart (0 for no segments)'
      )
    longest = given
    if 'prefix' in model.condition.routes or model.injection.points:
      longest += self.pipeline.lengths[-1]
    by_decoder = 'prefix' in model.condition.routes or (
      model.encoder.kind != 'own' or not model.encoder.positions
    )
    if by_decoder and longest > model.decoder.positions:
      raise errors.UserError(
        f'pipeline.condition_length = {given} and pipeline.lengths are read as '
        f'one sequence of {longest}: model.decoder.positions = '
        f'{model.decoder.positions} is too few'
      )

  @property
  def compares(self) -> str:
    """The key of what compares the texts of a batch; '' where nothing does."""
    if self.objective.mmd.weight:
      return 'objective.mmd.weight'
    return (
      'model.posterior.batch_norm' if self.model.posterior.batch_norm else ''
    )

  @property
  def coupled(self) -> bool:
    """Whether a text's loss depends on the others of its (micro-)batch."""
    of_the_batch = (
      self.objective.free_bits.kind in bounds.OF_A_BATCH
      or self.objective.rate.kind in rate.OF_A_BATCH
    )
    return of_the_batch or bool(self.compares)

  def _check_remedies(self):
    """What is done against a posterior's collapse has something to act on."""
    model, objective = self.model, self.objective
    on = {
      'model.posterior.batch_norm': model.posterior.batch_norm,
      'model.posterior.min_rate': model.posterior.min_rate,
      'objective.mmd.weight': objective.mmd.weight,
      'objective.bag_of_words': objective.bag_of_words,
      'objective.latent_dropout': objective.latent_dropout,
      'objective.pretraining_steps': objective.pretraining_steps,
      'objective.autoencode_every': objective.autoencode_every,
      'training.encoder_updates': self.training.encoder_updates - 1,
    }
    on = {key for key, value in on.items() if value}
    if on and not model.injection.points:
      raise errors.UserError(
        f'{min(on)} needs a latent: model.injection.points is empty'
      )
    apart = on & {'objective.pretraining_steps', 'training.encoder_updates'}
    if apart and model.encoder.kind == 'decoder':
      raise errors.UserError(
        f'{min(apart)} needs an encoder apart from the decoder: model.encoder.'
        "kind = 'decoder' has the same blocks for both"
      )
    shared = [
      key
      for key, used in (
        (
          'model.prior.share',
          model.prior.kind == 'learned' and model.prior.share,
        ),
        (
          'model.condition.share',
          model.condition.encoded and model.condition.share,
        ),
      )
      if used
    ]
    if apart and shared:
      raise errors.UserError(
        f'{min(apart)} needs an encoder apart from what is given x: make '
        f'{shared[0]} False'
      )
    part = self.pipeline.batch_size // self.training.accumulate
    if self.compares and min(part, self.training.micro_batch or part) < 2:
      raise errors.UserError(
        f'{self.compares} compares the texts of a batch: make '
        'pipeline.batch_size at least twice training.accumulate, and '
        'training.micro_batch 0 or at least 2'
      )

  def _check_semi_supervised(self):
    """A run with labels has a model for them, and asks for nothing else."""
    best = self.training.best_metric
    if not self.semi_supervised.labels:
      if self.data.label_share != 1.0:
        raise errors.UserError(
          f'data.label_share = {self.data.label_share}: without '
          'semi_supervised.labels nothing learns from them, make it 1'
        )
      if best == 'error':
        raise errors.UserError(
          "training.best_metric = 'error': only a run with "
          'semi_supervised.labels has one'
        )
      return
    if best == 'nll' or (
      best == 'negative_elbo' and not self.semi_supervised.generative
    ):
      raise errors.UserError(
        f'training.best_metric = {best!r}: with semi_supervised.labels it is '
        "'error', or 'negative_elbo' where semi_supervised.generative is not 0"
      )
    model, objective = self.model, self.objective
    errors.one_of(
      'model.encoder.kind (with semi_supervised.labels)',
      model.encoder.kind,
      labelled.ENCODERS,
    )
    if self.data.labels_given:
      raise errors.UserError(
        f'data.condition_field = {self.data.condition_field!r} gives every text '
        "the label that semi_supervised.labels are to find: make it 'condition' "
        "or ''"
      )
    if self.tokenizer.kind != 'word':
      raise errors.UserError(
        f'tokenizer.kind = {self.tokenizer.kind!r}: with semi_supervised.labels '
        "it is 'word', by which an aspect is found in its text"
      )
    if not model.injection.points:
      raise errors.UserError(
        'semi_supervised.labels need a latent: model.injection.points is empty'
      )
    for key, value, off in (
      ('model.condition.routes', model.condition.routes, ()),
      ('model.prior.kind', model.prior.kind, 'standard'),
      ('model.posterior.batch_norm', model.posterior.batch_norm, 0.0),
      ('model.adapters.rank', model.adapters.rank, 0),
      ('objective.rate.kind', objective.rate.kind, 'none'),
      ('objective.estimator', objective.estimator, 'elbo'),
      ('objective.samples', objective.samples, 1),
      ('objective.pretraining_steps', objective.pretraining_steps, 0),
      ('objective.autoencode_every', objective.autoencode_every, 0),
      ('objective.mmd.weight', objective.mmd.weight, 0.0),
      ('objective.bag_of_words', objective.bag_of_words, 0.0),
      ('objective.latent_dropout', objective.latent_dropout, 0.0),
      ('training.encoder_updates', self.training.encoder_updates, 1),
    ):
      if value != off:
        raise errors.UserError(
          f'{key} = {value!r}: a run with semi_supervised.labels has none, '
          f'make it {off!r}'
        )


def from_dict(tree: Mapping[str, Any]) -> Settings:
  """Settings from nested dictionaries; every key must be known and given."""
  return _build(Settings, tree, '')


def to_dict(settings: Settings) -> dict[str, Any]:
  """The same as plain JSON values: `from_dict` takes it back."""
  return _plain(dataclasses.asdict(settings))


def in_steps(settings: Settings, epoch_steps: int) -> Settings:
  """The same with every duration in steps, as training needs it.

  Args:
    settings: of the run.
    epoch_steps: batches an epoch of its data.

  Raises:
    UserError: a schedule would not end within the run.
  """
  beta = schedules.resolve(
    'objective.beta',
    settings.objective.beta,
    settings.training.steps - settings.objective.pretraining_steps,
    epoch_steps,
  )
  objective = dataclasses.replace(settings.objective, beta=beta)
  return dataclasses.replace(settings, objective=objective)


def shared_out(settings: Settings, devices: int) -> Settings:
  """The same for a step that sees the rows of so many devices as one batch.

  `objective.logits_mib` is of a device. By the whole batch there would be so
  many chunks, each with a sum over all devices.
  """
  if devices == 1:
    return settings
  mib = devices * settings.objective.logits_bytes // 2**20
  objective = dataclasses.replace(settings.objective, logits_mib=mib)
  return dataclasses.replace(settings, objective=objective)


def merged(settings: Settings) -> Settings:
  """The same for parameters into which the adapters have been merged."""
  adapters = dataclasses.replace(settings.model.adapters, rank=0)
  model = dataclasses.replace(settings.model, adapters=adapters)
  return dataclasses.replace(settings, model=model)


def anywhere(settings: Settings) -> Settings:
  """The same for whatever device a trained model is opened on."""
  if settings.model.attention != 'cudnn':
    return settings
  model = dataclasses.replace(settings.model, attention='auto')
  return dataclasses.replace(settings, model=model)


def build_task(
  settings: Settings,
  tokenizer: tokenizers.Tokenizer,
  encoder_tokenizer: tokenizers.Tokenizer | None,
) -> latent.LatentTask:
  """The task of a run, for the vocabularies of its tokenizers."""
  read_by = encoder_tokenizer or tokenizer
  shape = settings.model, tokenizer.vocab_size, read_by.vocab_size
  hidden = tokenizer.pad if tokenizer.unk is None else tokenizer.unk
  labels = settings.semi_supervised.labels
  if labels:
    return semi_lib.SemiSupervisedTask(
      labelled.LabelledVAE(*shape, len(labels)),
      settings.objective,
      hidden,
      settings.semi_supervised,
    )
  model = vae.VAE(*shape)
  return latent.LatentTask(model, settings.objective, hidden)


def _plain(value):
  if isinstance(value, dict):
    return {key: _plain(item) for key, item in value.items()}
  if isinstance(value, tuple):
    return [_plain(item) for item in value]
  return value


def _build(cls, tree, path):
  if not isinstance(tree, Mapping):
    raise errors.UserError(
      f'{path or "the config"} = {tree!r}: it must be a section with the keys '
      + ', '.join(field.name for field in dataclasses.fields(cls))
    )
  known = tuple(field.name for field in dataclasses.fields(cls))
  prefix = f'{path}.' if path else ''
  for key in tree:
    if key not in known:
      raise errors.UserError(
        f'unknown key {prefix}{key}: {errors.did_you_mean(key, known)}'
      )
  for key in known:
    if key not in tree:
      raise errors.UserError(
        f'{prefix}{key} is missing: see configs/base.py for its meaning'
      )
  hints = typing.get_type_hints(cls)
  values = {key: _convert(hints[key], tree[key], prefix + key) for key in known}
  try:
    return cls(**values)
  except errors.UserError as error:
    if path in str(error):
      raise
    # A section that is used in several places does not know its own.
    raise errors.UserError(f'{path}: {error}') from error


def _convert(hint, value, path):
  """The value as its annotation says, or an error that names the key."""
  if dataclasses.is_dataclass(hint):
    return _build(hint, value, path)
  options = typing.get_args(hint)
  if isinstance(hint, types.UnionType):
    if value is None and type(None) in options:
      return None
    hint = next(option for option in options if option is not type(None))
    return _convert(hint, value, path)
  if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
    if options[-1] is Ellipsis:
      options = (options[0],) * len(value)
    if len(options) == len(value):
      return tuple(
        _convert(option, item, f'{path}[{index}]')
        for index, (option, item) in enumerate(zip(options, value, strict=True))
      )
  elif hint is float and type(value) in (int, float):
    return float(value)
  elif hint in (int, str, bool) and type(value) is hint:
    return value
  name = getattr(hint, '__name__', str(hint))
  raise errors.UserError(
    f'{path} = {value!r}: it must be {str(hint) if options else name}'
  )
