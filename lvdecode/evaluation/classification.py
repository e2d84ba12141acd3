"""Which label a text has, by Bayes' rule through the generative model."""

from collections.abc import Callable, Sequence
import dataclasses

from jaxtyping import Float, Int
import numpy as np
from rich import table as rich_table

from lvdecode import errors
from lvdecode.evaluation import split as split_lib
from lvdecode.text import labels
from lvdecode.text import sources


@dataclasses.dataclass(frozen=True, kw_only=True)
class Label:
  """One label among the texts.

  Attributes:
    name: of the label.
    texts: that have it.
    precision: share of the texts taken for it that have it; 0 if none was.
    recall: share of the texts that have it that were taken for it.
    f1: harmonic mean of both; 0 where both are 0.
  """

  name: str
  texts: int
  precision: float
  recall: float
  f1: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification:
  """argmax over c of log p(y | c) + log p(c), of the texts with a label.

  -log p(y | c) is the importance-weighted bound; p(c) are the shares of the
  training texts.

  Attributes:
    texts: N, of known label.
    samples: K of the bound; 0 for a run's own classifier, whose -log p(c | y)
      needs none.
    accuracy: share of the texts whose label was found.
    error: its standard error over texts, a sentence with all its aspects.
    macro_f1: mean of F1 over the labels that the texts have.
    nats: mean of -log p(c | y) of the true label.
    majority: accuracy of always saying the training texts' most frequent label,
      those whose labels were withheld counted too.
    labels: each of them.
  """

  texts: int
  samples: int
  accuracy: float
  error: float
  macro_f1: float
  nats: float
  majority: float
  labels: tuple[Label, ...]


def measure(
  texts: sources.Texts,
  names: Sequence[str],
  *,
  nll: Callable[[Sequence[str], str], Float[np.ndarray, ' N']],
  shares: Float[np.ndarray, ' C'],
  samples: int,
) -> Classification:
  """Weighs every text of known label under every label.

  Args:
    texts: of the split.
    names: of the labels.
    nll: -log p(y | c) of texts and a label, in nats.
    shares: p(c), in the order of the names.
    samples: K of the bound that `nll` is.

  Raises:
    UserError: no text has one of the labels.
  """
  label = labels.numbers(texts.labels or (), names)
  known = sources.take(texts, np.flatnonzero(label >= 0)).texts
  if not known:
    raise errors.UserError('no text of the split has a label: nothing to find')
  costs = np.stack([nll(known, name) for name in names], axis=1)
  return judge(costs, label[label >= 0], shares, names, samples)


def judge(
  nll: Float[np.ndarray, 'N C'],
  label: Int[np.ndarray, ' N'],
  shares: Float[np.ndarray, ' C'],
  names: Sequence[str],
  samples: int,
  groups: Int[np.ndarray, ' N'] | None = None,
) -> Classification:
  """The figures of -log p(y | c) in nats and the labels that texts have."""
  joint = np.log(shares)[None, :] - nll.astype(np.float64)
  normaliser = np.logaddexp.reduce(joint, axis=1)
  nats = normaliser - joint[np.arange(len(label)), label]
  chosen = joint.argmax(axis=1)
  right = chosen == label
  found = tuple(
    _label(name, label == place, chosen == place)
    for place, name in enumerate(names)
  )
  return Classification(
    texts=len(label),
    samples=samples,
    accuracy=float(right.mean()),
    error=split_lib.standard_error(right.astype(np.float64), groups),
    macro_f1=float(np.mean([each.f1 for each in found if each.texts])),
    nats=float(nats.mean()),
    majority=float((label == shares.argmax()).mean()),
    labels=found,
  )


def to_table(found: Classification, title: str) -> rich_table.Table:
  """A line a label, and all of them together in the caption."""
  table = rich_table.Table(
    title=title,
    caption=(
      f'{found.texts:,} texts: accuracy '
      + split_lib.with_error(100 * found.accuracy, 100 * found.error, '.1f')
      + ' % (the most frequent label: '
      f'{100 * found.majority:.1f} %), macro-F1 {100 * found.macro_f1:.1f} %, '
      f'{found.nats:.3f} nats a label'
      + (f'; by {found.samples} samples.' if found.samples > 1 else '.')
    ),
  )
  for name in ('label', 'texts', 'precision', 'recall', 'F1'):
    table.add_column(name, justify='left' if name == 'label' else 'right')
  for each in found.labels:
    figures = (each.precision, each.recall, each.f1)
    shown = (f'{100 * figure:.1f} %' for figure in figures)
    table.add_row(each.name, f'{each.texts:,}', *shown)
  return table


def _label(name: str, has, taken) -> Label:
  hits = int((has & taken).sum())
  precision = hits / max(1, int(taken.sum()))
  recall = hits / max(1, int(has.sum()))
  return Label(
    name=name,
    texts=int(has.sum()),
    precision=precision,
    recall=recall,
    f1=2 * precision * recall / (precision + recall) if hits else 0.0,
  )
