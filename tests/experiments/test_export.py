"""An exported folder: whole or not there, and opened as what it was."""

import json
import logging
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tokenizers as hf

from configs import base
from experiments import export
import lvdecode
from lvdecode import errors
from lvdecode import settings as settings_lib
from lvdecode import trained
from lvdecode.evaluation import figures
from lvdecode.evaluation import provenance
from lvdecode.pretrained import gpt2
from lvdecode.report import card
from lvdecode.text import tokenizers

TEXTS = ['the soup was cold .', 'the film was great .', 'this room was new .']
KINDS = {
  'plain': {'points': ()},
  'all': {'points': ('input', 'memory', 'softmax')},
  'memory': {'points': ('memory',), 'memory_slots': 3},
  'score': {'points': ('memory',), 'memory_score': -1.0, 'memory_slots': 2},
  'some_layers': {'points': ('memory',), 'memory_layers': (1,)},
}


def make(folder, kind='word', **changes):
  """A model of random numbers whose workdir has no checkpoint."""
  config = base.get_config('quick')
  config.data.source = 'files'
  config.data.path = 'texts.txt'
  config.tokenizer.kind = kind
  config.pipeline.lengths = (12,)
  config.model.decoder.vocab_multiple = 8
  config.model.injection.update(changes)
  settings = settings_lib.from_dict(config.to_dict())
  tokenizer = tokenizers.train(settings.tokenizer, TEXTS)
  task = settings_lib.build_task(settings, tokenizer, None)
  shapes = jax.eval_shape(task.init, jax.random.key(0))
  folder.mkdir()
  tree = settings_lib.to_dict(settings) | {'data_fingerprint': 'abc'}
  (folder / 'settings.json').write_text(json.dumps(tree))
  return trained.Model(
    folder, settings, task, tiny.random_params(shapes), tokenizer, None, step=4
  )


@pytest.fixture(name='model', scope='module')
def _model(tmp_path_factory):
  return make(tmp_path_factory.mktemp('export') / 'run', **KINDS['all'])


@pytest.fixture(name='folder', scope='module')
def _folder(model):
  folder = model.workdir.parent / 'out'
  export.export(model, folder)
  return folder


@pytest.mark.slow
def test_the_latent_model_is_reopened_as_it_was(model, folder):
  again = lvdecode.load(folder)
  assert (again.step, again.config, again.task) == (4, model.config, model.task)
  assert jax.tree.structure(again.params) == jax.tree.structure(model.params)
  jax.tree.map(np.testing.assert_array_equal, again.params, model.params)
  assert again.tokenizer.encode(TEXTS) == model.tokenizer.encode(TEXTS)
  assert lvdecode.load(folder, step=4).step == 4
  with pytest.raises(errors.UserError, match='of step 4: there is no step 3'):
    lvdecode.load(folder, step=3)


def test_the_decoder_is_read_back_without_rows_that_are_no_token(model, folder):
  there = gpt2.read(folder / 'decoder')
  words, wide = model.tokenizer.vocab_size, model.config.model.decoder.width
  assert there.sizes == {
    'layers': 2,
    'heads': 2,
    'width': wide,
    'inner': 4 * wide,
    'positions': 64,
    'vocab_size': words,
    'activation': 'gelu_tanh',
    'epsilon': 1e-5,
  }
  expected = model.params['decoder']
  assert len(expected['wte']['embedding']) > words
  embedding = expected['wte']['embedding'][:words]
  expected = expected | {'wte': {'embedding': embedding}}
  jax.tree.map(np.testing.assert_array_equal, there.params, expected)


def test_the_decoder_has_its_tokenizer(model, folder):
  tokenizer = model.tokenizer
  inner = hf.Tokenizer.from_file(str(folder / 'decoder' / 'tokenizer.json'))
  assert [e.ids for e in inner.encode_batch(TEXTS)] == tokenizer.encode(TEXTS)
  config, names, told = (
    json.loads((folder / 'decoder' / f'{name}.json').read_text())
    for name in ('config', 'special_tokens_map', 'tokenizer_config')
  )
  for role in ('pad', 'bos', 'eos'):
    token = config[f'{role}_token_id']
    assert token == getattr(tokenizer, role)
    assert inner.id_to_token(token) == names[f'{role}_token']
  assert names['unk_token'] == '<unk>'
  assert told.items() >= names.items()


@pytest.mark.parametrize('mishap', [RuntimeError, OSError, SystemExit])
def test_nothing_is_there_until_everything_is(
  model, tmp_path, monkeypatch, mishap
):
  folder = tmp_path / 'deep' / 'out'

  def write(*_):
    assert not folder.exists()
    assert list(folder.parent.glob('.out.*/out/model.safetensors'))
    raise mishap('no room')

  monkeypatch.setattr(gpt2, 'write', write)
  expected = errors.UserError if mishap is OSError else mishap
  with pytest.raises(expected, match='no room'):
    export.export(model, folder)
  assert not list(folder.parent.iterdir())


def test_what_is_there_is_never_written_over(model, tmp_path):
  (tmp_path / 'full').mkdir()
  (tmp_path / 'full' / 'mine.txt').write_text('mine')
  (tmp_path / 'file').write_text('mine')
  for name in ('full', 'file'):
    with pytest.raises(errors.UserError, match='exists and is not empty'):
      export.export(model, tmp_path / name)
  assert (tmp_path / 'full' / 'mine.txt').read_text() == 'mine'
  (tmp_path / 'empty').mkdir()
  export.export(model, tmp_path / 'empty')
  assert (tmp_path / 'empty' / 'decoder' / 'config.json').exists()


def test_a_folder_that_does_not_fit_its_settings_is_refused(model, tmp_path):
  folder = tmp_path / 'out'
  export.export(model, folder)
  path = folder / 'settings.json'
  tree = json.loads(path.read_text())
  tree['model']['latent_size'] = 5
  path.write_text(json.dumps(tree))
  with pytest.raises(errors.UserError, match='the model wants') as caught:
    lvdecode.load(folder)
  assert '\n' not in str(caught.value)
  weights = folder / 'model.safetensors'
  weights.write_bytes(weights.read_bytes()[:-9])
  with pytest.raises(errors.UserError, match='safetensors cannot be read'):
    lvdecode.load(folder)


def report(**changes):
  values = {
    name: kind(2) for name, kind in figures.Report.__annotations__.items()
  }
  return figures.Report(**values | changes)


def evaluated(model, step, asked_texts=0, seed=0, **changes):
  """Stores figures of a step as experiments.evaluate does."""
  path = provenance.folder(model.workdir) / 'test.json'
  origin = provenance.make(
    model.workdir,
    split='test',
    texts=9,
    asked_texts=asked_texts,
    step=step,
    batch_size=4,
    samples=30,
    seed=seed,
  )
  found = report(samples=30, **changes).to_dict()
  provenance.write(path, origin, {'figures': found}, {'likelihood': 1.0})
  return path


def test_the_card_has_the_figures_of_this_very_model(tmp_path):
  model = make(tmp_path / 'run', **KINDS['all'])
  assert card.measured(model) is None
  evaluated(model, step=2)
  assert card.measured(model) is None
  path = evaluated(model, step=4, kl=7.25, latent_size=8)
  found = card.measured(model)
  assert found.split == 'test'
  assert ['KL(q || p)', '7.25', 'nats per sequence'] in found.rows
  assert found.command.endswith('--samples=30 --step=4')
  text = card.render('name', model, {'checkpoint': 'step 4'})
  assert '| KL(q \\|\\| p) | 7.25 | nats per sequence |' in text
  assert 'None were measured' not in text
  path.write_text(path.read_text().replace('"kl"', '"lk"'))
  assert card.measured(model) is None


def test_the_card_names_the_command_that_measures_the_same(tmp_path):
  model = make(tmp_path / 'run', **KINDS['all'])
  evaluated(model, step=4, asked_texts=9, seed=3)
  assert card.measured(model).command.endswith('--step=4 --texts=9 --seed=3')


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_the_card_says_what_it_is_and_how_it_is_used(tmp_path, kind):
  model = make(tmp_path / 'run', **KINDS[kind])
  origin = {'checkpoint': 'step 4', 'a|b': None}
  text = card.render('name', model, origin)
  assert '| a\\|b | None |' in text
  assert ('z enters at' in text) == (kind != 'plain')
  assert ('model.past(z)' in text) == (kind != 'plain')
  assert ('register_forward_pre_hook' in text) == (
    kind in ('score', 'some_layers')
  )
  assert ('`input` and `softmax` tell of z' in text) == (kind == 'all')
  assert '{' not in re.sub('```.*?```', '', text, flags=re.DOTALL)
  assert '\n\n\n' not in text
  for block in re.findall('```python\n(.*?)```', text, re.DOTALL):
    compile(block, 'card', 'exec')


def test_a_model_without_memory_has_no_past(tmp_path):
  model = make(tmp_path / 'run', points=('input',))
  with pytest.raises(errors.UserError, match='has no memory to tell'):
    model.past(np.zeros((2, 8)))


# Until its 5.40 the old name goes, which is the one that earlier ones know.
@pytest.mark.filterwarnings('ignore:`past_key_values` is deprecated')
@pytest.mark.parametrize('kind', KINDS)
def test_transformers_gives_the_same_logits(tmp_path, kind):
  """By the very words of the card."""
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  logging.getLogger('transformers').setLevel(logging.ERROR)
  model = make(tmp_path / 'run', **KINDS[kind])
  export.export(model, tmp_path / 'out')
  gpt = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path / 'out' / 'decoder'
  )
  tokens = np.array([[1, 5, 4, 6, 7], [1, 8, 9, 3, 2]])
  with torch.no_grad():
    got = gpt(torch.tensor(tokens)).logits.numpy()
  lm = make(tmp_path / 'lm', points=())
  words = model.tokenizer.vocab_size
  expected = tiny.logits(
    lm.task.model, model.params, jnp.asarray(tokens), jnp.zeros((2, 0))
  )[..., :words]
  np.testing.assert_allclose(got, expected, atol=1e-4, rtol=1e-5)
  if model.task.points != ('memory',):
    return
  z = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
  text = (tmp_path / 'out' / 'README.md').read_text()
  blocks = re.findall('```python\n(.*?)```', text, re.DOTALL)
  assert 'past = model.past(z)' in blocks[2]
  names = {
    'gpt': gpt,
    'model': model,
    'z': z,
    'tokens': torch.tensor(tokens),
    'transformers': transformers,
  }
  with torch.no_grad():
    exec(blocks[2], names)
  expected = tiny.logits(
    model.task.model, model.params, jnp.asarray(tokens), jnp.asarray(z)
  )
  np.testing.assert_allclose(
    names['logits'].numpy(), expected[..., :words], atol=1e-4, rtol=1e-5
  )


@pytest.mark.parametrize('kind', ['word', 'bpe', 'char'])
def test_transformers_opens_the_tokenizer(tmp_path, kind):
  transformers = pytest.importorskip('transformers')
  model = make(tmp_path / 'run', kind, points=())
  export.export(model, tmp_path / 'out')
  tokenizer = transformers.AutoTokenizer.from_pretrained(
    tmp_path / 'out' / 'decoder'
  )
  texts = [*TEXTS, ' two  spaces\n', 'unknown 日本 😀', '']
  assert tokenizer(texts).input_ids == model.tokenizer.encode(texts)
  ids = model.tokenizer.encode(texts)
  assert tokenizer.batch_decode(ids) == [*map(model.tokenizer.decode, ids)]
  for role in ('pad', 'bos', 'eos', 'unk'):
    assert getattr(tokenizer, f'{role}_token_id') == getattr(
      model.tokenizer, role
    )
  assert len(tokenizer) == model.tokenizer.vocab_size
