"""What a simple classifier can read off the latents: labels and factors."""

from collections.abc import Sequence
import dataclasses
from typing import Any, NamedTuple

from jaxtyping import Float
import numpy as np
from rich import table as rich_table

from lvdecode import errors
from lvdecode.evaluation import codes
from lvdecode.text import sources

_NEIGHBOURS = 10


class Labelled(NamedTuple):
  """Texts, their posterior means, and what is known of them."""

  texts: list[str]
  mean: Float[np.ndarray, 'N Z']
  attributes: dict[str, list[str]]  # name -> value of each text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
  """Accuracy in telling an attribute, on texts that were not learned from.

  Attributes:
    name: the factor, or 'label'.
    values: different values in the training texts.
    majority: share of the test texts with the commonest training value.
    linear: of a logistic regression on the posterior mean.
    nearest: of the 10 nearest training texts' majority, by posterior mean.
    words: of a logistic regression on the counts of the text's words: what
      can be told without a latent.
  """

  name: str
  values: int
  majority: float
  linear: float
  nearest: float
  words: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probing:
  """Probes of every known attribute.

  Attributes:
    train_texts: texts learned from.
    test_texts: texts tested on, none of them learned from.
    probes: one an attribute.
  """

  train_texts: int
  test_texts: int
  probes: tuple[Probe, ...]


def label(
  texts: sources.Texts, encode: codes.Encode, count: int, seed: int
) -> Labelled:
  """At most `count` texts of a split, with their labels or known factors.

  In random order: files are often sorted by label.

  Raises:
    UserError: the data have neither, or the model has no latent.
  """
  if texts.labels is not None and any(texts.labels):
    # A text may be one of unknown label.
    texts = sources.take(texts, np.flatnonzero(np.array(texts.labels) != ''))
  known = dict(texts.factors)
  if texts.labels is not None and any(texts.labels):
    known['label'] = texts.labels
  if not known:
    raise errors.UserError(
      'the data have no labels: name the field that has them in '
      'data.label_field, or give label<TAB>text'
    )
  rows = np.random.default_rng(seed).permutation(len(texts.texts))[:count]
  chosen = [texts.texts[row] for row in rows]
  return Labelled(
    chosen,
    codes.means(encode, chosen),
    {name: [values[row] for row in rows] for name, values in known.items()},
  )


def measure(train: Labelled, test: Labelled) -> Probing:
  """Probes of every attribute; nothing of the test texts is learned from.

  Raises:
    UserError: an attribute that has one value only in the training texts.
  """
  return Probing(
    train_texts=len(train.texts),
    test_texts=len(test.texts),
    probes=tuple(_probe(name, train, test) for name in train.attributes),
  )


def values_of(train: Labelled, name: str) -> list[str]:
  """The different values of an attribute, in order; an error if it has one."""
  values = sorted(set(train.attributes[name]))
  if len(values) < 2:
    raise errors.UserError(
      f'the {name} of all {len(train.texts)} training texts is {values[0]!r}: '
      'give texts that differ in it'
    )
  return values


def word_classifier(texts: Sequence[str], values: Sequence[str]) -> Any:
  """A logistic regression on the counts of words, fitted: scikit-learn's."""
  from sklearn import linear_model
  from sklearn import pipeline
  from sklearn.feature_extraction import text as features

  return pipeline.make_pipeline(
    features.CountVectorizer(token_pattern=r'\S+', lowercase=False),
    linear_model.LogisticRegression(max_iter=1_000),
  ).fit(list(texts), list(values))


def to_table(probing: Probing, title: str) -> rich_table.Table:
  """Accuracies beside the majority's."""
  table = rich_table.Table(
    title=title,
    caption=f'accuracy on {probing.test_texts:,} texts, learned from '
    f'{probing.train_texts:,} others',
  )
  table.add_column('attribute')
  for name in (
    'values',
    'majority',
    'linear on the mean',
    f'{_NEIGHBOURS} nearest means',
    'linear on the words',
  ):
    table.add_column(name, justify='right')
  for probe in probing.probes:
    shares = (probe.majority, probe.linear, probe.nearest, probe.words)
    table.add_row(
      probe.name,
      str(probe.values),
      *(f'{100 * share:.1f} %' for share in shares),
    )
  return table


def _probe(name: str, train: Labelled, test: Labelled) -> Probe:
  from sklearn import linear_model  # a second to import
  from sklearn import neighbors
  from sklearn import pipeline
  from sklearn import preprocessing

  values = values_of(train, name)
  known, wanted = train.attributes[name], test.attributes[name]
  commonest = max(values, key=known.count)
  linear = pipeline.make_pipeline(
    preprocessing.StandardScaler(),
    linear_model.LogisticRegression(max_iter=1_000),
  ).fit(train.mean, known)
  nearest = neighbors.KNeighborsClassifier(
    min(_NEIGHBOURS, len(known)), algorithm='brute'
  ).fit(train.mean, known)
  words = word_classifier(train.texts, known)
  return Probe(
    name=name,
    values=len(values),
    majority=wanted.count(commonest) / len(wanted),
    linear=float(linear.score(test.mean, wanted)),
    nearest=float(nearest.score(test.mean, wanted)),
    words=float(words.score(test.texts, wanted)),
  )
