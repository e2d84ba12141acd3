"""How many of the training texts' labels are kept, and how often they are met."""

from collections.abc import Sequence
import hashlib
import math

from jaxtyping import Bool
import numpy as np

from lvdecode import errors
from lvdecode.text import labels
from lvdecode.text import sources


def check(
  texts: sources.Texts, names: Sequence[str], data: sources.DataSettings
) -> None:
  """Refuses a label that is none of `names`, by its place in the data.

  Without names there is no such run, and labels may be what they are.
  """
  if names and texts.labels is not None:
    with sources.placed(data, texts):
      labels.check(texts.labels, names)


def kept(texts: sources.Texts, share: float, seed: int) -> sources.Texts:
  """The same texts, with so much of their labels; the others become ''.

  Which texts keep theirs is decided by hashes of their words and the seed: one
  that keeps its label at some share keeps it at every larger one, and the order
  of the texts does not matter. At least one keeps it.
  """
  if texts.labels is None or share == 1.0:
    return texts
  given = texts.given or [()] * len(texts.texts)
  keys = [
    hashlib.blake2b('\n'.join((str(seed), *parts, text)).encode()).digest()
    for parts, text in zip(given, texts.texts, strict=True)
  ]
  rows = sorted(
    np.flatnonzero(known(texts)).tolist(), key=lambda row: (keys[row], row)
  )
  chosen = set(rows[: max(1, math.floor(share * len(rows) + 0.5))])
  labels = [
    label if row in chosen else '' for row, label in enumerate(texts.labels)
  ]
  return texts._replace(labels=labels)


def known(texts: sources.Texts) -> Bool[np.ndarray, ' N']:
  """Which texts have a label."""
  if texts.labels is None:
    return np.zeros(len(texts.texts), bool)
  return np.array(texts.labels) != ''


def labelled(texts: sources.Texts) -> sources.Texts:
  """Those that have a label; UserError if none has."""
  rows = np.flatnonzero(known(texts))
  if not len(rows):
    raise errors.UserError(
      'no training text has a label, and a classifier is to learn from them: '
      'fill the column of labels'
    )
  return sources.take(texts, rows)


def repeated(texts: sources.Texts, share: float) -> sources.Texts:
  """Labelled texts as often again until at least `share` of all is theirs.

  Each is repeated as often as the others; without unlabelled texts, or where
  they are enough already, nothing is.
  """
  has = known(texts)
  count, rest = int(has.sum()), int((~has).sum())
  if not share or not rest or not count:
    return texts
  times = math.ceil(share * rest / ((1.0 - share) * count))
  again = np.tile(np.flatnonzero(has), max(0, times - 1))
  return sources.take(texts, np.concatenate([np.arange(len(has)), again]))
