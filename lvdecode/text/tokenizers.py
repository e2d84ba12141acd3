"""Strings to token ids and back: trained here, or given as a file."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
import dataclasses
import json
import os
import pathlib
from typing import Any

import jax
from jaxtyping import Integer
import numpy as np
import tokenizers as hf
from tokenizers import decoders
from tokenizers import models
from tokenizers import pre_tokenizers
from tokenizers import trainers

from lvdecode import errors

_KINDS = ('bpe', 'word', 'char', 'file')
_PAD, _BOS, _EOS, _UNK = '<pad>', '<bos>', '<eos>', '<unk>'
_UNKNOWN_CHARACTER = '\N{REPLACEMENT CHARACTER}'  # one, as what it stands for
# What given files call them, best first; the first that exists is taken.
_NAMES = {
  'pad': (_PAD, '[PAD]', '<|pad|>', '<|endoftext|>'),
  'bos': (
    _BOS,
    '<s>',
    '[CLS]',
    '<|begin_of_text|>',
    '<|bos|>',
    '<|endoftext|>',
  ),
  'eos': (_EOS, '</s>', '[SEP]', '<|end_of_text|>', '<|eos|>', '<|endoftext|>'),
}
_MARKERS = 'markers'
_FILE, _SPECIALS = 'tokenizer.json', 'special_tokens.json'
# 256 bytes and three specials; four specials and a word or character.
_LEAST = {'bpe': 259, 'word': 5, 'char': 5, 'file': 0}
_CHUNK = 50_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenizerSettings:
  kind: str  # 'bpe' (byte-level), 'word', 'char' or 'file'
  vocab_size: int  # most tokens, specials counted; not used by 'file'
  # For 'file': a tokenizer.json, or a folder with it or with GPT-2's pair
  # vocab.json and merges.txt. Special tokens of unusual names are given beside
  # it, in special_tokens.json: {"pad": ..., "bos": ..., "eos": ...}.
  path: str
  # For 'file': special tokens that get ids behind its own, say ('<|pad|>',),
  # where padding and the end of a text would else be the same token.
  added: tuple[str, ...]

  def __post_init__(self):
    if self.kind not in _KINDS:
      raise errors.UserError(
        f"tokenizer.kind is '{self.kind}': give one of " + ', '.join(_KINDS)
      )
    if self.kind == 'file' and not self.path:
      raise errors.UserError(
        "tokenizer.path is empty: tokenizer.kind 'file' needs a "
        f'{_FILE} or a folder'
      )
    if self.added and self.kind != 'file':
      raise errors.UserError(
        f"tokenizer.added is {self.added}: kind '{self.kind}' has its special "
        "tokens, only 'file' can be given more"
      )
    if not all(self.added) or len(set(self.added)) < len(self.added):
      raise errors.UserError(
        f'tokenizer.added is {self.added}: name each token once, and none empty'
      )
    least = _LEAST[self.kind]
    if self.vocab_size < least:
      raise errors.UserError(
        f"tokenizer.vocab_size is {self.vocab_size}: kind '{self.kind}' "
        f'needs at least {least}'
      )


class Tokenizer:
  """Token ids without specials; `pad`, `bos`, `eos` are ids the caller adds.

  `unk` is None where every text can be spelled (byte-level). No text, whatever
  it says, is encoded to `pad`, `bos` or `eos`, or to one of the `markers`:
  special tokens that stand for parts of a condition, by how they are spelled.
  """

  def __init__(
    self,
    inner: hf.Tokenizer,
    *,
    pad: str,
    bos: str,
    eos: str,
    markers: Sequence[str] = (),
  ):
    self._inner = inner
    inner.no_truncation()
    inner.no_padding()
    # Not saved in tokenizer.json, hence set wherever one is opened.
    inner.encode_special_tokens = True
    self._names = {'pad': pad, 'bos': bos, 'eos': eos}
    ids: Any = map(inner.token_to_id, (pad, bos, eos, *markers))
    self.pad: int
    self.bos: int
    self.eos: int
    self.pad, self.bos, self.eos, *places = ids
    self.unk = _unknown(inner)
    self.markers: dict[str, int] = dict(zip(markers, places, strict=True))
    self._specials = frozenset((self.pad, self.bos, self.eos))
    self._never = self._specials | frozenset(self.markers.values())

  @property
  def vocab_size(self) -> int:
    # Ids may have gaps in a given file: an embedding needs the largest.
    return max(self._inner.get_vocab().values()) + 1

  @property
  def specials(self) -> dict[str, str]:
    """How `pad`, `bos`, `eos` and, where there is one, `unk` are spelled."""
    if self.unk is None:
      return dict(self._names)
    spelled = self._inner.id_to_token(self.unk)
    assert spelled is not None
    return self._names | {'unk': spelled}

  def encode(self, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text, without specials."""
    encoded = []
    # In chunks: the library's encodings are much larger than their ids.
    for start in range(0, len(texts), _CHUNK):
      chunk = list(texts[start : start + _CHUNK])
      for text, encoding in zip(
        chunk,
        self._encodings(chunk),
        strict=True,
      ):
        ids = encoding.ids
        if not self._never.isdisjoint(ids):
          ids = self._without_specials(ids, text)
        encoded.append(ids)
    return encoded

  def _encodings(self, texts: list[str]) -> list[hf.Encoding]:
    try:
      return self._inner.encode_batch_fast(texts, add_special_tokens=False)
    except TypeError:
      for text in texts:
        _check_characters(text)
      raise

  def _without_specials(self, ids: list[int], text: str) -> list[int]:
    """A word that reads like a special token is a word nobody knows."""
    if self.unk is None:
      raise errors.UserError(
        f'the text {text[:80]!r} spells a special token of the tokenizer: '
        'remove it from the data'
      )
    return [self.unk if token in self._never else token for token in ids]

  def decode(
    self, ids: Sequence[int] | Integer[np.ndarray | jax.Array, ' tokens']
  ) -> str:
    """The text up to the first EOS; `pad` and `bos` are skipped."""
    kept: list[int] = []
    for token in map(int, ids):
      # BOS first: GPT-2's one special token is both, and opens a sequence.
      if token == self.eos and not (token == self.bos and not kept):
        break
      if token not in self._specials:
        kept.append(token)
    return self._inner.decode(kept, skip_special_tokens=False)

  def cut(self, text: str, count: int) -> str:
    """As much of a text as its first `count` tokens stand for."""
    encoding = self._inner.encode(text, add_special_tokens=False)
    return text[: encoding.offsets[count - 1][1]]

  def save(self, folder: str | os.PathLike[str]) -> None:
    """Writes tokenizer.json and the names of the special tokens."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _FILE).write_text(self._inner.to_str(pretty=True), 'utf-8')
    names: dict[str, Any] = dict(self._names)
    if self.markers:
      names[_MARKERS] = list(self.markers)
    text = json.dumps(names, indent=2, ensure_ascii=False) + '\n'
    (folder / _SPECIALS).write_text(text, 'utf-8')


def _unknown(inner: hf.Tokenizer) -> int | None:
  """The id of what is not in the vocabulary; None where nothing is."""
  name = getattr(inner.model, 'unk_token', None)
  if name is not None:
    return inner.token_to_id(name)
  # A Unigram model has its place alone, which is not among its attributes.
  return json.loads(inner.to_str())['model'].get('unk_id')


def _check_characters(text: str) -> None:
  try:
    text.encode()
  except UnicodeEncodeError as error:
    raise errors.UserError(
      f'the text {text[:80]!r} is not UTF-8 at character {error.start + 1}: '
      'type it in UTF-8, or remove the half of a surrogate pair'
    ) from None


def load(
  folder: str | os.PathLike[str],
  added: tuple[str, ...] = (),
  markers: Sequence[str] = (),
) -> Tokenizer:
  """Opens what `save` wrote, or a given tokenizer.json or GPT-2 pair.

  Special tokens in `added` get ids behind the vocabulary; no other id moves.
  The `markers` are tokens it must have then, beside those it was saved with.
  """
  path = errors.path(folder)
  file = path / _FILE if path.is_dir() else path
  try:
    if file.is_file():
      inner = hf.Tokenizer.from_file(os.fspath(file))
    elif (path / 'vocab.json').is_file() and (path / 'merges.txt').is_file():
      inner = _gpt2(path)
    else:
      raise errors.UserError(
        f"no tokenizer at '{path}': give a {_FILE}, or a folder with it or "
        'with vocab.json and merges.txt'
      )
  except errors.UserError:
    raise
  except Exception as error:  # the library raises bare Exception
    raise errors.UserError(
      f"the tokenizer at '{path}' cannot be read ({error}): give a file that "
      'the tokenizers library wrote'
    ) from error
  _add(inner, added, path)
  specials = file.parent / _SPECIALS
  saved: tuple[str, ...] = ()
  if specials.is_file():
    names, saved = _read_specials(specials, inner)
    fill = next((name for name in _NAMES['pad'] if name in added), None)
    if fill and names['pad'] == names['eos']:  # a GPT-2's, which has no other
      names['pad'] = fill
  else:
    names = _find_specials(inner, path)
  _check_markers(inner, markers, path)
  return Tokenizer(
    inner, **names, markers=tuple(dict.fromkeys([*saved, *markers]))
  )


def _check_markers(
  inner: hf.Tokenizer, markers: Sequence[str], path: pathlib.Path
) -> None:
  lacking = [m for m in markers if inner.token_to_id(m) is None]
  if lacking:
    raise errors.UserError(
      f"the tokenizer at '{path}' has no token for what is given with the "
      f'texts: set tokenizer.added to {tuple(lacking)}, beside what it has'
    )


def _add(
  inner: hf.Tokenizer, added: tuple[str, ...], path: pathlib.Path
) -> None:
  known = inner.get_vocab()
  for token in added:
    if token in known:
      raise errors.UserError(
        f"tokenizer.added has {token!r}, which the tokenizer at '{path}' has "
        'already: leave it out'
      )
  first = max(known.values(), default=-1) + 1
  inner.add_special_tokens(list(added))
  # The library counts tokens: where ids have gaps it gives a used one.
  if [inner.token_to_id(token) for token in added] != list(
    range(first, first + len(added))
  ):
    raise errors.UserError(
      f"the tokenizer at '{path}' has gaps in its ids: leave tokenizer.added "
      'empty, nothing can be appended'
    )


def _gpt2(folder: pathlib.Path) -> hf.Tokenizer:
  model = models.BPE.from_file(
    os.fspath(folder / 'vocab.json'), os.fspath(folder / 'merges.txt')
  )
  return _byte_level(model)


def _byte_level(model: models.BPE) -> hf.Tokenizer:
  inner = hf.Tokenizer(model)
  inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  inner.decoder = decoders.ByteLevel()
  return inner


def _read_specials(
  file: pathlib.Path, inner: hf.Tokenizer
) -> tuple[dict[str, str], tuple[str, ...]]:
  """The names of pad, bos and eos, and the markers."""
  try:
    names = json.loads(file.read_text('utf-8'))
    markers = tuple(names.get(_MARKERS, ()))
    unknown = [
      role for role in _NAMES if inner.token_to_id(names[role]) is None
    ]
    unknown += [m for m in markers if inner.token_to_id(m) is None]
  except (ValueError, KeyError, TypeError, AttributeError):
    unknown = list(_NAMES)
  if unknown:
    raise errors.UserError(
      f'{file} names no token of the vocabulary for {", ".join(unknown)}: '
      'give an object with pad, bos and eos'
    )
  return {role: names[role] for role in _NAMES}, markers


def _find_specials(inner: hf.Tokenizer, path: pathlib.Path) -> dict[str, str]:
  found = {}
  for role, names in _NAMES.items():
    present = [name for name in names if inner.token_to_id(name) is not None]
    if not present:
      raise errors.UserError(
        f"the tokenizer at '{path}' has no {role} token of a known name "
        f'({", ".join(names)}): name it in {_SPECIALS} beside the file'
      )
    found[role] = present[0]
  return found


def train(
  settings: TokenizerSettings,
  texts: Sequence[str],
  markers: Sequence[str] = (),
) -> Tokenizer:
  """Learns a vocabulary from the training split; kind 'file' is opened.

  The last ids are those of the markers, which count towards the size.
  """
  if settings.kind == 'file':
    return load(settings.path, settings.added, markers)
  size = settings.vocab_size - len(markers)
  if size < _LEAST[settings.kind]:
    raise errors.UserError(
      f'tokenizer.vocab_size is {settings.vocab_size}, and {len(markers)} '
      'tokens are needed for what is given with the texts: raise it by these'
    )
  if settings.kind == 'bpe':
    inner = _train_bpe(size, texts)
  elif settings.kind == 'word':
    words = (word for text in texts for word in text.split())
    vocabulary = _most_frequent(words, size, markers)
    inner = hf.Tokenizer(models.WordLevel(vocabulary, unk_token=_UNK))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
  else:
    characters = (character for text in texts for character in text)
    vocabulary = _most_frequent(characters, size, unk=_UNKNOWN_CHARACTER)
    # A BPE without merges spells its input, faster than splitting it first.
    inner = hf.Tokenizer(
      models.BPE(vocabulary, [], unk_token=_UNKNOWN_CHARACTER)
    )
    inner.decoder = decoders.Fuse()
  inner.add_special_tokens(list(markers))
  return Tokenizer(inner, pad=_PAD, bos=_BOS, eos=_EOS, markers=markers)


def _train_bpe(vocab_size: int, texts: Sequence[str]) -> hf.Tokenizer:
  inner = _byte_level(models.BPE())
  trainer = trainers.BpeTrainer(
    vocab_size=vocab_size,
    special_tokens=[_PAD, _BOS, _EOS],
    initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    show_progress=False,
  )
  inner.train_from_iterator(_chunks(texts), trainer)
  return inner


def _chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
  for start in range(0, len(texts), _CHUNK):
    yield texts[start : start + _CHUNK]


def _most_frequent(
  units: Iterable[str],
  vocab_size: int,
  markers: Sequence[str] = (),
  unk: str = _UNK,
) -> dict[str, int]:
  """Specials, then units by falling count; equal counts by spelling.

  A unit that reads like a special token is left out, so that it is unknown;
  Penn Treebank's own `<unk>` thus counts as the unknown word it stands for.
  """
  specials = [_PAD, _BOS, _EOS, unk]
  counts = Counter(units)
  ranked = sorted(
    counts.keys() - {*specials, *markers}, key=lambda u: (-counts[u], u)
  )
  tokens = [*specials, *ranked[: vocab_size - len(specials)]]
  return {token: index for index, token in enumerate(tokens)}
