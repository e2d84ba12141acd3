"""A trained model opened from its folder alone."""

import json
import logging
import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import base
from experiments import export
from experiments import run
import lvdecode
from lvdecode import errors
from lvdecode import sampling
from lvdecode import settings
from lvdecode.pretrained import gpt2
from lvdecode.text import tokenizers
from lvdecode.training import checkpoint
from lvdecode.training import step as step_lib

TEXTS = ['the soup was cold .', 'the film was great .', 'this room was new .']


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  """A run of a few steps, moved away from the data it was trained on."""
  config = base.get_config('quick')
  folder = tmp_path_factory.mktemp('restore')
  (folder / 'texts.txt').write_text(
    '\n'.join(
      f'{how} {what} was {such} .'
      for how in ('the', 'our', 'this')
      for what in ('soup', 'film', 'room', 'staff', 'team', 'game')
      for such in ('cold', 'great', 'small', 'loud', 'new')
    )
  )
  config.data.source = 'files'
  config.data.path = str(folder / 'texts.txt')
  config.pipeline.lengths = (12,)  # a program to compile for each
  config.model.adapters.rank = 2
  config.training.steps = 4
  config.training.evaluate_every = 2
  config.training.checkpoint_every = 2
  config.objective.beta.duration = '4 steps'
  config.training.parallel = 'jit'
  run.train(settings.from_dict(config.to_dict()), folder / 'run')
  shutil.rmtree(folder / 'run' / 'data')
  return (folder / 'run').rename(folder / 'moved')


@pytest.fixture(scope='module')
def model(workdir):
  return lvdecode.load(workdir, step=4)


@pytest.mark.slow
def test_the_average_of_the_best_checkpoint_is_opened(tmp_path):
  config = base.get_config('quick')
  config.data.source, config.data.path = 'files', 'texts.txt'
  config.model.encoder.layers = config.model.decoder.layers = 1
  config.training.ema = 0.9
  chosen = settings.from_dict(config.to_dict())
  tokenizer = tokenizers.train(chosen.tokenizer, TEXTS)
  tokenizer.save(tmp_path / 'tokenizer')
  written = json.dumps(settings.to_dict(chosen))
  (tmp_path / 'settings.json').write_text(written)
  task = settings.build_task(chosen, tokenizer, None)
  state = step_lib.init_state(task, optax.sgd(0.0), 0, 0.9)
  with checkpoint.Checkpoints(
    tmp_path, keep=2, keep_period=0, best_metric='nll'
  ) as kept:
    for step, nll in ((2, 1.0), (4, 2.0)):
      ema = jax.tree.map(lambda x, step=step: x + step, state.params)
      kept.save(state._replace(step=jnp.int32(step), ema=ema), {}, {'nll': nll})
  model = lvdecode.load(tmp_path)
  assert model.step == 2
  for found, begun in zip(
    jax.tree.leaves(model.params), jax.tree.leaves(state.params), strict=True
  ):
    np.testing.assert_array_equal(found, begun + 2)


def test_the_folder_says_everything(model, workdir):
  assert model.step == 4
  assert model.config.model.latent_size == model.latent_size == 8
  assert model.params['decoder']['wte']['embedding'].shape == (
    model.tokenizer.vocab_size,
    32,
  )


@pytest.mark.slow
def test_adapters_are_merged_at_loading(model, workdir):
  assert model.task.adapters.rank == 0 < model.config.model.adapters.rank
  shapes = jax.eval_shape(model.task.init, jax.random.key(0))
  assert jax.tree.structure(shapes) == jax.tree.structure(model.params)
  trained = settings.build_task(model.config, model.tokenizer, None)
  shapes = jax.eval_shape(trained.init, jax.random.key(0))
  stored = checkpoint.restore_params(workdir, 4, shapes, 'params')
  change = stored['adapters']['h_0']['attn']['c_attn']
  assert np.abs(change['up']).max() > 0
  loaded, kernel = (
    params['decoder']['h_0']['attn']['c_attn']['kernel']
    for params in (model.params, stored)
  )
  np.testing.assert_allclose(
    loaded, kernel + 16 / 2 * change['down'] @ change['up'], rtol=1e-5
  )


@pytest.mark.slow
def test_an_exported_model_needs_no_adapters(model, tmp_path):
  export.export(model, tmp_path / 'out')
  again = lvdecode.load(tmp_path / 'out')
  assert again.task.adapters.rank == 0 < again.config.model.adapters.rank
  np.testing.assert_array_equal(again.nll(TEXTS, 3), model.nll(TEXTS, 3))
  kernel = model.params['decoder']['h_0']['attn']['c_attn']['kernel']
  decoder = gpt2.read(tmp_path / 'out' / 'decoder').params
  np.testing.assert_array_equal(
    decoder['h_0']['attn']['c_attn']['kernel'], kernel
  )


@pytest.mark.slow
def test_a_model_of_another_device_opens_on_this_one(
  model, workdir, tmp_path, monkeypatch
):
  """cuDNN's attention is for GPUs; and a folder is named as in a shell."""
  copy = shutil.copytree(workdir, tmp_path / 'copy')
  tree = json.loads((copy / 'settings.json').read_text())
  tree['model'] |= {'attention': 'cudnn', 'dtype': 'bfloat16'}
  (copy / 'settings.json').write_text(json.dumps(tree))
  monkeypatch.setenv('HOME', str(tmp_path))
  found = lvdecode.load('~/copy', step=4)
  assert found.config.model.attention == 'cudnn'
  text = ['the soup was cold .']
  assert np.abs(found.nll(text, 1) - model.nll(text, 1)) < 1.0


@pytest.mark.slow
def test_a_text_is_encoded_the_same_in_any_company(model):
  together = model.encode(TEXTS)
  assert together.mean.shape == together.logvar.shape == (3, 8)
  alone = model.encode(TEXTS[1:2])
  np.testing.assert_allclose(alone.mean, together.mean[1:2], atol=1e-6)


@pytest.mark.slow
def test_decoding_writes_one_text_a_latent(model):
  z = np.random.default_rng(0).normal(size=(5, 8))
  texts = model.decode(z, sampling.Rules(method='sample'), seed=1)
  assert len(texts) == 5
  assert texts == model.decode(z, sampling.Rules(method='sample'), seed=1)
  assert texts != model.decode(z, sampling.Rules(method='sample'), seed=2)
  assert texts[:2] == model.decode(z[:2], sampling.Rules(method='sample'), 1)
  assert model.decode(z[:0]) == []


def test_reconstruction_decodes_the_posterior_mean(model):
  assert model.reconstruct(TEXTS) == model.decode(model.encode(TEXTS).mean)


@pytest.mark.slow
def test_an_interpolation_ends_at_its_two_texts(model):
  way = model.interpolate(TEXTS[0], TEXTS[1], steps=4)
  assert len(way) == 4
  assert [way[0], way[-1]] == model.reconstruct(TEXTS[:2])


def test_texts_of_unknown_words_are_encoded_with_a_warning(model, caplog):
  with caplog.at_level(logging.WARNING):
    assert np.isfinite(model.encode([TEXTS[0], 'zzz qqq']).mean).all()
  assert "no token of 'zzz qqq' is in the vocabulary" in caplog.text
  caplog.clear()
  model.encode(TEXTS)
  assert not caplog.text


def test_samples_differ_and_repeat_with_their_seed(model):
  assert model.sample(3, seed=5) == model.sample(3, seed=5)
  assert model.sample(3, seed=5) != model.sample(3, seed=6)


@pytest.mark.slow
def test_nll_is_nats_per_sequence_and_independent_of_company(model):
  together = model.nll(TEXTS, samples=3)
  alone = model.nll(TEXTS[:1], samples=3)
  np.testing.assert_allclose(alone[0], together[0], rtol=1e-5)
  # Hardly trained: near a uniform guess for each of 5 words and the end.
  uniform = 6 * math.log(model.tokenizer.vocab_size)
  assert together[0] == pytest.approx(uniform, rel=0.2)


@pytest.mark.parametrize(
  ('call', 'words'),
  [
    (lambda m: m.decode(np.zeros((2, 7))), '(2, 7).*[n, 8]'),
    (lambda m: m.decode(np.zeros(8)), '(8,).*[n, 8]'),
    (lambda m: m.encode('one text'), 'write [text]'),
    (lambda m: m.encode([]), 'at least one'),
    (lambda m: m.sample(0), 'num = 0'),
    (lambda m: sampling.Rules(temperature=float('inf')), 'temperature = inf'),
    (lambda m: m.interpolate('a', 'b', steps=1), 'steps = 1'),
    (lambda m: m.nll(TEXTS, samples=0), 'samples = 0'),
  ],
)
def test_a_mistake_is_one_line(model, call, words):
  with pytest.raises(errors.UserError) as caught:
    call(model)
  message = str(caught.value)
  position = 0
  for word in words.split('.*'):
    assert word in message[position:]
    position = message.index(word, position)
  assert '\n' not in message


def test_a_step_that_is_not_there_is_named_with_those_that_are(workdir):
  with pytest.raises(errors.UserError, match=r'step 3.* 2, 4'):
    lvdecode.load(workdir, step=3)


def test_settings_of_another_version_are_named(tmp_path):
  (tmp_path / 'settings.json').write_text('{"seed": 0}')
  with pytest.raises(errors.UserError) as caught:
    lvdecode.load(tmp_path)
  message = str(caught.value)
  assert f'{tmp_path}/settings.json is not of this version' in message
  assert '\n' not in message


def test_a_folder_without_a_run_is_refused(tmp_path):
  with pytest.raises(errors.UserError, match=r'settings\.json'):
    lvdecode.load(tmp_path)
