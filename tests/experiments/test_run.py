"""A whole run in this process, on one device and on eight."""

import jax
import numpy as np
import pytest

from configs import base
from experiments import run
import lvdecode
from lvdecode import settings


@pytest.mark.slow
def test_one_device_and_eight_end_in_the_same_parameters(tmp_path):
  assert jax.local_device_count() == 8
  params = {}
  for kind in ('jit', 'pmap'):
    config = base.get_config('quick')
    config.training.steps = 6
    config.training.evaluate_every = 6
    config.training.checkpoint_every = 6
    config.objective.beta.duration = '6 steps'
    config.objective.word_dropout = 0.2
    config.training.parallel = kind
    run.train(settings.from_dict(config.to_dict()), tmp_path / kind)
    params[kind] = lvdecode.load(tmp_path / kind).params
  start = jax.tree.leaves(params['jit'])
  # Six Adam steps move a parameter by up to 6e-3; rounding in sums over
  # devices by a thousandth of that.
  for one, many in zip(start, jax.tree.leaves(params['pmap']), strict=True):
    np.testing.assert_allclose(one, many, atol=1e-5)
