"""Signals that ask a run to stop, turned into a flag it looks at."""

import logging
import signal
import threading

from lvdecode.training import hosts

# Processes ask each other every so many steps, as all wait for the devices then.
_EVERY = 10


class Interrupt:
  """Remembers SIGTERM or the first SIGINT; a second SIGINT aborts.

  Only the main thread can hear signals: elsewhere this does nothing. Of many
  processes all stop before the same step, whichever was asked.
  """

  def __init__(self):
    self._requested = False
    self._before = {}

  def __enter__(self):
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGTERM, signal.SIGINT):
        self._before[number] = signal.signal(number, self._note)
    return self

  def before(self, step: int) -> bool:
    """Whether to stop before this step; all processes ask of all steps."""
    if hosts.count() == 1:
      return self._requested
    return step % _EVERY == 0 and hosts.anyone(self._requested)

  def __exit__(self, kind, error, trace):
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _note(self, number, frame):
    self._requested = True
    signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.warning(
      '%s: stopping soon; interrupt again to abort',
      signal.Signals(number).name,
    )
