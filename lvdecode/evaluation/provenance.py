"""Where figures come from: enough to make them again."""

from collections.abc import Mapping
import dataclasses
import hashlib
import importlib.metadata
import json
import math
import pathlib
from typing import Any

import jax

from lvdecode import errors
from lvdecode.training import hosts
from lvdecode.training import workdir as workdir_lib

# Of the model, and of what counts words, compares texts and learns from codes.
_LIBRARIES = (
  'lvdecode',
  'jax',
  'jaxlib',
  'flax',
  'numpy',
  'tokenizers',
  'sacrebleu',
  'rapidfuzz',
  'scikit-learn',
)
_OF_SAMPLES = ('figures', 'likelihood')  # sections that depend on K


@dataclasses.dataclass(frozen=True, kw_only=True)
class Provenance:
  """What the figures of an evaluation are a function of; they have no other.

  Attributes:
    split: 'train', 'validation' or 'test'.
    texts: N, of the split.
    asked_texts: how many of the split were asked for; 0 for all.
    step: of the checkpoint.
    settings_hash: SHA-256 of what settings.json says, whatever its layout.
    data_fingerprint: of the data that the run was trained on; the same data
      are evaluated.
    batch_size: texts a batch; it moves figures in their last digits only.
    samples: K of the importance-weighted bound; None where it was not measured.
    seed: of everything that was drawn.
    code: a digest of lvdecode's source.
    libraries: their versions; null for one that is not installed as a package.
    device: the kind of the devices.
    devices: how many.
  """

  split: str
  texts: int
  asked_texts: int
  step: int
  settings_hash: str
  data_fingerprint: str | None
  batch_size: int
  samples: int | None
  seed: int
  code: str
  libraries: dict[str, str | None]
  device: str
  devices: int


def make(
  workdir: pathlib.Path,
  *,
  split: str,
  texts: int,
  asked_texts: int,
  step: int,
  batch_size: int,
  samples: int | None,
  seed: int,
) -> Provenance:
  """Of an evaluation in this process of the run in `workdir`."""
  settings = workdir_lib.read_settings(workdir)
  devices = jax.local_devices()
  return Provenance(
    split=split,
    texts=texts,
    asked_texts=asked_texts,
    step=step,
    settings_hash=settings_hash(settings),
    data_fingerprint=settings.get('data_fingerprint'),
    batch_size=batch_size,
    samples=samples,
    seed=seed,
    code=hosts.code()['code.source'],
    libraries=libraries(),
    device=devices[0].device_kind,
    devices=len(devices),
  )


def settings_hash(settings: Mapping[str, Any]) -> str:
  """SHA-256 of what settings.json says, whatever its layout."""
  canonical = json.dumps(settings, sort_keys=True, separators=(',', ':'))
  return hashlib.sha256(canonical.encode()).hexdigest()


def libraries() -> dict[str, str | None]:
  """The versions that figures can depend on."""
  return {name: _version(name) for name in _LIBRARIES}


def folder(workdir: pathlib.Path) -> pathlib.Path:
  """WORKDIR/evaluation, which can be written to."""
  path = workdir / 'evaluation'
  probe = path / '.probe'
  try:
    path.mkdir(exist_ok=True)
    probe.touch()
    probe.unlink(missing_ok=True)  # by another evaluation of the run
  except OSError as error:
    raise errors.UserError(
      f'{path} cannot be written to: {error.strerror}'
    ) from error
  return path


def read(path: pathlib.Path) -> dict[str, Any]:
  """What `write` has put under 'provenance'."""
  return json.loads(path.read_text())['provenance']


def measured(
  path: pathlib.Path, provenance: Provenance, samples: int | None
) -> dict[str, dict[str, Any]]:
  """The sections that the file has under this provenance, whatever its own K.

  Args:
    path: WORKDIR/evaluation/SPLIT.json; none are found where it does not exist.
    provenance: under which sections would be measured now.
    samples: K that is asked for; None for any.
  """
  found, before, _ = _measured_before(path, dataclasses.asdict(provenance))
  if samples in (None, before):
    return found
  return {name: found[name] for name in found if name not in _OF_SAMPLES}


def write(
  path: pathlib.Path,
  provenance: Provenance,
  sections: dict[str, dict[str, Any]],
  seconds: dict[str, float],
  asked_step: int | None = None,
  latest_step: int | None = None,
) -> None:
  """Writes {'provenance': …} and an object for each section.

  Sections that the file has already stay, if they were measured under the
  very same provenance; under any other they go. With another K, what depends on
  K goes.

  Args:
    path: WORKDIR/evaluation/SPLIT.json.
    provenance: of these sections.
    sections: by name; what is not finite becomes null.
    seconds: the duration by section, the one thing that a rerun changes.
    asked_step: the checkpoint that was asked for; None for the run's best or
      latest. No figure depends on who chose it.
    latest_step: of the checkpoints that there were, of which the best may be an
      earlier one; None for an exported model.
  """
  origin = dataclasses.asdict(provenance)
  kept, before, seconds_before = _measured_before(path, origin)
  seconds = seconds_before | seconds
  if origin['samples'] is None:
    origin['samples'] = before
  elif origin['samples'] != before:
    kept = {name: kept[name] for name in kept if name not in _OF_SAMPLES}
  beside: dict[str, Any] = {
    'asked_step': asked_step,
    'latest_step': latest_step,
    'seconds': seconds,
  }
  if 'likelihood' in seconds:
    draws = provenance.texts * origin['samples']
    beside['seconds_per_sample'] = seconds['likelihood'] / draws
  whole = {'provenance': origin | beside} | kept | sections
  text = json.dumps(_finite(whole), indent=2, allow_nan=False)
  workdir_lib.write_text(path, text + '\n')


def _measured_before(
  path: pathlib.Path, origin: dict[str, Any]
) -> tuple[dict[str, Any], int | None, dict[str, float]]:
  """The sections in the file, their K and seconds; none of another origin."""
  try:
    sections = json.loads(path.read_text())
    before = sections.pop('provenance')
    seconds = before.pop('seconds')
    for name in ('seconds_per_sample', 'asked_step', 'latest_step'):
      before.pop(name, None)
    samples = before['samples']
  except (OSError, ValueError, KeyError, AttributeError, TypeError):
    return {}, None, {}  # no such file, or one of another kind
  if before | {'samples': None} != origin | {'samples': None}:
    return {}, None, {}
  return sections, samples, seconds


def _version(package: str) -> str | None:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None


def _finite(value: Any) -> Any:
  """The same with null for numbers that JSON does not know."""
  if isinstance(value, dict):
    return {key: _finite(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [_finite(item) for item in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
