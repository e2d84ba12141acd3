"""Which labels are kept, and how often labelled texts are met."""

import numpy as np
import pytest

from lvdecode import errors
from lvdecode.text import sources
from lvdecode.text import supervision

COUNT = 200
TEXTS = sources.Texts(
  texts=[f'text {row // 2}' for row in range(COUNT)],
  labels=['good' if row % 3 else 'bad' for row in range(COUNT)],
  factors={},
)


def rows(texts):
  return set(np.flatnonzero(supervision.known(texts)).tolist())


@pytest.mark.parametrize('seed', [0, 1])
def test_smaller_shares_are_parts_of_larger_ones(seed):
  found = [
    rows(supervision.kept(TEXTS, share, seed)) for share in (0.05, 0.2, 0.6, 1)
  ]
  assert list(map(len, found)) == [10, 40, 120, COUNT]
  assert found[0] < found[1] < found[2] < found[3]


def test_what_is_kept_is_as_it_was_and_depends_on_the_seed():
  some = supervision.kept(TEXTS, 0.2, 0)
  assert {some.labels[row] for row in rows(some)} == {'good', 'bad'}
  assert all(some.labels[row] == TEXTS.labels[row] for row in rows(some))
  assert some.texts == TEXTS.texts
  assert rows(some) != rows(supervision.kept(TEXTS, 0.2, 1))


def test_the_choice_follows_the_texts_not_their_order():
  single = sources.take(TEXTS, np.arange(0, COUNT, 2))  # no text twice
  order = np.random.default_rng(0).permutation(len(single.texts))
  mixed = supervision.kept(sources.take(single, order), 0.3, 0)
  some = supervision.kept(single, 0.3, 0)
  assert {mixed.texts[row] for row in rows(mixed)} == {
    some.texts[row] for row in rows(some)
  }


def test_one_label_is_kept_at_least():
  assert len(rows(supervision.kept(TEXTS, 0.001, 0))) == 1


def test_labelled_texts_alone():
  some = supervision.kept(TEXTS, 0.1, 0)
  alone = supervision.labelled(some)
  assert len(alone.texts) == 20 and all(alone.labels)
  with pytest.raises(errors.UserError, match='no training text has a label'):
    supervision.labelled(TEXTS._replace(labels=[''] * COUNT))


def test_labelled_texts_are_repeated_until_the_share_is_theirs():
  some = supervision.kept(TEXTS, 0.1, 0)  # 20 of 200
  for share in (0.3, 0.5):
    more = supervision.repeated(some, share)
    has = supervision.known(more)
    assert share <= has.mean() < share + 0.05
    counts = np.unique(
      [more.texts[row] for row in np.flatnonzero(has)], return_counts=True
    )[1]
    once = np.unique(
      [some.texts[row] for row in rows(some)], return_counts=True
    )[1]
    assert set((counts / once).tolist()) == {has.sum() / 20}
    assert (~has).sum() == 180


def test_nothing_is_repeated_where_it_is_enough_or_all_there_is():
  assert supervision.repeated(TEXTS, 0.5) == TEXTS
  some = supervision.kept(TEXTS, 0.6, 0)
  assert supervision.repeated(some, 0.5) == some
  assert supervision.repeated(some, 0.0) == some
