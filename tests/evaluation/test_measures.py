"""What a section is asked of."""

import types

import numpy as np
import pytest

from configs import base
from lvdecode import settings as settings_lib
from lvdecode.evaluation import disentanglement
from lvdecode.evaluation import measures
from lvdecode.text import sources


@pytest.mark.parametrize(('name', 'lacks'), [('a.tsv', 0), ('a.txt', 1)])
def test_a_tsv_has_labels_without_a_field(tmp_path, name, lacks):
  (tmp_path / name).write_text('good\ta text\n')
  config = base.get_config('quick')
  config.data.source, config.data.path = 'files', str(tmp_path / name)
  settings = settings_lib.from_dict(config.to_dict())
  assert (measures.lack('probing', settings, 'test') is not None) == lacks


def test_a_label_that_is_a_factor_is_no_factor_more(monkeypatch):
  """Two factors that are the same cannot be told apart by any code."""
  tense, number = ['past', 'now'] * 4, ['one'] * 4 + ['many'] * 4
  data = sources.Texts(
    ['a'] * 8, list(tense), {'tense': tense, 'number': number}
  )
  split = types.SimpleNamespace(seed=0)
  asked = measures.Asked(None, split, data, 1, lambda texts: None)
  monkeypatch.setattr(
    measures.Asked, 'means', lambda self, texts: np.zeros((len(texts), 2))
  )

  def measure(mean, factors, seed):
    raise LookupError(*factors)

  monkeypatch.setattr(disentanglement, 'measure', measure)
  with pytest.raises(LookupError) as seen:
    measures.SECTIONS['disentanglement'].measure(asked)
  assert set(seen.value.args) == {'tense', 'number'}
