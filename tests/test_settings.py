"""Settings: plain JSON in, frozen dataclasses out, clear words on mistakes."""

import json

import pytest

from configs import base
from lvdecode import errors
from lvdecode import settings

ALL = (('.*', 1.0),)


def tree():
  return base.get_config('quick').to_dict()


def test_settings_survive_json():
  built = settings.from_dict(tree())
  plain = json.loads(json.dumps(settings.to_dict(built)))
  assert settings.from_dict(plain) == built
  assert built.model.injection.points == ('input', 'memory')
  assert built.model.injection.memory_score is None


def test_without_a_latent_there_is_no_rate_to_control():
  given = tree()
  given['objective']['free_bits']['kind'] = 'none'
  given['objective']['rate']['kind'] = 'dual'
  settings.from_dict(given)
  given['model']['injection']['points'] = ()
  with pytest.raises(errors.UserError, match="'dual': without .*points"):
    settings.from_dict(given)


def test_heads_of_an_encoder_that_nothing_reads_by_divide_nothing():
  given = tree()
  given['training'] |= {'parallel': 'fsdp', 'model_axis': 2}
  given['model']['encoder']['heads'] = 1
  given['model']['encoder']['kind'] = 'decoder'
  settings.from_dict(given)


def test_durations_become_steps_for_training_alone():
  given = tree()
  given['objective']['beta']['duration'] = '1.5 epochs'
  built = settings.from_dict(given)
  training = settings.in_steps(built, 20)
  assert training.objective.beta.duration == '30 steps'
  assert built.objective.beta.duration == '1.5 epochs'
  with pytest.raises(errors.UserError, match="'1.5 epochs' is 75 steps"):
    settings.in_steps(built, 50)


def test_an_integer_serves_as_a_float():
  given = tree()
  given['optimizer']['learning_rate'] = 1
  assert settings.from_dict(given).optimizer.learning_rate == 1.0


@pytest.mark.parametrize(
  ('dtype', 'backend', 'found'),
  [
    ('auto', 'cpu', 'float32'),
    ('auto', 'gpu', 'bfloat16'),
    ('auto', 'tpu', 'bfloat16'),
    ('float32', 'gpu', 'float32'),
    ('bfloat16', 'cpu', 'bfloat16'),
  ],
)
def test_auto_is_the_type_that_a_device_is_fast_at(
  dtype, backend, found, monkeypatch
):
  given = tree()
  given['model']['dtype'] = dtype
  built = settings.from_dict(given)
  monkeypatch.setattr('jax.default_backend', lambda: backend)
  assert built.model.compute_dtype.name == found


def change(path, value):
  def apply(given):
    *sections, key = path.split('.')
    for section in sections:
      given = given[section]
    given[key] = value

  return apply


def changes(*pairs):
  def apply(given):
    for path, value in pairs:
      change(path, value)(given)

  return apply


def without(path):
  def apply(given):
    *sections, key = path.split('.')
    for section in sections:
      given = given[section]
    del given[key]

  return apply


PROMPTS = (
  ('data.source', 'files'),
  ('data.path', 'stories.jsonl'),
  ('data.story', 'prompt'),
  ('model.encoder.kind', 'own'),
  ('model.condition.routes', ('memory',)),
  ('model.condition.segments', 2),
)


JUDGE = (
  ('semi_supervised.labels', ('bad', 'good')),
  ('objective.free_bits.kind', 'none'),
)


@pytest.mark.parametrize(
  ('spoil', 'words'),
  [
    (change('model.decoder.layer', 2), ['model.decoder.layer', "'layers'"]),
    (without('model.decoder.layers'), ['model.decoder.layers is missing']),
    (change('seed', 'one'), ["seed = 'one'", 'int']),
    (change('seed', True), ['seed = True', 'int']),
    (change('pipeline.lengths', (8, 'x')), ['pipeline.lengths[1]', 'int']),
    (change('model', 3), ['model = 3', 'section']),
    (change('model.decoder.heads', 3), ['heads = 3', 'width = 32', 'multiple']),
    (change('model.encoder.heads', 5), ['encoder.heads = 5', 'width = 32']),
    (change('model.encoder.width', 64), ['width = 64', 'width = 32', 'same']),
    (change('model.decoder.positions', 20), ['ends at 24', 'positions = 20']),
    (change('model.injection.points', ('inptu',)), ["did you mean 'input'"]),
    (change('model.injection.points', ('fuse', 'fuse')), ['twice']),
    (change('model.injection.memory_layers', (2,)), ['layer 2', '0 to 1']),
    (change('model.injection.memory_slots', 0), ['memory_slots = 0', '1']),
    (change('model.decoder.dropout', 1.0), ['dropout = 1.0', '[0.0, 1.0)']),
    (change('model.dtype', 'float16'), ["dtype = 'float16'", 'bfloat16']),
    (change('model.adapters.rank', -1), ['adapters.rank = -1', 'at least 0']),
    (change('model.adapters.alpha', 0.0), ['adapters.alpha = 0.0', 'above 0']),
    (
      changes(('model.adapters.rank', 4), ('model.adapters.targets', ())),
      ['model.adapters.rank = 4', 'model.adapters.targets = ()'],
    ),
    (change('model.adapters.targets', ('(',)), ["targets: '('", 'expression']),
    (change('model.latent_size', 0), ['latent_size = 0', 'at least 1']),
    (
      change('objective.beta.duration', '61 steps'),
      ["objective.beta.duration = '61 steps'", 'training.steps = 60'],
    ),
    (change('objective.beta.duration', '120 %'), ['72 steps', 'steps = 60']),
    (change('objective.beta.duration', 'soon'), ['objective.beta: ', "'soon'"]),
    (change('training.best_metric', 'elbo'), ['known are negative_elbo']),
    (change('seed', -1), ['seed = -1']),
    (change('objective.beta.kind', 'ramp'), ['objective.beta: ', "'ramp'"]),
    (change('objective.free_bits.kind', 'dim'), ['dim_batch']),
    (change('objective.rate.kind', 'pi'), ['free_bits', 'both hold']),
    (change('objective.rate.kind', 'pid'), ["did you mean 'pi'"]),
    (change('objective.word_dropout', float('nan')), ['word_dropout = nan']),
    (change('data.source', 'file'), ["'file'", 'files']),
    (change('training.parallel', 'tpu'), ["'tpu'", 'pmap']),
    (change('model.posterior.min_rate', 37.0), ['37.0', '8 dimensions']),
    (change('model.posterior.batch_norm', -1.0), ['batch_norm = -1.0']),
    (change('objective.mmd.kernel', 'rbf'), ["'rbf'", 'gaussian']),
    (change('objective.latent_dropout', 1.0), ['latent_dropout = 1.0']),
    (change('objective.bag_of_words', -1.0), ['bag_of_words = -1.0']),
    (change('objective.pretraining_steps', 60), ['nothing would be left']),
    (
      change('optimizer.stages', ((40, ALL), (20, ALL))),
      ['optimizer.stages take 60 steps', 'training.steps = 60', 'leave some'],
    ),
    (
      change('optimizer.stages', ((40, ALL), (-1, ALL))),
      ['optimizer.stages[1][0] = -1', 'at least 1'],
    ),
    (change('optimizer.stages', ((1.5, ALL),)), ['stages[0][0] = 1.5', 'int']),
    (
      changes(
        ('optimizer.stages', ((4, ALL),)), ('training.encoder_updates', 2)
      ),
      ['optimizer.stages and training.encoder_updates = 2', 'say what moves'],
    ),
    (
      changes(
        ('optimizer.stages', ((4, ALL),)), ('objective.pretraining_steps', 3)
      ),
      ['optimizer.stages and objective.pretraining_steps = 3'],
    ),
    (change('objective.pretraining_steps', 21), ['would not end within']),
    (
      changes(
        ('model.injection.points', ()), ('model.posterior.min_rate', 1.0)
      ),
      ['model.posterior.min_rate needs a latent', 'points is empty'],
    ),
    (
      changes(
        ('model.encoder.kind', 'decoder'), ('objective.pretraining_steps', 5)
      ),
      ['objective.pretraining_steps', 'apart from the decoder'],
    ),
    (
      changes(
        ('model.encoder.kind', 'decoder'), ('training.encoder_updates', 5)
      ),
      ['training.encoder_updates', 'apart from the decoder'],
    ),
    (
      change('model.prior.kind', 'learned'),
      ["model.prior.kind = 'learned'", 'data.condition_field'],
    ),
    (
      change('model.condition.routes', ('cross',)),
      ["model.condition.routes = ('cross',)", 'data.story'],
    ),
    (
      changes(*PROMPTS, ('pipeline.condition_length', 60)),
      ['one sequence of 84', 'model.decoder.positions = 64'],
    ),
    (
      changes(*PROMPTS, ('model.encoder.positions', 40)),
      ['model.encoder.positions = 40', '56 tokens', 'condition_length'],
    ),
    (
      changes(
        *PROMPTS,
        ('model.encoder.kind', 'decoder'),
        ('model.encoder.positions', 8),
        ('model.condition.share', False),
      ),
      ['model.encoder.positions = 8', '32 tokens', 'condition_length'],
    ),
    (
      changes(*PROMPTS, ('data.story', 'missing')),
      ['model.condition.segments = 2', '5 sentences'],
    ),
    (
      changes(*PROMPTS, ('training.encoder_updates', 5)),
      ['training.encoder_updates', 'make model.condition.share False'],
    ),
    (
      changes(('objective.mmd.weight', 1.0), ('training.accumulate', 16)),
      ['objective.mmd.weight', 'twice training.accumulate'],
    ),
    (
      changes(('objective.mmd.weight', 1.0), ('training.micro_batch', 1)),
      ['objective.mmd.weight', 'training.micro_batch'],
    ),
    (
      changes(('training.parallel', 'fsdp'), ('training.model_axis', 4)),
      ['training.model_axis = 4', 'model.decoder.heads = 2'],
    ),
    (
      changes(
        ('training.parallel', 'fsdp'),
        ('training.model_axis', 2),
        ('model.encoder.heads', 1),
      ),
      ['training.model_axis = 2', 'model.encoder.heads = 1'],
    ),
    (
      changes(
        *PROMPTS,
        ('model.injection.points', ()),
        ('training.parallel', 'fsdp'),
        ('training.model_axis', 2),
        ('model.encoder.heads', 1),
      ),
      ['training.model_axis = 2', 'model.encoder.heads = 1'],
    ),
    (change('data.label_share', 0.5), ['label_share = 0.5', 'make it 1']),
    (change('data.label_share', 0.0), ['label_share is 0.0', 'at most 1']),
    (change('training.best_metric', 'error'), ["'error'", 'labels has one']),
    (
      changes(*JUDGE, ('training.best_metric', 'nll')),
      ["best_metric = 'nll'", "it is 'error'"],
    ),
    (
      changes(*JUDGE, ('semi_supervised.generative', 0.0)),
      ["best_metric = 'negative_elbo'", 'generative is not 0'],
    ),
    (
      changes(*JUDGE, ('model.encoder.kind', 'decoder')),
      ['model.encoder.kind', 'shared_embeddings'],
    ),
    (
      changes(*JUDGE, ('tokenizer.kind', 'bpe')),
      ["tokenizer.kind = 'bpe'", "it is 'word'"],
    ),
    (
      changes(
        *JUDGE, ('data.source', 'embedded'), ('data.condition_field', 'tense')
      ),
      ["condition_field = 'tense'", 'to find'],
    ),
    (
      changes(*JUDGE, ('model.injection.points', ())),
      ['semi_supervised.labels', 'injection.points is empty'],
    ),
    (
      changes(*JUDGE, ('objective.samples', 2)),
      ['objective.samples = 2', 'make it 1'],
    ),
  ],
)
def test_a_mistake_is_one_line_that_names_the_key(spoil, words):
  given = tree()
  spoil(given)
  with pytest.raises(errors.UserError) as caught:
    settings.from_dict(given)
  message = str(caught.value)
  assert '\n' not in message
  for word in words:
    assert word in message
