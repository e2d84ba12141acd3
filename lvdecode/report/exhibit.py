"""What a model does with texts, to look at: copies, ways, what it writes."""

from collections.abc import Mapping
import dataclasses
import difflib
from typing import Any, NamedTuple

import numpy as np

from lvdecode import trained
from lvdecode.report import curves
from lvdecode.report import maps
from lvdecode.text import conditions
from lvdecode.text import sources
from lvdecode.text import tokenizers

# Enough to see a shape, few enough to draw and to project in seconds.
MAP_TEXTS = 1000
_COPIES, _WAYS, _STEPS, _SAMPLES = 24, 4, 7, 16
_GIVEN, _EACH = 12, 3  # conditions, and completions of each


class Span(NamedTuple):
  """Words that stand together, and whether the other text has them too."""

  text: str
  kept: bool


class Copy(NamedTuple):
  """A text and its reconstruction from the posterior mean, span by span."""

  original: list[Span]
  copy: list[Span]


class Completed(NamedTuple):
  """What is given, the text of the data, and some that the model wrote."""

  given: str
  text: str
  written: list[str]


class Exhibit(NamedTuple):
  """What a page shows of a model beside its figures.

  Attributes:
    texts: that lie on the map.
    groups: what is known of them: a label for each, under the group's name.
    views: their latents on planes; none for a plain language model.
    copies: reconstructions, greedy.
    ways: from a text to another, both ends as they were written; none where
      texts have conditions.
    samples: each of its own z ~ p(z); none where texts have conditions.
    completions: for the conditions of texts, each of its own z ~ p(z | x).
  """

  texts: list[str]
  groups: dict[str, list[str]]
  views: list[maps.View]
  copies: list[Copy]
  ways: list[list[str]]
  samples: list[str]
  completions: list[Completed]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """What is shown of a run.

  Attributes:
    name: of its folder.
    step: of the checkpoint that was measured.
    split: on which it was measured.
    settings: the tree of settings.json.
    lines: of metrics.jsonl.
    provenance: what the figures are a function of, as it is stored.
    evaluation: sections of figures, as they were measured: 'figures' always.
    exhibit: texts, and where they lie.
  """

  name: str
  step: int
  split: str
  settings: Mapping[str, Any]
  lines: curves.Lines
  provenance: Mapping[str, Any]
  evaluation: Mapping[str, Any]
  exhibit: Exhibit


def make(model: trained.Model, data: sources.Texts, seed: int) -> Exhibit:
  """Everything of an Exhibit, from texts the model was not trained on."""
  data = known(data, model.tokenizer, MAP_TEXTS, seed)
  given = data.given if model.task.model.settings.conditional else None
  samples = model.sample(_SAMPLES, seed=seed) if given is None else []
  completions = _completions(model, data, seed) if given else []
  if not model.latent_size or not data.texts:
    return Exhibit(data.texts, {}, [], [], [], samples, completions)
  originals = data.texts[:_COPIES]
  told = None if given is None else given[:_COPIES]
  copies = model.reconstruct(originals, given=told)
  # Between two conditions there is no third.
  ends = [] if given else data.texts[: 2 * _WAYS]
  return Exhibit(
    texts=data.texts,
    groups=groups(data),
    views=maps.views(np.asarray(model.encode(data.texts, given).mean)),
    copies=[
      compare(text, copy) for text, copy in zip(originals, copies, strict=True)
    ],
    ways=[
      [start, *model.interpolate(start, end, _STEPS), end]
      for start, end in zip(ends[::2], ends[1::2], strict=False)
    ],
    samples=samples,
    completions=completions,
  )


def _completions(
  model: trained.Model, data: sources.Texts, seed: int
) -> list[Completed]:
  assert data.given is not None
  given = data.given[:_GIVEN]
  written = model.complete(given, _EACH, seed=seed)
  return [
    Completed(conditions.readable(parts), text, each)
    for parts, text, each in zip(
      given, data.texts[:_GIVEN], written, strict=True
    )
  ]


def known(
  data: sources.Texts, tokenizer: tokenizers.Tokenizer, limit: int, seed: int
) -> sources.Texts:
  """At most `limit` texts, drawn at random, of which a word is known."""
  unknown = tokenizer.unk
  ids = tokenizer.encode(data.texts)
  rows = [row for row, tokens in enumerate(ids) if set(tokens) - {unknown}]
  # Data are often sorted by label: the first ones would be all of a kind.
  order = np.random.default_rng(seed).permutation(len(rows))[:limit]
  return sources.take(data, np.array(rows, int)[order])


def groups(data: sources.Texts) -> dict[str, list[str]]:
  """The label, the known factors, and the length of every text."""
  words = [len(text.split()) for text in data.texts]
  middle = int(np.median(words)) if words else 0
  length = [
    f'{"up to" if count <= middle else "over"} {middle} words'
    for count in words
  ]
  label = {} if data.labels is None else {'label': data.labels}
  return label | data.factors | {'length': length}


def compare(original: str, copy: str) -> Copy:
  """Tells the words that stand in both, in the same order, from the others."""
  before, after = original.split(), copy.split()
  spans = Copy([], [])
  matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
  for kind, first, last, start, end in matcher.get_opcodes():
    for side, words in zip(
      spans, (before[first:last], after[start:end]), strict=True
    ):
      if words:
        side.append(Span(' '.join(words), kind == 'equal'))
  return spans
