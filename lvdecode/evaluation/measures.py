"""What can be measured of a trained model, and what each of it takes."""

from collections.abc import Callable, Sequence
import logging
from typing import Any, NamedTuple

import numpy as np
from rich import table as rich_table

from lvdecode import errors
from lvdecode import sampling
from lvdecode import settings as settings_lib
from lvdecode import trained
from lvdecode.evaluation import attributes
from lvdecode.evaluation import classification
from lvdecode.evaluation import codes
from lvdecode.evaluation import completion
from lvdecode.evaluation import disentanglement
from lvdecode.evaluation import information
from lvdecode.evaluation import labelling
from lvdecode.evaluation import likelihood
from lvdecode.evaluation import probing
from lvdecode.evaluation import quality
from lvdecode.evaluation import split as split_lib
from lvdecode.evaluation import use
from lvdecode.text import files
from lvdecode.text import labels
from lvdecode.text import sources


class Asked(NamedTuple):
  """What a section may measure.

  Attributes:
    model: the trained model.
    split: its texts, tokenised.
    data: the same texts as they were read, and their labels.
    samples: K.
    advance: to be called with the number of texts just finished.
  """

  model: trained.Model
  split: split_lib.Split
  data: sources.Texts
  samples: int
  advance: Callable[[float], None]

  def training(self) -> sources.Texts:
    """What the model was trained on."""
    cache = self.model.workdir / 'data'
    return sources.read(self.model.config.data, 'train', cache)

  def means(self, texts: Sequence[str]) -> np.ndarray:
    """The posterior's means [n, Z]."""
    return np.asarray(self.model.encode(texts).mean)


class Section(NamedTuple):
  """How a section is made and shown.

  Attributes:
    kind: the frozen dataclass that it is.
    measure: makes it.
    to_table: of it and a title.
    needs: what model or data must have, keys of `_LACKS`.
  """

  kind: type
  measure: Callable[[Asked], Any]
  to_table: Callable[[Any, str], rich_table.Table]
  needs: tuple[str, ...] = ()


# The headline report is composed of these, and written where they all are.
HEADLINE = ('likelihood', 'information', 'use')
# Texts that are decoded, or of which classifiers learn, where all of a split
# would take long and change little.
_DECODED = 1_000
_LEARNED = 10_000
_SAMPLES = 10  # of the bound of a text that was written, or under a label
_LACKS = {
  'latent': 'the run has no latent: model.injection.points is empty',
  'attributes': 'the data have no labels: set data.label_field',
  'held out': 'it compares with what was learned from: give another --split',
  'factors': "only data.source 'embedded' has known factors",
  'condition': 'the model is given nothing: set model.condition.routes or '
  "model.prior.kind = 'learned', for data with data.condition_field or story",
  'alone': 'texts are written from z alone, and this model is given something',
  'texts alone': 'a run with semi_supervised.labels is one of labels: ask for '
  '--sections=classification',
  'label': "the label is not what is given: data.condition_field = 'label'",
}


def _quality(asked: Asked) -> quality.Quality:
  data = sources.spread(asked.data, _DECODED)
  model, seed = asked.model, asked.split.seed
  copies = None
  if _conditional(model):
    samples = _completions(asked, data, trained.SAMPLE)
    if model.latent_size:
      copies = model.reconstruct(data.texts, given=data.given)
  else:
    samples = model.sample(len(data.texts), seed=seed)
    if model.latent_size:
      copies = model.reconstruct(data.texts)
  return quality.measure(
    data.texts,
    training=asked.training().texts,
    samples=samples,
    reconstructions=copies,
    seed=seed,
  )


def _completions(
  asked: Asked, data: sources.Texts, rules: sampling.Rules
) -> list[str]:
  """A text for each condition."""
  assert data.given is not None
  found = asked.model.complete(data.given, 1, rules, asked.split.seed)
  return [texts[0] for texts in found]


def _completion(asked: Asked) -> completion.Completion:
  data = sources.spread(asked.data, _DECODED)
  rules = {'likely words': trained.GREEDY, 'drawn words': trained.SAMPLE}
  return completion.measure(
    data.texts,
    {name: _completions(asked, data, rules[name]) for name in rules},
  )


def _classification(asked: Asked) -> classification.Classification:
  model, seed = asked.model, asked.split.seed
  numbers = labels.numbers(asked.training().labels or (), model.labels)
  counts = np.bincount(numbers[numbers >= 0], minlength=len(model.labels))
  if _judges(model):
    shares = counts / counts.sum()
    return labelling.measure(asked.split, shares, asked.advance)
  samples = _SAMPLES if model.latent_size else 1  # it is exact without z
  return classification.measure(
    sources.spread(asked.data, _DECODED),
    model.labels,
    nll=lambda texts, label: model.nll(
      texts, samples, seed, [label] * len(texts)
    ),
    shares=counts / counts.sum(),
    samples=samples,
  )


def _judges(model: trained.Model) -> bool:
  return bool(model.config.semi_supervised.labels)


def _conditional(model: trained.Model) -> bool:
  return model.task.model.settings.conditional


def _codes(asked: Asked) -> codes.Codes:
  return codes.measure(
    asked.data.texts,
    asked.data.labels,
    encode=asked.means,
    decode=asked.model.decode,
    nll=lambda texts, samples: asked.model.nll(
      texts, samples, asked.split.seed
    ),
    samples=_SAMPLES,
    pairs=100,
    steps=8,
    shown=5,
    seed=asked.split.seed,
  )


def _labelled(asked: Asked) -> tuple[probing.Labelled, probing.Labelled]:
  seed = asked.split.seed
  return (
    probing.label(asked.training(), asked.means, _LEARNED, seed),
    probing.label(asked.data, asked.means, _LEARNED, seed),
  )


def _attributes(asked: Asked) -> attributes.Attributes:
  return attributes.measure(
    *_labelled(asked),
    decode=asked.model.decode,
    scales=(1.0, 2.0),
    texts=_DECODED // 10,
  )


def _disentanglement(asked: Asked) -> disentanglement.Disentanglement:
  # A label may be one of the factors again, which no code can tell apart.
  data = asked.data._replace(labels=None)
  found = probing.label(data, asked.means, _LEARNED // 2, asked.split.seed)
  return disentanglement.measure(
    found.mean, found.attributes, seed=asked.split.seed
  )


SECTIONS = {
  'likelihood': Section(
    likelihood.Likelihood,
    lambda asked: likelihood.measure(
      asked.split, samples=asked.samples, advance=asked.advance
    ),
    likelihood.to_table,
  ),
  'information': Section(
    information.Information,
    lambda asked: information.measure(asked.split),
    information.to_table,
  ),
  'use': Section(
    use.Use, lambda asked: use.measure(asked.split, asked.advance), use.to_table
  ),
  'text': Section(quality.Quality, _quality, quality.to_table, ('held out',)),
  'completion': Section(
    completion.Completion, _completion, completion.to_table, ('condition',)
  ),
  'classification': Section(
    classification.Classification,
    _classification,
    classification.to_table,
    ('condition', 'label'),
  ),
  'codes': Section(codes.Codes, _codes, codes.to_table, ('latent', 'alone')),
  'probing': Section(
    probing.Probing,
    lambda asked: probing.measure(*_labelled(asked)),
    probing.to_table,
    ('latent', 'alone', 'attributes', 'held out'),
  ),
  'attributes': Section(
    attributes.Attributes,
    _attributes,
    attributes.to_table,
    ('latent', 'alone', 'attributes', 'held out'),
  ),
  'disentanglement': Section(
    disentanglement.Disentanglement,
    _disentanglement,
    disentanglement.to_table,
    ('latent', 'alone', 'factors'),
  ),
}


def lack(
  name: str,
  settings: settings_lib.Settings,
  split: str,
  *,
  attributes: bool | None = None,
) -> str | None:
  """Why a run of these settings cannot be measured so; None if it can.

  Args:
    attributes: whether the texts have labels or known factors; None: what the
      settings say, for texts that were not read.
  """
  data = settings.data
  if attributes is None:
    attributes = bool(data.label_field) or data.source == 'embedded'
    if data.source == 'files' and not attributes:  # the data may be gone
      attributes = files.labelled(files.paths(data.path), data.fields)
  judges = bool(settings.semi_supervised.labels)
  conditional = settings.model.conditional
  there = {
    'latent': bool(settings.model.injection.points),
    'attributes': attributes,
    'factors': data.source == 'embedded',
    'held out': split != 'train',
    'condition': conditional or judges,
    'alone': not conditional,
    'label': data.labels_given or judges,
    'texts alone': not judges,
  }
  needs = SECTIONS[name].needs
  if name != 'classification':
    needs = ('texts alone', *needs)
  return next((_LACKS[need] for need in needs if not there[need]), None)


def applicable(
  names: Sequence[str], model: trained.Model, data: sources.Texts, split: str
) -> list[str]:
  """Those asked for; of 'all', those that model and data have what it takes.

  Raises:
    UserError: a section was asked for by name that cannot be.
  """
  everything = 'all' in names
  attributes = bool(data.labels or data.factors)
  found = []
  for name in SECTIONS if everything else names:
    reason = lack(name, model.config, split, attributes=attributes)
    if reason is None:
      found.append(name)
    elif everything:
      logging.info('without %s: %s', name, reason)
    else:
      raise errors.UserError(f'--sections={name}: {reason}')
  return found


def of_a_sweep(
  names: Sequence[str], settings: settings_lib.Settings, split: str
) -> tuple[str, ...]:
  """What is measured of a point: the headline, and what it has of `names`.

  () where that is what an evaluation measures by itself.
  """
  if settings.semi_supervised.labels:
    return ()
  found = [
    name
    for name in names
    if name not in HEADLINE and lack(name, settings, split) is None
  ]
  return (*HEADLINE, *found) if found else ()
