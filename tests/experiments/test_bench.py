"""The command's report has all fields; no number of it is tested."""

import importlib.util
import json

import house
import pytest

PEER = all(map(importlib.util.find_spec, ('torch', 'transformers')))


@pytest.mark.slow
@pytest.mark.long
def test_the_command_reports_training_and_sampling(tmp_path):
  path, chart = tmp_path / 'bench.json', tmp_path / 'bench.png'
  said = house.python(
    house.ROOT,
    '-m',
    'experiments.bench',
    'all',
    '--rounds=1',
    '--steps=1',
    '--noscaling',
    '--notorch_compile',
    f'--json={path}',
    f'--chart={chart}',
  )
  assert ('no peer: PyTorch and transformers are not' in said) != PEER
  report = json.loads(path.read_text())
  sections = {section['kind']: section for section in report['sections']}
  assert set(sections) == {
    'train',
    'sample',
    'evaluate',
    'vocabulary',
    'startup',
  }
  assert {'date', 'processor', 'cores', 'device', 'versions'} <= set(
    report['machine']
  )
  for section in sections.values():
    assert section['peak_bytes'] > 0
    for row in section['rows']:
      assert row['seconds'] > 0 and row['unit']
  train = {row['name']: row for row in sections['train']['rows']}
  assert {'ours', 'encoder + plain decoder', 'plain decoder'} <= set(train)
  assert train['ours']['count'] == 8 * 15  # texts x targets
  assert train['ours']['flops'] > train['encoder + plain decoder']['flops']
  assert train['plain decoder']['compile_seconds'] > 0
  assert train['ours']['program_bytes'] > 0
  names = {ratio['name'] for ratio in sections['train']['ratios']}
  assert 'ours / encoder + plain decoder' in names
  assert ('ours / PyTorch' in names) == PEER
  sampled = {row['name'] for row in sections['sample']['rows']}
  assert {'greedy', 'sample', 'top_p 0.9', 'plain decoder greedy'} <= sampled
  for row in sections['sample']['rows']:
    assert row['share_of'] == 'the measured memory bandwidth'
  assert [row['value'] for row in sections['evaluate']['rows']] == [1, 10]
  assert [ratio['of'] for ratio in sections['vocabulary']['ratios']] == [
    'speed',
    'memory',
  ]
  assert chart.stat().st_size > 10_000
