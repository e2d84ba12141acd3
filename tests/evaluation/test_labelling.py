"""A classifier's figures, of every text of a split once."""

import dataclasses

import jax
import labelled as tiny_labelled
import numpy as np
import pytest
import truth

from lvdecode import errors
from lvdecode.evaluation import labelling
from lvdecode.evaluation import split as split_lib

EVEN = np.full(3, 1 / 3)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Split(split_lib.Split):
  """Its batches are given: the tiny one, in two parts, the last filled up."""

  def batches(self):
    whole = tiny_labelled.batch(self.corpus.label)
    for rows in ([0, 1], [2, 2]):
      chosen = np.array(rows)
      part = jax.tree.map(lambda leaf, chosen=chosen: leaf[chosen], whole)
      if rows[0] == rows[1]:  # a filler
        part = part._replace(weights=part.weights.at[1].set(0.0))
        rows = [2, -1]
      yield part, np.array(rows)


def ask(label=(2, -1, 0), **changes):
  return _Split(
    task=tiny_labelled.task(**changes),
    params=tiny_labelled.params(),
    corpus=truth.texts(3)._replace(label=np.array(label)),
    batch_size=2,
    lengths=(7,),
    seed=0,
  )


def by_hand(split):
  keys = split.keys(np.arange(3), split_lib.SAMPLE)
  found = split.task.evaluate(split.params, tiny_labelled.batch(), keys)
  return np.asarray(found['log_q']), np.asarray(found['negative_bound'])


@pytest.mark.slow
def test_every_text_with_a_label_counts_once():
  split, told = ask(), []
  found = labelling.measure(split, np.array([0.2, 0.1, 0.7]), told.append)
  log_q, _ = by_hand(split)
  right = log_q.argmax(axis=1)[[0, 2]] == [2, 0]
  assert (found.texts, found.samples, sum(told)) == (2, 0, 3)
  assert found.accuracy == right.mean()
  assert found.majority == 0.5  # 'good', the commonest in training
  assert found.nats == pytest.approx(-(log_q[0, 2] + log_q[2, 0]) / 2)
  assert [each.name for each in found.labels] == list(tiny_labelled.LABELS)
  assert [each.texts for each in found.labels] == [1, 0, 1]


@pytest.mark.slow
def test_the_bound_is_of_all_texts():
  split = ask()
  followed = labelling.validation_figures(split)
  judged = labelling.measure(split, EVEN)
  _, bound = by_hand(split)
  assert followed['negative_elbo'] == pytest.approx(bound.mean(), rel=1e-5)
  assert followed['error'] == 1 - judged.accuracy
  assert followed['macro_f1'] == judged.macro_f1
  assert followed['classifier_nll'] == pytest.approx(judged.nats)


def test_a_classifier_on_its_own_bounds_nothing():
  whole = labelling.validation_figures(ask())
  alone = labelling.validation_figures(ask(generative=0.0))
  del whole['negative_elbo']
  assert alone == pytest.approx(whole)


def test_a_split_without_labels_is_refused():
  with pytest.raises(errors.UserError, match='none of the 3 texts'):
    labelling.measure(ask((-1, -1, -1)), EVEN)
