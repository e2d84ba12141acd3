"""The points of a sweep are named, checked and kept apart."""

import dataclasses

import pytest

from configs import aspect_semisupervised
from configs import base
from lvdecode import errors
from lvdecode import settings as settings_lib
from lvdecode.sweeps import points

BASE = base.get_config('quick').to_dict()


def expand(*added):
  return points.expand(BASE, lambda add: [add(each) for each in added])


def test_a_point_is_the_base_but_for_its_overrides():
  (point,) = expand({'model.decoder.layers': 3, 'seed': 7})
  tree = settings_lib.to_dict(point.settings)
  assert tree['model']['decoder'].pop('layers') == 3
  assert tree.pop('seed') == 7
  expected = settings_lib.to_dict(settings_lib.from_dict(BASE))
  del expected['model']['decoder']['layers'], expected['seed']
  assert tree == expected
  assert BASE['model']['decoder']['layers'] == 2
  assert point.value('model.decoder.layers') == 3


def test_names_tell_what_differs_and_nothing_else():
  one, two = expand(
    {
      'model.injection.points': (),
      'model.decoder.layers': 2,
      'objective.beta.kind': 'constant',
      'training.steps': 50,
      'optimizer.learning_rate': 1e-4,
      'seed': 0,
    },
    {
      'model.injection.points': ('input', 'memory'),
      'model.decoder.layers': 3,
      'objective.beta.kind': 'linear',
      'training.steps': 50,
      'optimizer.learning_rate': 1e-3,
      'seed': 0,
    },
  )
  assert one.slug == (
    'points=none_layers=2_beta.kind=constant_learning_rate=0.0001'
  )
  assert two.slug == (
    'points=input+memory_layers=3_beta.kind=linear_learning_rate=0.001'
  )
  assert one.name == f'{one.slug}-{one.digest[:8]}'


def test_keys_with_the_same_end_keep_more_of_themselves():
  one, _ = expand(
    {'model.decoder.layers': 1, 'model.encoder.layers': 1},
    {'model.decoder.layers': 2, 'model.encoder.layers': 2},
  )
  assert one.slug == 'decoder.layers=1_encoder.layers=1'


def test_a_name_is_a_file_name():
  long = [f'dir ectory/{i}/' + 'x' * 200 for i in range(2)]
  for point in expand(*({'data.text_field': text} for text in long)):
    assert '/' not in point.name and ' ' not in point.name
    assert len(point.name.encode()) < 255
  assert (
    len({point.name for point in expand(*({'seed': i} for i in (1, 2)))}) == 2
  )


def test_the_digest_is_of_all_that_makes_the_run():
  one, two = expand({'seed': 1}, {'seed': 2})
  assert one.digest != two.digest
  elsewhere = points.expand(
    BASE | {'data': BASE['data'] | {'path': 'elsewhere'}},
    lambda add: add({'seed': 1}),
  )
  assert elsewhere[0].digest == one.digest
  other = points.expand(
    BASE | {'tokenizer': BASE['tokenizer'] | {'vocab_size': 77}},
    lambda add: add({'seed': 1}),
  )
  assert other[0].digest != one.digest


def test_varied_keys_have_the_seed_last():
  found = expand(
    {'seed': 1, 'model.latent_size': 3, 'training.steps': 50},
    {'seed': 2, 'model.latent_size': 4, 'training.steps': 50},
  )
  assert points.varied_keys(found) == ['model.latent_size', 'seed']


@pytest.mark.parametrize(
  'added, words',
  [
    ([], 'no point'),
    ([{'model.decoder.layer': 3}], "did you mean 'layers'"),
    ([{'modle.decoder.layers': 3}], "did you mean 'model'"),
    ([{'seed.more': 3}], "'seed.more'"),
    ([{'model.decoder': 3}], 'model.decoder.layers'),
    ([{'model.decoder.layers': 'many'}], 'model.decoder.layers'),
    ([{'seed': 1}, {'seed': 2}, {'seed': 1}], 'twice'),
    # The base has this value, so nothing differs.
    ([{'seed': 0}, {'model.latent_size': 8}], 'twice'),
    ([{'objective.beta.duration': '61 steps'}], 'training.steps'),
  ],
)
def test_what_cannot_be_is_refused_in_one_line(added, words):
  with pytest.raises(errors.UserError, match=words) as caught:
    expand(*added)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  'pattern, seeds',
  [('', [1, 2, 12]), ('seed=2', [2]), ('seed=1', [1, 12]), ('*=1-*', [1])],
)
def test_points_are_chosen_by_their_name(pattern, seeds):
  found = points.select(expand(*({'seed': i} for i in (1, 2, 12))), pattern)
  assert [point.settings.seed for point in found] == seeds


def test_choosing_none_names_what_there_is():
  with pytest.raises(errors.UserError, match='seed=1-'):
    points.select(expand({'seed': 1}, {'seed': 2}), 'nothing')


@pytest.mark.parametrize(
  'value, text',
  [
    (None, 'none'),
    ((), 'none'),
    (('input', 'memory'), 'input+memory'),
    (1e-4, '0.0001'),
    (1.2345671e-4, '0.00012345671'),
    (1.2345672e-4, '0.00012345672'),
    (3, '3'),
    (True, 'True'),
  ],
)
def test_values_in_few_characters(value, text):
  assert points.describe(value) == text


def test_points_are_values():
  (point,) = expand({'seed': 1})
  with pytest.raises(dataclasses.FrozenInstanceError):
    point.slug = ''


def test_points_may_differ_in_their_data():
  one, two = expand({'data.path': 'a'}, {'data.path': 'b'})
  assert one.digest != two.digest


def test_none_is_a_value_where_it_is_the_configs():
  expand(
    {'model.injection.memory_score': None},
    {'model.injection.memory_score': -10.0},
  )
  with pytest.raises(errors.UserError, match='no flag can say'):
    expand({'objective.beta.end': None})


@pytest.mark.parametrize('added', [{1: 2}, ('a',), None])
def test_add_takes_keys_and_values(added):
  with pytest.raises(errors.UserError, match='dotted.key'):
    expand(added)


def test_a_run_that_is_there_keeps_its_name(tmp_path):
  """Another design of the sweep gives it another slug, and no other run."""
  (old,) = expand({'seed': 3})
  new, other = expand({'seed': 3}, {'seed': 4, 'model.decoder.layers': 3})
  assert new.digest == old.digest and new.name != old.name
  assert points.settled(new, tmp_path) == new
  (tmp_path / old.name).mkdir()
  assert points.settled(new, tmp_path).name == old.name
  assert points.settled(other, tmp_path) == other
  (tmp_path / new.name).mkdir()  # then it is there twice
  assert points.settled(new, tmp_path) == new


def test_a_schedule_in_epochs_is_checked_once_the_data_are_known():
  key = 'objective.beta.duration'
  steps, short, long = expand(
    {key: '9 steps'}, {key: '3 epochs'}, {key: '4 epochs'}
  )
  assert [p.in_epochs for p in (steps, short, long)] == [False, True, True]
  (dropping,) = expand({key: '3 epochs', 'pipeline.overlong': 'drop'})
  assert not dropping.in_epochs
  # Some of whose texts have no label, which may count for nothing.
  tree = aspect_semisupervised.get_config('quick').to_dict()
  tree['data']['path'] = 'somewhere'
  (labelled,) = points.expand(tree, lambda add: add({key: '3 epochs'}))
  assert not labelled.in_epochs
  # 60 steps of 16 texts are three epochs of 320.
  short.check_schedules(320)
  with pytest.raises(errors.UserError, match=r'duration = .4 epochs.*4 epochs'):
    long.check_schedules(320)


def test_where_the_hub_has_put_a_tokenizer_makes_no_other_run(monkeypatch):
  folder = 'commit'
  sizes = {'layers': 2, 'heads': 2, 'width': 32, 'inner': 64}
  rest = {'positions': 64, 'activation': 'gelu_tanh', 'epsilon': 1e-5}
  monkeypatch.setattr(
    points.beginning.gpt2, 'sizes', lambda name: (folder, sizes | rest)
  )
  change = {'pretrained.decoder': 'someone/gpt2'}
  (one,) = expand(change)
  folder = 'another'
  (two,) = expand(change)
  assert one.settings.tokenizer.path != two.settings.tokenizer.path
  assert one.digest == two.digest
  assert 'tokenizer.path' in points.may_change(one.settings)
  (own,) = expand({'tokenizer.kind': 'file', 'tokenizer.path': 'here'})
  assert 'tokenizer.path' not in points.may_change(own.settings)


def test_devices_make_no_other_run():
  one, two = (
    expand({'training.steps': 50}, {'training.steps': 60})[0],
    points.expand(
      BASE | {'training': BASE['training'] | {'parallel': 'jit'}},
      lambda add: add({'training.steps': 50}),
    )[0],
  )
  assert one.digest == two.digest
  # Unless that is what is swept.
  jit, pmap = expand(
    {'training.parallel': 'jit'}, {'training.parallel': 'pmap'}
  )
  assert jit.digest != pmap.digest


def test_micro_batches_are_part_of_a_run_whose_texts_are_coupled():
  def changeable(*changes):
    tree = base.get_config('quick').to_dict()
    overrides = {'objective.free_bits.kind': 'total', **dict(changes)}
    tree = points.overridden(tree, overrides)
    return points.may_change(settings_lib.from_dict(tree))

  assert 'evaluation.batch_size' in changeable()
  coupled = ('objective.free_bits.kind', 'dim_batch')
  micro, parallel = 'training.micro_batch', 'training.parallel'
  assert {micro, parallel} < set(changeable())
  assert micro not in changeable(coupled)
  assert parallel in changeable(coupled)
  assert parallel not in changeable(coupled, (micro, 4))
  free = ('objective.free_bits.kind', 'none')
  assert micro not in changeable(free, ('objective.rate.kind', 'distance'))
  assert micro in changeable(free, ('objective.rate.kind', 'dual'))
  assert micro not in changeable(('objective.mmd.weight', 1.0))
  assert micro not in changeable(('model.posterior.batch_norm', 0.5))


@pytest.mark.parametrize(('kind', 'apart'), [('total', 0), ('dim_batch', 1)])
def test_a_digest_tells_micro_batches_apart_where_they_matter(kind, apart):
  found = set()
  for most in (0, 4, 8):
    changes = {
      'objective.free_bits.kind': kind,
      'training.micro_batch': most,
    }
    base_of_all = points.overridden(BASE, changes)
    (point,) = points.expand(base_of_all, lambda add: add({'seed': 1}))
    found.add(point.digest)
  assert len(found) == (3 if apart else 1)
