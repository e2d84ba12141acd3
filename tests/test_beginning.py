"""A run begins with the pretrained weights that its config names."""

import shutil
import sys
import types

import foreign
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from configs import base
from experiments import run
import lvdecode
from lvdecode import beginning
from lvdecode import errors
from lvdecode import settings as settings_lib
from lvdecode.pretrained import bert
from lvdecode.pretrained import gpt2
from lvdecode.text import batching
from lvdecode.text import corpora
from lvdecode.text import tokenizers
from lvdecode.training import flat

WORDS = 'soup room team was cold new small'.split()
TEXTS = [f'{a} was {b}' for a in WORDS[:3] for b in WORDS[4:]] * 4
POINTS = ('input', 'memory', 'softmax')


def words(size):
  """A tokenizer of so many words; specials counted."""
  settings = tokenizers.TokenizerSettings(
    kind='word', vocab_size=size, path='', added=()
  )
  more = [f'w{n}' for n in range(size)]
  return tokenizers.train(settings, [*TEXTS, *more])


@pytest.fixture(name='home', scope='module')
def _home(tmp_path_factory):
  """A GPT-2 and a BERT with their tokenizers, and texts."""
  home = tmp_path_factory.mktemp('pretrained')
  # As small as trained ones: scores that a bias can be far from.
  small = {name: 0.1 * x for name, x in foreign.gpt2_tensors().items()}
  foreign.save(home / 'gpt2', foreign.GPT2, small)
  foreign.save(home / 'bert', foreign.BERT, foreign.bert_tensors())
  for name in ('gpt2', 'bert'):
    words(foreign.VOCAB).save(home / name)
  (home / 'texts.txt').write_text('\n'.join(TEXTS))
  return home


def config(home, **changes):
  c = base.get_config('quick')
  c.data.source = 'files'
  c.data.path = str(home / 'texts.txt')
  c.pipeline.batch_size = 8
  c.pipeline.lengths = (8,)
  c.pipeline.encoder_length = 8
  c.pretrained.decoder = str(home / 'gpt2')
  c.model.encoder.kind = 'own'
  c.objective.beta.duration = '1 step'
  c.training.steps = 2
  c.training.evaluate_every = c.training.checkpoint_every = 2
  c.training.parallel = 'jit'
  with c.unlocked():
    for key, value in changes.items():
      c.update_from_flattened_dict({key.replace('__', '.'): value})
  return c.to_dict()


def begun(home, **changes):
  """Settings, task and the parameters a run begins with."""
  found = beginning.settings(config(home, **changes))
  both = tokenizers.load(found.tokenizer.path, found.tokenizer.added), None
  if found.model.reads_apart:
    both = both[0], tokenizers.load(found.pretrained.encoder)
  task = settings_lib.build_task(found, *both)
  begin = beginning.weights(found, *both)
  return found, task, begin(task.init(jax.random.key(0))), both


def same(found, expected):
  expected = dict(
    zip(flat.names(expected), jax.tree.leaves(expected), strict=True)
  )
  names = flat.names(found)
  for name, leaf in zip(names, jax.tree.leaves(found), strict=True):
    np.testing.assert_array_equal(leaf, expected[name], err_msg=name)


def test_sizes_and_tokenizer_are_those_of_the_folders(home):
  found = beginning.settings(
    config(
      home,
      model__encoder__kind='bert',
      pretrained__encoder=str(home / 'bert'),
    )
  )
  decoder, encoder = found.model.decoder, found.model.encoder
  assert (decoder.layers, decoder.width, decoder.inner) == (2, 8, 12)
  assert (decoder.positions, decoder.activation) == (10, 'gelu_tanh')
  assert (encoder.layers, encoder.width, encoder.inner) == (2, 8, 12)
  assert (encoder.activation, encoder.epsilon) == ('gelu', 1e-12)
  assert found.tokenizer.kind == 'file'
  assert found.tokenizer.path == str(home / 'gpt2')


def test_an_encoder_on_the_embeddings_is_as_wide(home):
  found = beginning.settings(
    config(home, model__encoder__kind='shared_embeddings')
  )
  assert found.model.encoder.width == found.model.decoder.width == 8


def test_an_encoder_s_tokenizer_comes_from_the_hub_too(home, monkeypatch):
  hub = types.SimpleNamespace(
    snapshot_download=lambda name, **patterns: str(home / name.split('/')[1])
  )
  monkeypatch.setitem(sys.modules, 'huggingface_hub', hub)
  found = beginning.settings(
    config(
      home,
      model__encoder__kind='bert',
      pretrained__encoder='someone/bert',
      pretrained__decoder='someone/gpt2',
    )
  )
  assert beginning.encoder_tokenizer(found).vocab_size == foreign.VOCAB
  assert found.tokenizer.path == str(home / 'gpt2')


def test_without_pretrained_weights_nothing_is_changed(home):
  tree = config(home, pretrained__decoder='')
  found = beginning.settings(tree)
  assert found == settings_lib.from_dict(tree)
  assert beginning.weights(found, words(9), None) is None


@pytest.mark.slow
def test_the_decoder_has_its_weights_and_the_rest_its_own(home):
  found, task, params, _ = begun(home)
  same(params['decoder'], gpt2.read(home / 'gpt2').params)
  fresh = task.init(jax.random.key(0))
  same(params['injection'], fresh['injection'])
  same(params['encoder'], fresh['encoder'])
  assert found.model.latent_size == 8


@pytest.mark.slow
def test_an_encoder_may_be_a_bert_or_the_first_layers_of_a_gpt(home):
  _, _, params, _ = begun(
    home,
    model__encoder__kind='bert',
    pretrained__encoder=str(home / 'bert'),
  )
  expected = bert.read(home / 'bert').params
  first = {'embedding': expected['wtt']['embedding'][:1]}
  same(params['encoder'], expected | {'wtt': first})
  found, _, params, _ = begun(
    home,
    model__encoder__layers=1,
    pretrained__encoder=str(home / 'gpt2'),
  )
  assert found.model.encoder.layers == 1 and 'h_1' not in params['encoder']
  same(params['encoder'], gpt2.read(home / 'gpt2').params)


@pytest.mark.slow
def test_what_reads_a_condition_apart_begins_with_the_same_weights(home):
  _, _, params, _ = begun(
    home,
    pretrained__encoder=str(home / 'gpt2'),
    data__condition_field='label',
    pipeline__condition_length=2,
    model__prior__kind='learned',
    model__prior__share=False,
  )
  expected = gpt2.read(home / 'gpt2').params
  same(params['encoder'], expected)
  same(params['prior_encoder'], expected)


@pytest.mark.slow
def test_added_tokens_and_filled_up_rows_leave_the_old_rows(home):
  _, task, params, both = begun(
    home, tokenizer__added=('<more>',), model__decoder__vocab_multiple=8
  )
  assert both[0].vocab_size == foreign.VOCAB + 1
  old = gpt2.read(home / 'gpt2').params['wte']['embedding']
  rows = params['decoder']['wte']['embedding']
  assert len(rows) == 16
  np.testing.assert_array_equal(rows[: foreign.VOCAB], old)


@pytest.mark.slow
@pytest.mark.parametrize('point', POINTS)
def test_a_silent_point_leaves_the_pretrained_language_model(home, point):
  """-log p of texts told z is that of the decoder alone, before any step."""
  _, task, params, both = begun(
    home,
    model__injection__points=(point,),
    model__injection__init='zero',
    model__injection__memory_score=-10.0,
  )
  corpus = corpora.tokenize(
    TEXTS[:5], both[0], settings_of(home).pipeline, both[1]
  )
  (batch, _), *_ = batching.eval_batches(corpus, 5, (8,))
  batch = jax.tree.map(jnp.asarray, batch)
  z = 3.0 * jax.random.normal(jax.random.key(1), (5, 8))
  told = task.nll(params, batch, z)
  alone = task.nll(params, batch, z, ())
  np.testing.assert_allclose(told, alone, rtol=1e-6)
  loud = tiny.random_params(params['injection'])
  assert not np.allclose(
    task.nll(params | {'injection': loud}, batch, z), alone, rtol=1e-3
  )


def settings_of(home):
  return beginning.settings(config(home))


@pytest.mark.slow
def test_a_run_says_what_it_begins_with_and_needs_no_folder_later(
  home, tmp_path
):
  folders = tmp_path / 'folders'
  shutil.copytree(home, folders)
  tree = config(
    folders,
    model__encoder__kind='bert',
    pretrained__encoder=str(folders / 'bert'),
    model__injection__init='zero',
    model__injection__points=('input',),
  )
  settings = beginning.settings(tree)
  run.train(settings, tmp_path / 'run')
  lines = (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()
  first = [line for line in lines if '"step": 0' in line]
  assert len(first) == 1 and 'evaluate/nll_untold' in first[0]
  for name in ('gpt2', 'bert'):
    shutil.rmtree(folders / name)
  run.train(settings, tmp_path / 'run')  # from its checkpoint
  model = lvdecode.load(tmp_path / 'run')
  assert model.encode(TEXTS[:3]).mean.shape == (3, 8)
  assert len(model.reconstruct(TEXTS[:2])) == 2


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'pretrained__decoder': 'gone/away'}, 'gone/away'),
    ({'pretrained__decoder': '{home}/bert'}, 'model_type'),
    ({'pretrained__encoder': '{home}/bert'}, 'model_type'),
    (
      {'pretrained__encoder': '{home}/gpt2', 'model__encoder__layers': 3},
      'model.encoder.layers = 3',
    ),
    (
      {
        'pretrained__encoder': '{home}/gpt2',
        'model__encoder__kind': 'decoder',
      },
      "kind = 'decoder'",
    ),
    ({'model__encoder__kind': 'bert'}, 'pretrained.encoder'),
    ({'objective__pretraining_steps': 1}, 'objective.pretraining_steps'),
    (
      {
        'model__encoder__kind': 'bert',
        'pretrained__encoder': '{home}/bert',
        'pipeline__encoder_length': 11,
      },
      'pipeline.encoder_length',
    ),
  ],
)
def test_what_cannot_begin_is_refused_in_one_line(home, changes, message):
  changes = {
    key: value.format(home=home) if isinstance(value, str) else value
    for key, value in changes.items()
  }
  with pytest.raises(errors.UserError) as caught:
    begun(home, **changes)
  assert message in str(caught.value) and '\n' not in str(caught.value)


def test_a_tokenizer_of_another_size_is_refused(home):
  found = beginning.settings(config(home))
  with pytest.raises(errors.UserError, match='9 tokens.* 11 rows'):
    beginning.weights(found, words(9), None)


@pytest.mark.slow
def test_weights_are_put_in_float32_arrays(home):
  _, _, params, _ = begun(home)
  assert all(
    isinstance(leaf, jax.Array) and leaf.dtype == jnp.float32
    for leaf in jax.tree.leaves(params)
  )
