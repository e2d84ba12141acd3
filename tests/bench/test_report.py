"""A report has its units, and a ratio is of what ran in the same round."""

import jax
from jax.experimental.compilation_cache import compilation_cache
import pytest

from configs import base
from lvdecode import settings as settings_lib
from lvdecode.bench import machine
from lvdecode.bench import report
from lvdecode.bench import suite
from lvdecode.bench import timing

SECTION = {
  'kind': 'train',
  'size': 'quick',
  'shape': '1 + 2 layers',
  'limits': {'matrix product, FLOP': 2e9},
  'rows': [
    {
      'name': 'ours',
      'seconds': 0.5,
      'rounds': [0.5, 0.6],
      'unit': 'step',
      'per_second': 240.0,
      'counted': 'target tokens',
      'share': 0.25,
      'share_of': 'the measured matrix product (MFU)',
      'compile_seconds': 3.0,
      'program_bytes': 2**20,
    }
  ],
  'ratios': [
    {
      'name': 'ours / PyTorch',
      'of': 'speed',
      'value': 1.5,
      'rounds': [1.4, 1.6],
      'target': 1.0,
    }
  ],
  'notes': ['torch.compile failed here: RuntimeError'],
  'peak_bytes': 2**30,
}
SCALING = SECTION | {
  'kind': 'scaling',
  'size': 'texts',
  'ratios': [],
  'rows': [
    SECTION['rows'][0] | {'value': 8, 'seconds': 0.5},
    SECTION['rows'][0] | {'value': 16, 'seconds': 1.1},
  ],
}
REPORT = {'machine': machine.describe(), 'sections': [SECTION, SCALING]}


def test_lines_name_hardware_units_and_targets():
  lines = report.head(REPORT['machine']) + report.section_lines(SECTION)
  text = '\n'.join(lines)
  for said in (
    REPORT['machine']['date'],
    'cores, load',
    f'jax {jax.__version__}',
    'matrix product, FLOP  2.0 G/s',
    '0.500 s a step',
    '240 target tokens/s',
    '25.0 % of the measured matrix product (MFU)',
    'compiled in 3.0 s',
    '1 MiB',
    'ours / PyTorch  1.50 x the speed, median of 2 rounds (target 1)',
    'torch.compile failed here',
  ):
    assert said in text, said


def test_less_memory_is_better_and_no_bar_of_speed():
  ratio = {
    'name': 'in chunks / the logits themselves',
    'of': 'memory',
    'value': 0.125,
    'rounds': [0.125],
    'target': 0.2,
  }
  section = SECTION | {'ratios': [ratio]}
  assert '0.12 x the memory (target at most 0.2)' in '\n'.join(
    report.section_lines(section)
  )
  changed = REPORT | {'sections': [section]}
  assert not report.chart(changed).axes[0].get_yticklabels()


def test_the_chart_shows_ratios_and_growth():
  bars, growth = report.chart(REPORT).axes
  assert [t.get_text() for t in bars.get_yticklabels()] == [
    'train quick: ours / PyTorch'
  ]
  (line,) = growth.lines
  assert line.get_xdata().tolist() == [1, 2]
  assert line.get_ydata().tolist() == [1, 2.2]


def test_the_chart_drops_no_growth():
  scalings = [SCALING | {'size': f'{number}, texts'} for number in range(12)]
  _, growth = report.chart(REPORT | {'sections': [SECTION, *scalings]}).axes
  looks = {(line.get_color(), line.get_linestyle()) for line in growth.lines}
  assert len(looks) == 12


def test_a_ratio_is_the_median_of_the_rounds_own():
  seconds = {'ours': [1.0, 2.0, 10.0], 'theirs': [2.0, 6.0, 10.0]}
  found = timing.ratio(seconds, 'ours', 'theirs')
  assert found['rounds'] == [2.0, 3.0, 1.0]
  assert found['value'] == 2.0


def test_subjects_take_turns_after_two_units_to_warm_up():
  calls: list[tuple[str, int]] = []
  subjects = {
    name: timing.Subject(lambda units, name=name: calls.append((name, units)))
    for name in 'ab'
  }
  limits = {'limit': lambda: float(len(calls))}
  seconds, best = timing.alternately(subjects, limits, rounds=2, units=3)
  warm = 2 * [('a', 1), ('b', 1)]
  assert calls == warm + [('a', 3), ('b', 3), ('b', 3), ('a', 3)]
  assert {name: len(each) for name, each in seconds.items()} == {'a': 2, 'b': 2}
  assert best == {'limit': 8.0}


def test_compiling_is_timed_without_the_cache():
  before = jax.config.jax_enable_compilation_cache
  seen = []

  class Function:
    def lower(self, x):
      seen.append(jax.config.jax_enable_compilation_cache)
      return jax.jit(lambda x: x + 1).lower(x)

  program, seconds, size = timing.compiled(Function(), 1.0)
  assert seen == [False]
  assert jax.config.jax_enable_compilation_cache == before
  assert program(1.0) == 2.0
  assert seconds > 0
  assert size >= 8


@pytest.mark.parametrize('measure', [machine.bandwidth])
def test_limits_are_rates(measure, monkeypatch):
  monkeypatch.setitem(machine._COPIED, 'cpu', 2**12)
  assert measure()() > 0


def test_what_is_timed_is_the_compiler_and_no_cache(tmp_path):
  events = []
  jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
  before = jax.config.jax_compilation_cache_dir
  try:
    jax.config.update('jax_compilation_cache_dir', str(tmp_path))
    jax.jit(lambda x: x + 1)(1.0)  # so that JAX has asked whether there is one
    events.clear()
    timing.compiled(jax.jit(lambda x: x * 3), 1.0)
    asked = [
      name for name in events if 'cache_hits' in name or 'misses' in name
    ]
    assert not asked
  finally:
    jax.config.update('jax_compilation_cache_dir', before)
    compilation_cache.reset_cache()
    jax.monitoring.clear_event_listeners()


@pytest.mark.parametrize('axis', suite._AXES)
@pytest.mark.parametrize('length', [16, 64, 1024])
def test_every_size_may_be_multiplied(axis, length):
  c = base.get_config()
  c.pipeline.lengths = (length,)
  c.model.decoder.positions = max(length, c.model.decoder.positions)
  settings = settings_lib.from_dict(c.to_dict())
  values = [suite._AXES[axis](settings, factor)[1] for factor in (1, 2, 4)]
  assert values == [values[0], 2 * values[0], 4 * values[0]]
