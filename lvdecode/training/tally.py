"""Figures of many steps, read from the device late and never lost."""

from typing import Any

from lvdecode import errors
from lvdecode.training import metrics as metrics_lib


class Tally:
  """Sums of the steps since the last line, and how many were skipped.

  It is part of a checkpoint: a run resumed between two lines writes the same
  next line as one that was never killed.
  """

  def __init__(self, max_skipped: int):
    self._max_skipped = max_skipped
    self._unread: list[dict[str, metrics_lib.Mean]] = []
    self._sums: dict[str, metrics_lib.Mean] = {}
    self._skipped = 0

  def add(self, metrics: dict[str, metrics_lib.Mean]) -> None:
    """Notes a step's metrics without waiting for the device."""
    self._unread.append(metrics)

  def read(self) -> None:
    """Waits for the device and adds what was noted, in order.

    Raises:
      UserError: too many steps in a row were skipped.
    """
    for metrics in metrics_lib.on_host_all(self._unread):
      self._sums = metrics_lib.merge(self._sums, metrics)
      bad = metrics['skipped'].total > 0
      self._skipped = self._skipped + 1 if bad else 0
      if self._skipped >= self._max_skipped:
        raise errors.UserError(
          f'loss or gradient was not finite in {self._skipped} steps in a row '
          '(training.max_skipped): try a lower optimizer.learning_rate, a '
          'longer optimizer.warmup_steps or a smaller optimizer.clip_norm'
        )
    self._unread = []

  def take(self) -> dict[str, float]:
    """The means of what was read, the loss first; starts anew."""
    means = metrics_lib.values(self._sums)
    if means:
      # A number of steps, where all else is a mean.
      means['skipped'] = float(self._sums['skipped'].total)
    self._sums = {}
    return dict(sorted(means.items(), key=lambda item: item[0] != 'loss'))

  def get_state(self) -> dict[str, Any]:
    """What was read, as JSON; floats survive it exactly."""
    sums = {name: list(mean) for name, mean in self._sums.items()}
    return {'sums': sums, 'skipped': self._skipped}

  def set_state(self, state: dict[str, Any]) -> None:
    self._sums = {k: metrics_lib.Mean(*v) for k, v in state['sums'].items()}
    self._skipped = state['skipped']
