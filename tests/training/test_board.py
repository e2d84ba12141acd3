"""Training loads no other framework that happens to be installed."""

import subprocess
import sys

import house
import pytest

_CHECK = """
import sys
from experiments import run
assert not {'tensorflow', 'torch'} & set(sys.modules)
import torch
assert torch.who == 'stand-in'
"""


@pytest.mark.slow
def test_no_other_framework_is_loaded_and_each_still_can_be(tmp_path):
  for name in ('tensorflow', 'torch'):
    (tmp_path / f'{name}.py').write_text('who = "stand-in"')
  path = {'PYTHONPATH': f'{tmp_path}:{house.ROOT}'}
  subprocess.run(
    [sys.executable, '-c', _CHECK],
    cwd=tmp_path,
    env=house.environment() | path,
    check=True,
  )
