"""The notebook runs top to bottom, wherever it is opened, data or no data."""

import json
import os
import shutil

import house
import pytest

NOTEBOOK = house.ROOT / 'experiments' / 'inspect.ipynb'
PICTURES = ('curves', 'information', 'map')


def cells():
  return json.loads(NOTEBOOK.read_text())['cells']


def test_nothing_that_was_run_is_stored():
  for cell in cells():
    assert not cell.get('outputs')
    assert cell.get('execution_count') is None
  names = [cell['id'] for cell in cells()]
  assert len(set(names)) == len(names)
  # Names, not the random hexadecimal of an editor: they stay as they are.
  assert all(name.replace('_', '').isalpha() for name in names)
  assert NOTEBOOK.stat().st_size < 20_000


@pytest.fixture(name='workdir', params=['data', 'no_data'])
def _workdir(request, quickstart, tmp_path):
  """The quick run; or nothing but its model, the data being elsewhere."""
  run = quickstart / house.QUICKSTART
  if request.param == 'data':
    return run
  copy = tmp_path / 'model'
  shutil.copytree(run, copy, ignore=shutil.ignore_patterns('data'))
  tree = json.loads((copy / 'settings.json').read_text())
  tree['data'] |= {'source': 'files', 'path': 'not_here.txt'}
  (copy / 'settings.json').write_text(json.dumps(tree))
  return copy


@pytest.mark.slow
def test_the_notebook_runs_top_to_bottom(workdir):
  nbformat = pytest.importorskip('nbformat')
  nbclient = pytest.importorskip('nbclient')
  alone = workdir.name == 'model'
  # From the repository root in one case, from experiments/ in the other.
  place = house.ROOT / 'experiments' if alone else house.ROOT
  notebook = nbformat.read(NOTEBOOK, as_version=4)
  client = nbclient.NotebookClient(
    notebook,
    timeout=300,
    kernel_name='python3',
    resources={'metadata': {'path': str(place)}},
  )
  client.execute(
    env=house.environment()
    | {
      # As seen from the repository root, wherever the kernel starts.
      'WORKDIR': os.path.relpath(workdir, house.ROOT),
      'PYTHONPATH': str(house.ROOT),
    }
  )
  outputs = {cell.id: cell.get('outputs', []) for cell in notebook.cells}
  for name, parts in outputs.items():
    assert not [part for part in parts if part.output_type == 'error'], name
  for name in PICTURES:
    assert any('image/png' in part.get('data', {}) for part in outputs[name])
  for name in ('load', 'settings', 'reconstruction', 'interpolation', 'nll'):
    assert outputs[name], name
  assert 'importance-weighted NLL' in json.dumps(outputs['information'])
  assert 'total' in json.dumps(outputs['parameters'])
  assert ('stand in' in json.dumps(outputs['texts'])) == alone
