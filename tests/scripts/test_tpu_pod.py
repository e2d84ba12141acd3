"""What the script asks of gcloud; no cloud is asked here."""

import os
import subprocess

import house
import pytest

SCRIPT = house.ROOT / 'scripts' / 'tpu_pod.sh'
GIVEN = {
  'TPU_NAME': 'pod',
  'TPU_ZONE': 'zone-a',
  'TPU_TYPE': 'v6e-16',
  'TPU_VERSION': 'image',
  'BUCKET': 'bucket',
  'RUN': 'mine',
  'ARGS': '--config=configs/text_files.py',
}


def run(folder, *arguments, state='READY', **environment):
  """(exit code, calls of gcloud, errors), with a gcloud that only notes."""
  calls = folder / 'calls'
  calls.write_text('')
  for name, text in {
    'gcloud': f'echo "$@" >> {calls}\ncase "$*" in *describe*) echo {state};;'
    ' esac\n',
    'git': '',
  }.items():
    program = folder / name
    program.write_text(f'#!/bin/sh\n{text}')
    program.chmod(0o755)
  done = subprocess.run(
    ['sh', str(SCRIPT), *arguments],
    cwd=folder,
    env={'PATH': f'{folder}:{os.environ["PATH"]}'} | environment,
    capture_output=True,
    text=True,
    check=False,
  )
  return done.returncode, calls.read_text(), done.stderr


def test_a_slice_is_made_and_told_to_train(tmp_path):
  code, calls, _ = run(tmp_path, 'create', **GIVEN)
  assert code == 0
  assert 'tpu-vm create pod --accelerator-type=v6e-16' in calls
  assert '--spot' in calls and '--zone=zone-a' in calls
  _, calls, _ = run(tmp_path, 'create', **GIVEN, TPU_SPOT='no')
  assert '--spot' not in calls
  code, calls, _ = run(tmp_path, 'launch', **GIVEN)
  assert code == 0 and 'ssh pod --worker=all' in calls
  assert 'experiments.run --config=configs/text_files.py' in calls
  assert '--workdir=$HOME/bucket/mine' in calls


@pytest.mark.parametrize('state, made', [('READY', False), ('PREEMPTED', True)])
def test_what_was_preempted_is_made_again(tmp_path, state, made):
  code, calls, errors = run(tmp_path, 'resume', state=state, **GIVEN)
  assert code == 0, errors
  assert ('tpu-vm delete pod' in calls) == made
  assert ('tpu-vm create pod' in calls) == made
  assert ('scp' in calls) == made
  assert 'experiments.run' in calls


def test_no_second_run_is_started_beside_one(tmp_path):
  def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n{text}\n')
    path.chmod(0o755)

  bin_, home = tmp_path / 'bin', tmp_path / 'home'
  # A worker that is this machine, with a bucket that is mounted already.
  program(
    bin_ / 'gcloud',
    f'cd {home}\nfor word; do case "$word" in --command=*)\n'
    f'HOME={home} exec sh -c "${{word#*=}}";; esac; done',
  )
  program(bin_ / 'mountpoint', 'true')
  held = home / 'held'
  program(
    home / 'lvdecode' / '.venv' / 'bin' / 'python',
    f'echo run >> {home}/started; cat {held}',
  )
  os.mkfifo(held)  # the run goes on until somebody writes here

  def launch():
    return subprocess.run(
      ['sh', str(SCRIPT), 'launch'],
      env={'PATH': f'{bin_}:{os.environ["PATH"]}'} | GIVEN,
      capture_output=True,
      text=True,
      check=False,
      timeout=60,
    )

  assert launch().returncode == 0
  with held.open('w'):  # opens when the run reads
    second = launch()
    assert second.returncode == 2
    assert second.stderr.startswith('error: a run is going on here')
  assert (home / 'started').read_text() == 'run\n'


def test_results_are_fetched_without_the_slice(tmp_path):
  _, calls, _ = run(tmp_path, 'fetch', BUCKET='bucket', RUN='mine')
  assert calls == 'storage rsync --recursive gs://bucket/mine runs/mine\n'


def test_what_is_missing_is_named(tmp_path):
  code, calls, error = run(tmp_path, 'create', TPU_ZONE='zone-a')
  assert (code, calls) == (2, '')
  assert error == 'error: TPU_TYPE is not set: export TPU_TYPE=...\n'
  code, _, error = run(tmp_path, 'destroy', **GIVEN)
  assert code == 2 and 'give one of create' in error
