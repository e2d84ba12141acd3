"""The model card of an exported model: what it is, its figures, its use."""

from collections.abc import Mapping
import json
import pathlib
from typing import Any, NamedTuple

import jax
import jinja2

from lvdecode import errors
from lvdecode import settings as settings_lib
from lvdecode import trained
from lvdecode.evaluation import figures
from lvdecode.evaluation import provenance
from lvdecode.evaluation import stored
from lvdecode.report import blocks
from lvdecode.report import style
from lvdecode.training import workdir as workdir_lib


class Measured(NamedTuple):
  """The figures of a split, row by row: name, value, unit."""

  split: str
  command: str
  rows: list[list[str]]


def render(name: str, model: trained.Model, origin: Mapping[str, Any]) -> str:
  """The card, in Markdown.

  Args:
    name: of the model.
    model: what is exported, opened from its workdir.
    origin: where it comes from, line by line.
  """
  environment = jinja2.Environment(
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  environment.filters['cell'] = _cell
  template = (style.TEMPLATE / 'card.md').read_text(encoding='utf-8')
  sizes, told = model.config.model.decoder, model.config.model.injection
  points = model.task.points
  routes = model.config.model.condition.routes
  others = [f'`{point}`' for point in points if point != 'memory' or routes]
  return environment.from_string(template).render(
    name=name,
    about=_about(model),
    settings=_settings(model),
    figures=measured(model),
    points=points,
    others=' and '.join(others),
    bends='fuse' in points,
    one_other=len(others) == 1,
    conditional=model.config.model.conditional,
    routes=' and '.join(f'`{route}`' for route in routes),
    one_route=len(routes) == 1,
    latent_size=model.latent_size,
    layers=sizes.layers,
    heads=sizes.heads,
    head_width=sizes.width // sizes.heads,
    slots=told.memory_slots,
    bias=_bias(model),
    specials=model.tokenizer.specials,
    origin=[(key, str(value)) for key, value in origin.items()],
  )


def measured(model: trained.Model) -> Measured | None:
  """The figures that were stored last of this model at this very step."""
  settings = workdir_lib.read_settings(model.workdir)
  wanted = (model.step, provenance.settings_hash(settings))
  files = (model.workdir / 'evaluation').glob('*.json')
  for path in sorted(files, key=_modified, reverse=True):
    try:
      found = json.loads(path.read_text())
      origin = found['provenance']
      report = stored.rebuild(figures.Report, found['figures'])
      of = (origin['step'], origin['settings_hash'])
    except (OSError, ValueError, KeyError, TypeError, errors.UserError):
      continue  # not all sections, or of another version
    if of == wanted:
      return Measured(
        split=origin['split'],
        command=_command(origin, report.samples),
        rows=[list(row) for row in blocks.rows(figures.to_table(report, ''))],
      )
  return None


def _command(origin: Mapping[str, Any], samples: int) -> str:
  """What measures the same; flags that have their default are left out."""
  command = (
    f'python -m experiments.evaluate --split={origin["split"]} '
    f'--samples={samples} --step={origin["step"]}'
  )
  for flag, value in (
    ('texts', origin.get('asked_texts')),  # which older files lack
    ('seed', origin['seed']),
  ):
    command += f' --{flag}={value}' if value else ''
  return command


def _modified(path: pathlib.Path) -> float:
  return path.stat().st_mtime


def _about(model) -> str:
  given = model.config.model.conditional
  if not model.latent_size and given:
    return 'A GPT-2, trained as a language model of texts given a condition.'
  if not model.latent_size:
    return 'A GPT-2, trained as a plain language model.'
  if model.config.model.prior.kind == 'learned':
    prior = 'p(z | condition)'
  else:
    prior = 'N(0, I)'
  return (
    f'A GPT-2 that is told a latent z ~ {prior} of {model.latent_size} '
    f'dimensions at {" and ".join(model.task.points)}, with an encoder '
    f'q(z | text{", condition" if given else ""}): a variational auto-encoder '
    'of texts.'
  )


def _bias(model) -> str:
  """Why past_key_values alone are not what the memory tells."""
  told = model.config.model.injection
  reasons = []
  if told.memory_score is not None:
    reasons.append('the slots have a learned score')
  if told.memory_layers and len(told.memory_layers) < (
    model.config.model.decoder.layers
  ):
    reasons.append('some layers have no memory')
  return ', '.join(reasons)


def _settings(model) -> list[tuple[str, str]]:
  """The lines of the settings that tell models apart."""
  settings: settings_lib.Settings = model.config
  sizes, encoder = settings.model.decoder, settings.model.encoder
  count = sum(leaf.size for leaf in jax.tree.leaves(model.params))
  rows = [
    ('parameters', f'{count:,}'),
    (
      'decoder',
      f'GPT-2: {sizes.layers} layers, {sizes.heads} heads, width {sizes.width}, '
      f'{sizes.positions} positions',
    ),
    (
      'tokenizer',
      f'{settings.tokenizer.kind}, {model.tokenizer.vocab_size:,} tokens',
    ),
    ('lengths', f'at most {settings.pipeline.lengths[-1]} tokens a text'),
    ('data', settings.data.source),
  ]
  if model.latent_size:
    own = f': {encoder.layers} layers, {encoder.heads} heads, '
    own += f'width {encoder.width}'
    blocks_of = '' if encoder.kind == 'decoder' else own
    rows[2:2] = [
      ('z enters at', ', '.join(model.task.points)),
      ('encoder', f'{encoder.kind}{blocks_of}; pooling {encoder.pooling}'),
    ]
    beta = settings.objective.beta
    rows += [
      ('beta', f'{beta.kind}, {beta.end:g} in the end'),
      ('free bits', settings.objective.free_bits.kind),
      ('rate control', settings.objective.rate.kind),
    ]
  return rows


def _cell(value: Any) -> str:
  """Text that stays within its cell of a Markdown table."""
  return ' '.join(str(value).split()).replace('|', '\\|')
