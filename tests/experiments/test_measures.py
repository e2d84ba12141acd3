"""What a section is asked of."""

import types

import numpy as np

from experiments import measures
from lvdecode.evaluation import disentanglement
from lvdecode.text import sources


def test_a_label_that_is_a_factor_is_no_factor_more(monkeypatch):
  """Two factors that are the same cannot be told apart by any code."""
  tense, number = ['past', 'now'] * 4, ['one'] * 4 + ['many'] * 4
  data = sources.Texts(
    ['a'] * 8, list(tense), {'tense': tense, 'number': number}
  )
  asked = types.SimpleNamespace(
    data=data,
    means=lambda texts: np.zeros((len(texts), 2)),
    split=types.SimpleNamespace(seed=0),
  )
  seen = {}
  monkeypatch.setattr(
    disentanglement,
    'measure',
    lambda mean, factors, seed: seen.update(factors),
  )
  measures.SECTIONS['disentanglement'].measure(asked)
  assert set(seen) == {'tense', 'number'}
