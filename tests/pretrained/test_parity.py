"""Our networks give what transformers' give, number for number.

Needs the extra `parity`; tiny models with random numbers, no network.
"""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lvdecode.nn import bert as bert_networks
from lvdecode.nn import gpt
from lvdecode.nn import transformer
from lvdecode.nn import vocabulary
from lvdecode.pretrained import bert
from lvdecode.pretrained import gpt2
from lvdecode.text import tokenizers

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
pytestmark = pytest.mark.slow
transformers.logging.disable_progress_bar()

FLOAT = jnp.dtype('float32')
TIGHT = dict(atol=1e-5, rtol=1e-5)
B, T, V = 3, 9, 40
RNG = np.random.default_rng(0)
TOKENS = RNG.integers(3, V, (B, T))
TYPES = RNG.integers(0, 2, (B, T))
VISIBLE = np.arange(T) < np.array([[9], [6], [2]])
AWKWARD = [
  'plain words',
  ' a leading space',
  'two  spaces,   three, and one at the end ',
  'lines\nand\n\n more\r\n\tof them',
  'emoji 🎉👩‍👩‍👧 and flags 🇨🇭',
  '汉字和标点。',
  'naïve café — “quoted” … ½',
  "it's they'll WE'VE 1234567 3.14",
  '[CLS] <s> <|pad|>',
  'a' * 200,
  '\u200b\xa0\ufeff',
]
GPT2 = {
  'usual': dict(n_layer=3, n_head=4, n_embd=24),
  'one_head': dict(n_layer=1, n_head=1, n_embd=16, n_inner=20),
  'gelu': dict(
    n_layer=2,
    n_head=2,
    n_embd=16,
    n_inner=48,
    activation_function='gelu',
    layer_norm_epsilon=0.03,
  ),
  'relu': dict(
    n_layer=2,
    n_head=3,
    n_embd=12,
    activation_function='relu',
    reorder_and_upcast_attn=True,
  ),
  'silu': dict(n_layer=2, n_head=2, n_embd=16, activation_function='silu'),
}
BERT = dict(
  vocab_size=V,
  hidden_size=24,
  num_hidden_layers=3,
  num_attention_heads=4,
  intermediate_size=40,
  max_position_embeddings=14,
)


def randomized(network):
  """Numbers so large that no part of it is silent."""
  generator = torch.Generator().manual_seed(0)
  with torch.no_grad():
    for name, parameter in network.named_parameters():
      parameter.normal_(std=0.2, generator=generator)
      if 'ln_' in name or 'LayerNorm' in name:
        parameter.add_(1.0)
  return network.eval()


def gpt2_network(sizes):
  config = transformers.GPT2Config(
    vocab_size=V, n_positions=T + 2, bos_token_id=1, eos_token_id=2, **sizes
  )
  return randomized(transformers.GPT2LMHeadModel(config))


def theirs(network, **inputs):
  inputs = {name: torch.tensor(value) for name, value in inputs.items()}
  with torch.no_grad():
    return network(**inputs, output_hidden_states=True)


def blocks(states):
  """What each block gave, in order, of what linen captured."""
  flat = flax.traverse_util.flatten_dict(states['intermediates'])
  layers = {int(path[0][2:]): x[0] for path, x in flat.items()}
  return [layers[index] for index in sorted(layers)]


def our_gpt2(decoder, tokens):
  """States [embeddings, blocks, ln_f] and logits."""
  model = gpt.GPT(**decoder.sizes, vocab_multiple=1, dropout=0.0, dtype=FLOAT)
  variables = {'params': decoder.params}

  @jax.jit
  def everything(tokens):
    last, captured = model.apply(
      variables,
      tokens,
      capture_intermediates=lambda module, _: isinstance(
        module, transformer.Block
      ),
    )
    first = model.apply(variables, tokens, method='embed')
    head = model.apply(variables, method='head')
    return (
      [first, *blocks(captured), last],
      vocabulary.logits(head, last),
    )

  return everything(jnp.asarray(tokens))


@pytest.mark.parametrize('name', GPT2)
def test_gpt2s_states_and_logits_agree(name, tmp_path):
  network = gpt2_network(GPT2[name])
  network.save_pretrained(tmp_path)
  states, logits = our_gpt2(gpt2.read(tmp_path), TOKENS)
  expected = theirs(network, input_ids=TOKENS)
  # Behind the last block transformers only tells ln_f of it.
  del states[-2]
  assert len(states) == len(expected.hidden_states)
  for ours, other in zip(states, expected.hidden_states, strict=True):
    np.testing.assert_allclose(ours, other, **TIGHT)
  np.testing.assert_allclose(logits, expected.logits, **TIGHT)
  # Large enough that a mistake would show.
  assert expected.logits.std() > 0.5


@pytest.mark.parametrize('name', ['usual', 'gelu'])
def test_transformers_opens_what_is_written(name, tmp_path):
  network = gpt2_network(GPT2[name])
  network.save_pretrained(tmp_path / 'theirs')
  decoder = gpt2.read(tmp_path / 'theirs')
  gpt2.write(tmp_path / 'ours', decoder.sizes, decoder.params)
  again, told = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path / 'ours', output_loading_info=True
  )
  assert not any(told.values()), told
  # GPT-2's own, which transformers would take, is no token of these 40.
  assert again.config.bos_token_id is again.config.eos_token_id is None
  got = theirs(again.eval(), input_ids=TOKENS).logits
  expected = theirs(network, input_ids=TOKENS).logits
  np.testing.assert_array_equal(got, expected)


def test_shards_and_half_precision_are_read(tmp_path):
  network = gpt2_network(GPT2['usual']).to(torch.bfloat16)
  network.save_pretrained(tmp_path, max_shard_size='20KB')
  assert (tmp_path / 'model.safetensors.index.json').is_file()
  _, logits = our_gpt2(gpt2.read(tmp_path), TOKENS)
  expected = theirs(network.to(torch.float32), input_ids=TOKENS)
  np.testing.assert_allclose(logits, expected.logits, **TIGHT)


def our_bert(encoder, types=None):
  """States [embeddings, blocks] and, where there is one, the pooler's."""
  model = bert_networks.BERT(**encoder.sizes, dropout=0.0, dtype=FLOAT)
  variables = {'params': encoder.params}

  @jax.jit
  def everything(tokens, visible, types):
    last, captured = model.apply(
      variables,
      tokens,
      visible,
      True,
      types,
      capture_intermediates=lambda module, _: isinstance(
        module, bert_networks.Block
      ),
    )
    first = model.apply(variables, tokens, types, method='embed')
    pooled = None
    if encoder.sizes['pools']:
      pooled = model.apply(variables, last, method='pool')
    return [first, *blocks(captured)], pooled

  types = None if types is None else jnp.asarray(types)
  return everything(jnp.asarray(TOKENS), jnp.asarray(VISIBLE), types)


def assert_visible_agree(states, expected):
  assert len(states) == len(expected)
  for ours, other in zip(states, expected, strict=True):
    np.testing.assert_allclose(ours[VISIBLE], other[VISIBLE], **TIGHT)


@pytest.mark.parametrize(
  'changes',
  [
    {},
    dict(hidden_act='gelu_new', layer_norm_eps=0.02),
    dict(hidden_act='relu', type_vocab_size=4, num_attention_heads=1),
  ],
  ids=['usual', 'gelu_new', 'relu'],
)
def test_berts_states_agree_with_types_and_padding(changes, tmp_path):
  config = transformers.BertConfig(**{**BERT, **changes})
  network = randomized(transformers.BertModel(config))
  network.save_pretrained(tmp_path)
  states, pooled = our_bert(bert.read(tmp_path), TYPES)
  expected = theirs(
    network,
    input_ids=TOKENS,
    token_type_ids=TYPES,
    attention_mask=VISIBLE.astype(int),
  )
  assert_visible_agree(states, expected.hidden_states)
  np.testing.assert_allclose(pooled, expected.pooler_output, **TIGHT)


def test_bert_is_found_in_what_it_was_trained_as(tmp_path):
  network = randomized(
    transformers.BertForPreTraining(transformers.BertConfig(**BERT))
  )
  network.save_pretrained(tmp_path)
  states, _ = our_bert(bert.read(tmp_path))
  expected = theirs(
    network, input_ids=TOKENS, attention_mask=VISIBLE.astype(int)
  )
  assert_visible_agree(states, expected.hidden_states)


def test_robertas_states_agree(tmp_path):
  config = transformers.RobertaConfig(**BERT, type_vocab_size=1)
  network = randomized(transformers.RobertaForMaskedLM(config))
  network.save_pretrained(tmp_path)
  encoder = bert.read(tmp_path)
  assert encoder.sizes['positions'] == 12 and not encoder.sizes['pools']
  states, _ = our_bert(encoder)
  # It counts positions by what is no padding, so there has to be some.
  expected = theirs(
    network,
    input_ids=np.where(VISIBLE, TOKENS, 1),
    attention_mask=VISIBLE.astype(int),
  )
  assert_visible_agree(states, expected.hidden_states)


def test_byte_level_ids_are_those_of_transformers(tmp_path):
  settings = tokenizers.TokenizerSettings(
    kind='bpe', vocab_size=600, path='', added=()
  )
  trained = tokenizers.train(settings, AWKWARD * 5)
  trained.save(tmp_path / 'trained')
  inner = transformers.PreTrainedTokenizerFast(
    tokenizer_file=str(tmp_path / 'trained' / 'tokenizer.json')
  )
  # GPT-2's own pair of files, which has one special token.
  inner.backend_tokenizer.model.save(str(tmp_path))
  vocabulary_file = tmp_path / 'vocab.json'
  words = vocabulary_file.read_text('utf-8').replace('<eos>', '<|endoftext|>')
  vocabulary_file.write_text(words, 'utf-8')
  other = transformers.GPT2Tokenizer.from_pretrained(tmp_path)
  ours = tokenizers.load(tmp_path)
  for text, ids in zip(AWKWARD, ours.encode(AWKWARD), strict=True):
    assert ids == other(text)['input_ids'], text
    assert ours.decode(ids) == text
