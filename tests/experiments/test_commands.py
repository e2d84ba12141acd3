"""The commands as a person types them: results, and words on mistakes."""

import json
import shutil
import signal
import subprocess
import sys
import time

import house
import jax
import numpy as np
import pytest

import lvdecode

QUICK = '--config=configs/quickstart.py:quick'
# One layer and one length: what is compiled is most of a command's time.
SMALL = (
  QUICK,
  '--config.model.decoder.layers=1',
  '--config.model.encoder.layers=1',
)
SHORT = (
  *SMALL,
  '--config.pipeline.lengths=(22,)',
  '--config.training.steps=4',
  '--config.training.evaluate_every=2',
  '--config.training.checkpoint_every=2',
  '--config.objective.beta.duration=2 steps',
)


@pytest.fixture(scope='module')
def environment(tmp_path_factory):
  """One device, and the data prepared once for all commands here."""
  data = {'TFDS_DATA_DIR': str(tmp_path_factory.mktemp('tfds'))}
  return house.environment() | data


@pytest.fixture(scope='module')
def start(environment):
  def start(command, *flags):
    return subprocess.Popen(
      [sys.executable, '-m', f'experiments.{command}', *map(str, flags)],
      cwd=house.ROOT,
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )

  return start


@pytest.fixture(scope='module')
def call(environment):
  def call(command, *flags):
    return house.call(
      house.ROOT,
      f'experiments.{command}',
      *map(str, flags),
      given=environment,
    )

  return call


@pytest.fixture(scope='module')
def workdir(call, tmp_path_factory):
  folder = tmp_path_factory.mktemp('commands') / 'run'
  code, out, err = call('run', *SHORT, f'--workdir={folder}')
  assert code == 0, err
  assert str(folder / 'curves.png') in out
  # Four steps learn to use nothing.
  assert err.count('z looks collapsed') == 1
  return folder


def one_line(result, *words):
  """The mistake is named in a line, with exit code 2 and nothing else."""
  code, out, err = result
  assert code == 2, err
  assert err.startswith('error: ') and err.count('\n') == 1, err
  assert not out
  for word in words:
    assert word in err


@pytest.mark.slow
@pytest.mark.parametrize(
  ('flags', 'words'),
  [
    ((QUICK, '--config.model.decoder.layer=3'), ['layer', '"layers"']),
    ((QUICK, '--config.model.decoder.heads=3'), ['heads = 3', 'width = 32']),
  ],
)
def test_a_mistake_in_a_flag_is_one_line(call, flags, words):
  one_line(call('run', *flags, '--workdir=/nowhere'), *words)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('flags', 'words'),
  [
    ((QUICK, '--config.modle.x=3'), ['modle', '"model"']),
    ((QUICK, '--config.pipeline.lengths[0]=5'), ['not a valid index']),
    ((QUICK, '--config.model.decoder.heads=a'), ['heads', "'a'"]),
    ((QUICK, "--config.model.injection.points=('inptu',)"), ["'input'"]),
    (('--config=configs/quickstart.py:fast',), ['fast', 'quick']),
    (('--config=configs/nothing.py',), ['configs/nothing.py']),
    (
      ('--config=configs/nothing.py', '--config.seed=1'),
      ['configs/nothing.py'],
    ),
    ((QUICK, '--config.training.log-every=5'), ['--config.training.log-every']),
    ((QUICK, '--config.model.=5'), ['--config.model.']),
    ((QUICK, '-config.training.1=5'), ['-config.training.1']),
    ((), ['--config is missing']),
    ((QUICK, '--workdir='), ['--workdir is missing']),
    ((QUICK, 'words'), ["'words'"]),
    ((QUICK, '--workdir=gs://b/run'), ['gs://b/run', 'mount the bucket']),
    ((QUICK, '--num_processes=2'), ['--coordinator, --process_id missing']),
    (
      (QUICK, '--coordinator=h:1', '--process_id=2', '--num_processes=2'),
      ['--process_id 2', 'give 0 to 1'],
    ),
    ((QUICK, '--stepz=3'), ['stepz']),
    ((QUICK, '--seed=3'), ["'seed'"]),  # it would be --config.seed
    (('--config=configs/text_files.py',), ['data.path']),
    (
      ('--config=configs/text_files.py', '--config.data.path=/no/such.txt'),
      ['/no/such.txt'],
    ),
  ],
)
def test_more_mistakes_in_flags(call, flags, words):
  one_line(call('run', '--workdir=/nowhere', *flags), *words)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'content', 'words'),
  [
    ('empty.txt', b'', ['empty.txt']),
    ('few.txt', b'one\ntwo\nthree\nfour\n', ['batch_size 16', 'lower it']),
    (
      'latin.txt',
      'ok\ncaf\u00e9\n'.encode('latin-1'),
      ['latin.txt:2', 'UTF-8'],
    ),
    ('rows.tsv', b'good\tfine\nno label here\n', ['rows.tsv:2']),
    ('rows.jsonl', b'{"text": "a"}\n{"text": \n', ['rows.jsonl:2']),
    ('field.jsonl', b'{"body": "a"}\n', ['field.jsonl:1', 'text']),
  ],
)
def test_a_mistake_in_the_data_names_file_and_line(
  call, tmp_path, name, content, words
):
  path = tmp_path / name
  path.write_bytes(content)
  flags = (
    '--config=configs/text_files.py:quick',
    f'--config.data.path={path}',
    f'--workdir={tmp_path}/run',
  )
  one_line(call('run', *flags), *words)
  assert not (tmp_path / 'run' / 'checkpoints').exists()


@pytest.mark.slow
def test_a_dry_run_shows_what_would_run_and_leaves_nothing(call, tmp_path):
  folder = tmp_path / 'run'
  stages = "--config.optimizer.stages=((2, (('.*', 0.5),)),)"
  code, out, _ = call('run', *SHORT, f'--workdir={folder}', '--dry_run', stages)
  assert code == 0
  settings, _ = json.JSONDecoder().raw_decode(out)
  assert settings['training']['steps'] == 4
  assert 'decoder/wte' in out and 'tokens int32[16, 22]' in out
  assert 'from step 2 on optimizer.multipliers: ' in out
  assert not folder.exists()


@pytest.mark.slow
def test_the_figures_are_printed_and_stored(call, workdir):
  flags = (f'--workdir={workdir}', '--split=validation')
  code, out, err = call('evaluate', *flags, '--samples=2')
  assert code == 0, err
  path = workdir / 'evaluation' / 'validation.json'
  first = json.loads(path.read_text())
  figures, origin = first['figures'], first['provenance']
  assert figures['samples'] == origin['samples'] == 2
  assert origin['split'] == 'validation' and origin['step'] in (2, 4)
  assert figures['negative_elbo'] == pytest.approx(
    figures['kl'] + figures['reconstruction_nll']
  )
  assert f'{figures["kl"]:.2f}' in out and 'nats per sequence' in out
  # The same seed again: the same figures, to the last bit.
  assert call('evaluate', *flags, '--samples=2')[0] == 0
  second = json.loads(path.read_text())
  for whole in (first, second):
    for name in ('seconds', 'seconds_per_sample'):
      assert whole['provenance'].pop(name)
  assert first == second
  # Nothing is missing, of this K.
  code, out, err = call('evaluate', *flags, '--samples=2', '--missing')
  assert code == 0 and 'a sample of a text' not in out, err
  assert json.loads(path.read_text()).keys() == first.keys()
  # A section alone leaves the others there; another seed does not.
  assert call('evaluate', *flags, '--sections=information')[0] == 0
  assert set(json.loads(path.read_text())) == set(first)
  assert call('evaluate', *flags, '--sections=use', '--seed=1')[0] == 0
  assert set(json.loads(path.read_text())) == {'provenance', 'use'}


@pytest.mark.slow
def test_a_plain_language_model_has_one_sample_whatever_is_asked(
  call, tmp_path
):
  folder = tmp_path / 'lm'
  points = '--config.model.injection.points=()'
  assert call('run', *SHORT, points, f'--workdir={folder}')[0] == 0
  flags = (f'--workdir={folder}', '--texts=40', '--samples=3', '--missing')
  for again in (False, True):
    code, _, err = call('evaluate', *flags)
    assert code == 0, err
    assert ('encoding' in err) != again
    path = folder / 'evaluation' / 'test.json'
    written = json.loads(path.read_text())
    assert set(written) > {'figures', 'likelihood', 'information', 'use'}
    assert written['provenance']['samples'] == 1


@pytest.mark.slow
def test_a_report_measures_what_is_missing_and_nothing_twice(call, workdir):
  flags = (f'--workdir={workdir}', '--texts=40')
  stored = workdir / 'evaluation' / 'test.json'
  page = workdir / 'report' / 'index.html'
  assert (
    call('evaluate', *flags, '--samples=2', '--sections=likelihood')[0] == 0
  )
  before = json.loads(stored.read_text())
  code, out, err = call('evaluate', *flags, '--report', '--sections=text')
  assert code == 0, err
  assert str(page) in out
  after = json.loads(stored.read_text())
  # Of another K than the default, but measured it was; the headline is new.
  assert after['likelihood'] == before['likelihood']
  assert {'figures', 'information', 'use', 'text'} < set(after)
  assert 'codes' not in after
  taken = dict(after['provenance']['seconds'])
  html = page.read_text(encoding='utf-8')
  assert f'{after["figures"]["kl"]:.2f}' in html and 'BLEU-4' in html
  # Side by side, elsewhere: nothing is left to measure.
  elsewhere = workdir / 'two.html'
  two = (f'--workdir={workdir}', f'--out={elsewhere}', '--sections=text')
  code, _, err = call('evaluate', *flags, *two, '--report')
  assert code == 0, err
  assert elsewhere.read_text(encoding='utf-8').count('<h1>') == 2
  again = json.loads(stored.read_text())['provenance']['seconds']
  assert {**again, 'one_sample': 0} == {**taken, 'one_sample': 0}
  code, _, err = call(
    'evaluate', *flags, '--report', '--sections=use', '--samples=3'
  )
  assert json.loads(stored.read_text())['likelihood']['samples'] == 3, err


@pytest.mark.slow
def test_texts_are_written_as_json_and_repeat_with_the_seed(call, workdir):
  flags = (f'--workdir={workdir}', '--num=3', '--format=json')
  code, out, err = call('sample', *flags, '--mode=prior', '--seed=1')
  assert code == 0, err
  assert len([json.loads(line)['sample'] for line in out.splitlines()]) == 3
  assert call('sample', *flags, '--mode=prior', '--seed=1')[1] == out
  assert call('sample', *flags, '--mode=prior', '--seed=2')[1] != out


@pytest.mark.slow
def test_texts_may_come_from_flags_and_files(call, workdir, tmp_path):
  path = tmp_path / 'texts.txt'
  path.write_text('the soup was good .\n\nthe soup was bad .\n')
  flags = (f'--workdir={workdir}', '--format=json')
  _, out, _ = call('sample', *flags, '--mode=reconstruct', f'--input={path}')
  texts = [json.loads(line)['text'] for line in out.splitlines()]
  assert texts == ['the soup was good .', 'the soup was bad .']
  _, out, _ = call(
    'sample',
    *flags,
    '--mode=interpolate',
    '--num=5',
    *(f'--text={text}' for text in texts),
  )
  assert len(out.splitlines()) == 1 + 5


@pytest.mark.slow
@pytest.mark.parametrize(
  ('command', 'flags', 'words'),
  [
    ('evaluate', ['--split=dev'], ["'dev'", 'validation']),
    ('evaluate', ['--samples=0'], ['samples = 0']),
    ('evaluate', ['--sections='], ['--sections is empty']),
    ('evaluate', ['--out=page.html'], ['page.html', '--report']),
    ('evaluate', ['--workdir=two'], ['2 times', 'one run']),
    ('evaluate', ['--sections=use,info'], ["'info'", 'information']),
    ('evaluate', ['--step=3'], ['step 3', '2, 4']),
    ('sample', ['--mode=prio'], ["'prior'"]),
    ('sample', ['--temperature=0'], ['temperature = 0', 'greedy']),
    ('sample', ['--top_p=2'], ['top_p = 2']),
    ('sample', ['--mode=interpolate', '--text=a'], ['exactly 2']),
    ('sample', ['--mode=reconstruct', '--text=zzz'], ["'zzz'", 'vocabulary']),
    ('sample', ['--mode=reconstruct', '--input=/no.txt'], ['/no.txt']),
  ],
)
def test_mistakes_with_a_trained_model(call, workdir, command, flags, words):
  one_line(call(command, f'--workdir={workdir}', *flags), *words)


@pytest.mark.slow
def test_a_folder_that_is_no_run_has_no_figures(call, workdir, tmp_path):
  nothing = tmp_path / 'nothing'
  nothing.mkdir()
  one_line(call('evaluate', f'--workdir={nothing}'), 'settings.json')
  untrained = tmp_path / 'untrained'
  shutil.copytree(workdir, untrained)
  shutil.rmtree(untrained / 'checkpoints')
  one_line(call('evaluate', f'--workdir={untrained}'), 'no checkpoint')


@pytest.mark.slow
def test_a_checkpoint_of_another_model_is_not_evaluated(
  call, workdir, tmp_path
):
  other = tmp_path / 'other'
  shutil.copytree(workdir, other)
  settings = json.loads((other / 'settings.json').read_text())
  settings['model']['latent_size'] += 1
  (other / 'settings.json').write_text(json.dumps(settings))
  one_line(
    call('evaluate', f'--workdir={other}'), 'float32[8, 32]', 'float32[9, 32]'
  )


@pytest.mark.slow
def test_figures_that_could_not_be_written_are_not_measured(
  call, workdir, tmp_path
):
  full = tmp_path / 'full'
  shutil.copytree(workdir, full)
  shutil.rmtree(full / 'evaluation', ignore_errors=True)
  (full / 'evaluation').write_text('in the way')
  one_line(call('evaluate', f'--workdir={full}'), 'evaluation', 'written')


@pytest.mark.slow
def test_a_mistake_leaves_the_figures_that_are_stored(call, workdir, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(workdir, copy)
  flags = (f'--workdir={copy}', '--samples=2')
  code, _, err = call('evaluate', *flags, '--texts=9', '--sections=likelihood')
  assert code == 0, err
  before = (copy / 'evaluation' / 'test.json').read_text()
  code, _, err = call('evaluate', *flags, '--texts=2', '--sections=codes')
  assert code == 2 and 'error: the split has 2 texts' in err, err
  assert (copy / 'evaluation' / 'test.json').read_text() == before


# An evaluation under which the code is changed, and whose machine gives up.
BREAKS_DOWN = """
from experiments import command, evaluate
from lvdecode.evaluation import measures
from lvdecode.training import hosts

def information(asked, measure=measures.SECTIONS['information'].measure):
  hosts.code = lambda: {'code.source': 'of another day'}
  return measure(asked)

def use(asked):
  raise MemoryError('no room')

for measure in (information, use):
  section = measures.SECTIONS[measure.__name__]
  measures.SECTIONS[measure.__name__] = section._replace(measure=measure)
command.run(evaluate.main)
"""


@pytest.mark.slow
def test_what_was_measured_before_a_breakdown_is_stored(workdir, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(workdir, copy)
  shutil.rmtree(copy / 'evaluation', ignore_errors=True)
  flags = (f'--workdir={copy}', '--samples=2', '--texts=40')
  done = house.run(house.ROOT, '-c', BREAKS_DOWN, *flags)
  assert done.returncode == 1 and 'no room' in done.stderr, done.stderr
  written = json.loads((copy / 'evaluation' / 'test.json').read_text())
  assert set(written) == {'provenance', 'likelihood', 'information'}
  assert set(written['provenance']['seconds']) > {'likelihood', 'information'}
  assert written['provenance']['samples'] == 2


@pytest.mark.slow
def test_an_exported_folder_serves_as_the_run_did(call, workdir, tmp_path):
  folder = tmp_path / 'deep' / 'exported'
  one_line(call('export', f'--workdir={workdir}'), '--to is missing')
  flags = (f'--workdir={workdir}', '--step=2', f'--to={folder}')
  code, out, err = call('export', *flags)
  assert code == 0, err
  assert str(folder / 'decoder') in out
  one_line(call('run', *SHORT, f'--workdir={folder}'), 'exported model')
  assert [path.name for path in folder.parent.iterdir()] == ['exported']
  measuring = ('--samples=2', '--texts=20', '--sections=likelihood')
  for command, given, result in (
    ('sample', ('--mode=reconstruct', '--num=2'), lambda place, out: out),
    ('evaluate', measuring, lambda place, out: measured(place)),
  ):
    before, after = (
      (call(command, f'--workdir={place}', *given, *step), place)
      for place, step in ((workdir, ('--step=2',)), (folder, ()))
    )
    assert after[0][0] == 0, after[0][2]
    assert result(workdir, before[0][1]) == result(folder, after[0][1])
  one_line(call('evaluate', f'--workdir={folder}', '--report'), 'metrics.jsonl')


def measured(workdir):
  """The figures of the test split, and what they are a function of."""
  found = json.loads((workdir / 'evaluation' / 'test.json').read_text())
  for name in ('seconds', 'seconds_per_sample', 'asked_step', 'latest_step'):
    del found['provenance'][name]
  return found


@pytest.mark.slow
def test_other_settings_are_refused_by_name(call, workdir):
  flags = (*SHORT, f'--workdir={workdir}', '--config.model.latent_size=9')
  one_line(call('run', *flags), 'model.latent_size', '8', '9')


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_bits(call, start, environment, tmp_path):
  """SIGKILL at several moments, the same command again each time."""
  flags = (*SMALL, '--config.training.steps=40')
  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  assert call('run', *flags, f'--workdir={whole}')[0] == 0
  for after in (1, 2, 3):  # checkpoints and lines, in whatever state they are
    process = start('run', *flags, f'--workdir={killed}')
    deadline = time.monotonic() + 120
    log = killed / 'metrics.jsonl'
    while process.poll() is None and time.monotonic() < deadline:
      if log.exists() and len(log.read_text().splitlines()) >= 2 * after:
        break
      time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
  code, _, err = call('run', *flags, f'--workdir={killed}')
  assert code == 0, err
  one, other = (
    lvdecode.load(folder, step=40).params for folder in (whole, killed)
  )
  jax.tree.map(np.testing.assert_array_equal, one, other)
  metrics = [
    [
      {k: v for k, v in json.loads(line).items() if 'second' not in k}
      for line in (folder / 'metrics.jsonl').read_text().splitlines()
    ]
    for folder in (whole, killed)
  ]
  assert metrics[0] == metrics[1]
  followed = {name for line in metrics[0] for name in line}
  assert {'evaluate/shuffled_gap', 'evaluate/knocked_out_memory'} < followed
