"""The verdict on z, and the warning during training."""

import logging
import re

import pytest

from configs import base
from lvdecode.evaluation import collapse


@pytest.mark.parametrize(
  ('gap', 'word'),
  [
    (-0.2, 'collapsed'),
    (0.09, 'collapsed'),
    (0.11, 'partly used'),
    (0.99, 'partly used'),
    (1.0, 'used'),
  ],
)
def test_the_verdict_follows_its_thresholds(gap, word):
  assert collapse.verdict(gap) == word


def test_a_collapse_is_named_once_and_again_after_a_recovery(caplog):
  watch = collapse.Watch()
  figures = {'kl': 0.02, 'active_units': 0.0}
  said = []
  for gap in (3.0, 0.01, 0.0, 2.0, 0.05, 0.05):
    watch(figures | {'shuffled_gap': gap})
    said.append(len(caplog.records))
  assert said == [0, 1, 1, 1, 2, 2]
  assert all(r.levelno == logging.WARNING for r in caplog.records)
  assert '\n' not in caplog.text.strip('\n').split('\n')[0]
  watch({'nll': 1.0})  # a plain language model
  assert len(caplog.records) == 2


def test_the_remedies_are_keys_of_the_configs():
  config = base.get_config()
  keys = re.findall(r'objective[.\w]+\w', collapse.REMEDIES)
  assert len(keys) == 3
  for key in keys:
    section = config
    for name in key.split('.'):
      section = section[name]
