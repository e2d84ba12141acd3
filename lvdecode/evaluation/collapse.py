"""Whether z has collapsed: a verdict, and a watch over training for it."""

from collections.abc import Mapping
import logging
import math
from typing import Literal

# Nats a sequence that the text's own z saves over another text's.
SILENT = 0.1
USED = 1.0
REMEDIES = (
  "try objective.free_bits (more nats), a slower rise of the KL's weight "
  '(objective.beta.duration) or a target for the KL (objective.rate)'
)
Verdict = Literal['collapsed', 'partly used', 'used', 'no latent']


def verdict(gap: float) -> Verdict:
  """In a word, from the nats that the own z saves over another one."""
  if gap < SILENT:
    return 'collapsed'
  return 'used' if gap >= USED else 'partly used'


class Watch:
  """Warns during training when z looks collapsed, once a collapse."""

  def __init__(self) -> None:
    self._collapsed = False

  def __call__(self, figures: Mapping[str, float]) -> None:
    """Looks at `figures.validation_figures`."""
    gap = figures.get('shuffled_gap', math.inf)
    collapsed = gap < SILENT
    if collapsed and not self._collapsed:
      logging.warning(
        "z looks collapsed: another text's z costs %.2f nats a text (KL %.2f, "
        '%d active units): %s',
        gap,
        figures['kl'],
        figures['active_units'],
        REMEDIES,
      )
    self._collapsed = collapsed
