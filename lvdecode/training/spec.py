"""What a run is made of."""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import pathlib
from typing import Any, Protocol, runtime_checkable

from lvdecode.training import optimizer as optimizer_lib
from lvdecode.training import settings as settings_lib
from lvdecode.training import step as step_lib

Evaluate = Callable[[step_lib.Params], Mapping[str, float]]


@runtime_checkable
class Data(Protocol):
  """An endless iterator of host batches that knows where it is.

  A batch is a NamedTuple of NumPy arrays with a field `weights`, 1 for every
  real target token; grain's `DatasetIterator` is such an iterator.
  """

  def __iter__(self) -> Iterator[Any]: ...

  def __next__(self) -> Any: ...

  def get_state(self) -> dict[str, Any]: ...

  def set_state(self, state: dict[str, Any]) -> None: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """All that a run is made of.

  Attributes:
    task: the model and its loss.
    data: moved to the checkpoint's position when resuming.
    evaluate: parameters (their running average where there is one) on one
      device -> figures. They are gone after the next step: keep no reference.
    settings: of the run.
    optimizer_settings: of the optimiser.
    seed: of parameters and noise.
    begin: the initial parameters -> those the run begins with, some of them
      pretrained; None for the initial ones, which need no evaluation then.
    reset_at: the step before which the decoder begins anew; 0 for none.
    workdir: a folder held by `workdir.claim`.
    name: what its lines begin with, among others; '' for a run on its own.
  """

  task: step_lib.Task
  data: Data
  evaluate: Evaluate
  settings: settings_lib.TrainingSettings
  optimizer_settings: optimizer_lib.OptimizerSettings
  seed: int
  begin: Callable[[step_lib.Params], step_lib.Params] | None
  reset_at: int
  workdir: pathlib.Path
  name: str

  @property
  def prefix(self) -> str:
    """What its lines begin with."""
    return f'{self.name}: ' if self.name else ''
