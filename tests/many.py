"""Starts many processes on this machine, as one host each."""

import socket
import subprocess
import sys

import house


def start(count, command, devices):
  """Processes of `command(coordinator, process_id)`, with so many devices."""
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    coordinator = f'127.0.0.1:{probe.getsockname()[1]}'
  environment = house.environment()
  environment |= {
    'JAX_PLATFORMS': 'cpu',
    'NPROC': '32',
    'PYTHONPATH': str(house.ROOT),
    'XLA_FLAGS': f'{environment["XLA_FLAGS"]} '
    f'--xla_force_host_platform_device_count={devices}',
  }
  return [
    subprocess.Popen(
      [sys.executable, *command(coordinator, process)],
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for process in range(count)
  ]


def finish(processes, seconds=240):
  """(exit code, output, errors) of each; they end within `seconds`."""
  try:
    found = [process.communicate(timeout=seconds) for process in processes]
  finally:
    for process in processes:
      process.kill()
  return [
    (process.returncode, *texts)
    for process, texts in zip(processes, found, strict=True)
  ]
