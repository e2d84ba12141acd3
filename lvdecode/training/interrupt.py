"""Signals that ask a run to stop, turned into a flag it looks at."""

import logging
import signal
import threading

from jax.experimental import multihost_utils

from lvdecode.training import hosts


class Interrupt:
  """Remembers SIGTERM or the first SIGINT; a second SIGINT aborts.

  Only the main thread can hear signals: elsewhere this does nothing. Of many
  processes JAX hears SIGTERM, whichever gets it, and has all stop after the
  same step.
  """

  def __init__(self):
    self._requested = False
    self._before = {}

  def __enter__(self):
    numbers = (signal.SIGTERM, signal.SIGINT)
    if hosts.count() > 1:
      numbers = (signal.SIGINT,)
    if threading.current_thread() is threading.main_thread():
      for number in numbers:
        self._before[number] = signal.signal(number, self._note)
    return self

  def before(self, step: int) -> bool:
    """Whether to stop before this step; asked for one step after the other."""
    if hosts.count() > 1:
      return multihost_utils.reached_preemption_sync_point(step)
    return self._requested

  def __exit__(self, kind, error, trace):
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _note(self, number, frame):
    self._requested = True
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hosts.count() > 1:
      signal.raise_signal(signal.SIGTERM)
    logging.warning(
      '%s: stopping after this step; interrupt again to abort',
      signal.Signals(number).name,
    )
