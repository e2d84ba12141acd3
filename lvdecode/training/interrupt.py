"""Signals that ask a run to stop, turned into a flag it looks at."""

import logging
import signal
import threading


class Interrupt:
  """Remembers SIGTERM or the first SIGINT; a second SIGINT aborts.

  Only the main thread can hear signals: elsewhere this does nothing.
  """

  def __init__(self):
    self.requested = False
    self._before = {}

  def __enter__(self):
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGTERM, signal.SIGINT):
        self._before[number] = signal.signal(number, self._note)
    return self

  def __exit__(self, kind, error, trace):
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _note(self, number, frame):
    self.requested = True
    signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.warning(
      '%s: stopping after this step; interrupt again to abort',
      signal.Signals(number).name,
    )
