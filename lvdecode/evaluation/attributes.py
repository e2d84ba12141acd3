"""Attribute vectors: moving latents from one class to another and decoding."""

from collections.abc import Sequence
import dataclasses

import numpy as np
from rich import table as rich_table

from lvdecode.evaluation import codes
from lvdecode.evaluation import probing
from lvdecode.evaluation import quality


@dataclasses.dataclass(frozen=True, kw_only=True)
class Move:
  """Texts of all other values, moved to one value of an attribute.

  Attributes:
    name: the attribute.
    target: the value that they are moved to.
    texts: how many; each counted once in every figure.
    scale: of the vector from the mean of their own class to the target's.
    before: share of their reconstructions, without the vector, that the
      classifier assigns to the target.
    after: share of the moved ones.
    kept: ROUGE-L F1 of the moved ones with the reconstructions, in 0..1: a
      vector that is too long reaches the target and says something else.
    example: a text, its reconstruction, and what that became.
  """

  name: str
  target: str
  texts: int
  scale: float
  before: float
  after: float
  kept: float
  example: tuple[str, str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attributes:
  """Attribute vectors, judged by a classifier on words.

  Attributes:
    train_texts: that the classes' means and the classifier come from.
    accuracy: of the classifier on the real test texts, by attribute: no share
      below is worth more.
    moves: by attribute, target and scale.
  """

  train_texts: int
  accuracy: dict[str, float]
  moves: tuple[Move, ...]


def measure(
  train: probing.Labelled,
  test: probing.Labelled,
  *,
  decode: codes.Decode,
  scales: Sequence[float],
  texts: int,
) -> Attributes:
  """Adds the difference of two classes' means to a text's, and decodes it.

  Args:
    train: texts for the classes' means and the classifier.
    test: texts to move.
    decode: greedily.
    scales: lengths of the vector, in differences of the means.
    texts: most texts that are moved.

  Raises:
    UserError: an attribute that has one value only in the training texts.
  """
  source = test.texts[:texts]
  mean = test.mean[: len(source)]
  plain = decode(mean)
  accuracy, moves = {}, []
  for name, values in train.attributes.items():
    known = probing.values_of(train, name)
    classifier = probing.word_classifier(train.texts, values)
    accuracy[name] = float(classifier.score(test.texts, test.attributes[name]))
    kinds = np.asarray(values)
    centre = {kind: train.mean[kinds == kind].mean(axis=0) for kind in known}
    own = test.attributes[name][: len(source)]
    for target in known:
      rows = [row for row, kind in enumerate(own) if kind in centre]
      rows = [row for row in rows if own[row] != target]
      if not rows:
        continue
      away = np.stack([centre[target] - centre[own[row]] for row in rows])
      before = [plain[row] for row in rows]
      for scale in scales:
        after = decode(mean[rows] + scale * away)
        pairs = zip(before, after, strict=True)
        moves.append(
          Move(
            name=name,
            target=target,
            texts=len(rows),
            scale=float(scale),
            before=_share(classifier, before, target),
            after=_share(classifier, after, target),
            kept=float(np.mean([quality.rouge_l(*pair) for pair in pairs])),
            example=(source[rows[0]], before[0], after[0]),
          )
        )
  return Attributes(
    train_texts=len(train.texts), accuracy=accuracy, moves=tuple(moves)
  )


def to_table(found: Attributes, title: str) -> rich_table.Table:
  """Shares on target, before and after, and how much else was kept."""
  table = rich_table.Table(
    title=title,
    caption=f'classes and classifier from {found.train_texts:,} training '
    'texts; shares of the texts moved; kept: ROUGE-L F1 (0..1) of the text '
    'before and after',
  )
  for name in ('attribute', 'target'):
    table.add_column(name)
  for name in ('scale', 'texts', 'before', 'after', 'kept', 'classifier'):
    table.add_column(name, justify='right')
  for move in found.moves:
    table.add_row(
      move.name,
      move.target,
      f'{move.scale:g}',
      f'{move.texts:,}',
      f'{100 * move.before:.1f} %',
      f'{100 * move.after:.1f} %',
      f'{move.kept:.3f}',
      f'{100 * found.accuracy[move.name]:.1f} %',
    )
  return table


def _share(classifier, texts: Sequence[str], target: str) -> float:
  return float(np.mean(classifier.predict(list(texts)) == target))
