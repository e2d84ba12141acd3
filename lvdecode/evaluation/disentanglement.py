"""Whether each latent dimension stands for one factor of the embedded data."""

from collections.abc import Mapping, Sequence
import dataclasses

from jaxtyping import Bool, Float, Int
import numpy as np
from rich import table as rich_table

from lvdecode import errors
from lvdecode.latent import probes

_BINS = 20  # of equal width, over the range of a dimension (MIG)
_TREES = 20  # of a forest (DCI)
_LEAF = 5  # least texts of a leaf: smaller ones are learned by heart
# Votes of z-diff and of z-min-var to learn from, as many to test on; and the
# pairs, or texts, behind each of them, as in the papers.
_VOTES = 1_000
_PAIRS = 64
_TEXTS = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
  """Each between 0 and 1, higher is better.

  Attributes:
    mig: mutual information gap, mean over factors of the gap between the two
      dimensions that know most, in shares of the factor's entropy (Chen et al.
      2018, equation 6; of dimensions cut into 20 bins).
    disentanglement: whether a dimension matters to one factor only.
    completeness: whether a factor depends on one dimension only.
    informativeness: accuracy in predicting a factor, mean over factors (these
      three: DCI, Eastwood & Williams 2018; importances of a random forest).
    sap: separated attribute predictability, the gap in balanced accuracy
      between the two best dimensions, mean over factors (Kumar et al. 2018).
    z_diff: accuracy of a linear classifier that is to tell which factor pairs
      of texts share, from their mean distance in every dimension (the
      beta-VAE's metric, Higgins et al. 2017).
    z_min_var: accuracy of telling which factor some texts share from the one
      dimension that varies least (the FactorVAE's metric, Kim & Mnih 2018).
  """

  mig: float
  disentanglement: float
  completeness: float
  informativeness: float
  sap: float
  z_diff: float
  z_min_var: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Disentanglement:
  """Scores of the posterior means, and what they are to be compared with.

  Attributes:
    texts: N; DCI and SAP learn from half of them and are tested on the other,
      MIG is of all, z-diff and z-min-var learn from some draws of them and are
      tested on others.
    factors: names of the known factors.
    latent_size: Z.
    active_units: dimensions with a variance of the mean above 0.01; the others
      count as constant.
    scores: of the posterior means.
    chance: the same of posterior means that were dealt to the wrong texts.
    best_sap: the most that SAP can be: mean over factors of 1 - 1 / values.
  """

  texts: int
  factors: tuple[str, ...]
  latent_size: int
  active_units: int
  scores: Scores
  chance: Scores
  best_sap: float


def measure(
  mean: Float[np.ndarray, 'N Z'],
  factors: Mapping[str, Sequence[str]],
  *,
  seed: int,
) -> Disentanglement:
  """All scores; 5,000 texts of 32 active dimensions take 30 s on a core.

  Args:
    mean: posterior means.
    factors: the value of each factor for each text.
    seed: of the halves, the forests and the votes.

  Raises:
    UserError: no factors, fewer than two, or no latent.
  """
  if len(factors) < 2:
    raise errors.UserError(
      f'the data have {len(factors)} known factors: disentanglement needs two '
      "at least, as data.source 'embedded' has"
    )
  if not mean.shape[1]:
    raise errors.UserError(
      'a plain language model has no latent whose dimensions could stand for '
      'factors'
    )
  variance = np.var(mean, axis=0, dtype=np.float64)
  codes = np.where(variance > probes.ACTIVE_VARIANCE, mean, 0.0)
  values = np.stack(
    [np.unique(row, return_inverse=True)[1] for row in factors.values()], axis=1
  )
  sizes = values.max(axis=0) + 1
  constant = [
    name for name, size in zip(factors, sizes, strict=True) if size < 2
  ]
  if constant:
    raise errors.UserError(
      f'the factor {constant[0]!r} has one value only in these texts: give more'
    )
  wrong = np.random.default_rng(seed).permutation(len(mean))
  return Disentanglement(
    texts=len(mean),
    factors=tuple(factors),
    latent_size=mean.shape[1],
    active_units=probes.active_units(mean),
    scores=score(codes, values, seed),
    chance=score(codes[wrong], values, seed),
    best_sap=float(np.mean(1 - 1 / sizes)),
  )


def score(
  codes: Float[np.ndarray, 'N Z'], values: Int[np.ndarray, 'N F'], seed: int
) -> Scores:
  """The scores of codes whose dead dimensions are constant."""
  rng = np.random.default_rng(seed)
  order = rng.permutation(len(codes))
  train = np.zeros(len(codes), bool)
  train[order[: len(codes) // 2]] = True
  importance, accuracy = _importances(codes, values, train, seed)
  return Scores(
    mig=mutual_information_gap(codes, values),
    disentanglement=disentanglement(importance),
    completeness=disentanglement(importance.T),
    informativeness=accuracy,
    sap=attribute_predictability(codes, values, train),
    z_diff=_z_diff(codes, values, rng),
    z_min_var=_z_min_var(codes, values, rng),
  )


def mutual_information_gap(
  codes: Float[np.ndarray, 'N Z'], values: Int[np.ndarray, 'N F']
) -> float:
  """Mean over factors of (I_first - I_second) / H(factor)."""
  binned = [_binned(column) for column in codes.T]
  gaps = []
  for value in values.T:
    known = sorted(_information(column, value) for column in binned)
    first, second = known[-1], known[-2] if len(known) > 1 else 0.0
    gaps.append((first - second) / _information(value, value))
  return float(np.mean(gaps))


def disentanglement(importance: Float[np.ndarray, 'rows columns']) -> float:
  """1 - the entropy of a row, to the base of its columns, rows by their weight.

  Rows that matter to nothing have no weight; of the transpose it is
  completeness (Eastwood & Williams 2018, section 2).
  """
  weight = importance.sum(axis=1)
  if not weight.sum():
    return 0.0
  share = importance / np.where(weight, weight, 1)[:, None]
  logarithm = np.log(np.where(share > 0, share, 1))
  most = np.log(max(2, importance.shape[1]))  # of one column it is 0 anyway
  entropy = -np.sum(share * logarithm, axis=1) / most
  return float(np.sum(weight * (1 - entropy)) / weight.sum())


def attribute_predictability(
  codes: Float[np.ndarray, 'N Z'],
  values: Int[np.ndarray, 'N F'],
  train: Bool[np.ndarray, ' N'],
) -> float:
  """Mean over factors of the gap in balanced accuracy of the two best.

  A dimension predicts a factor by thresholds on it, one fewer than the factor
  has values; chance is 1 / values.
  """
  from sklearn import tree  # a second to import

  gaps = []
  for value in values.T:
    kinds = value.max() + 1
    accuracies = []
    for column in codes.T[:, :, None]:
      thresholds = tree.DecisionTreeClassifier(
        max_leaf_nodes=kinds, class_weight='balanced', random_state=0
      ).fit(column[train], value[train])
      right = thresholds.predict(column[~train]) == value[~train]
      accuracies.append(
        np.mean(
          [
            right[value[~train] == kind].mean()
            for kind in np.unique(value[~train])
          ]
        )
      )
    accuracies.sort()
    second = accuracies[-2] if len(accuracies) > 1 else 1 / kinds
    gaps.append(accuracies[-1] - second)
  return float(np.mean(gaps))


def to_table(found: Disentanglement, title: str) -> rich_table.Table:
  """The scores, each beside its chance and its best."""
  table = rich_table.Table(
    title=title,
    caption=f'{found.texts:,} texts, {len(found.factors)} factors, '
    f'{found.active_units} of {found.latent_size} dimensions active',
  )
  for column in ('score', 'value', 'chance', 'best'):
    table.add_column(column, justify='left' if column == 'score' else 'right')
  for name, field in (
    ('MIG', 'mig'),
    ('DCI disentanglement', 'disentanglement'),
    ('DCI completeness', 'completeness'),
    ('DCI informativeness', 'informativeness'),
    ('SAP', 'sap'),
    ('z-diff (beta-VAE)', 'z_diff'),
    ('z-min-var (FactorVAE)', 'z_min_var'),
  ):
    best = found.best_sap if field == 'sap' else 1.0
    value, chance = getattr(found.scores, field), getattr(found.chance, field)
    table.add_row(name, f'{value:.3f}', f'{chance:.3f}', f'{best:.3f}')
  return table


def _binned(column: Float[np.ndarray, ' N']) -> Int[np.ndarray, ' N']:
  """The number of the bin; 0 throughout for a constant column."""
  low, high = column.min(), column.max()
  if low == high:
    return np.zeros(len(column), np.int64)
  inner = np.linspace(low, high, _BINS + 1)[1:-1]
  return np.digitize(column, inner)


def _information(a: Int[np.ndarray, ' N'], b: Int[np.ndarray, ' N']) -> float:
  """I(a; b) of counted pairs, in nats; of a with itself its entropy."""
  joint = np.zeros((a.max() + 1, b.max() + 1))
  np.add.at(joint, (a, b), 1 / len(a))
  apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
  seen = joint > 0
  return float(np.sum(joint[seen] * np.log(joint[seen] / apart[seen])))


def _importances(
  codes, values, train, seed
) -> tuple[Float[np.ndarray, 'Z F'], float]:
  """Of each dimension for each factor, and the mean accuracy on the others.

  Every split may choose among all dimensions: with some of them only, the
  ones that know nothing would be chosen where the one that does is missing.
  """
  from sklearn import ensemble

  importance, accuracy = [], []
  for value in values.T:
    forest = ensemble.RandomForestClassifier(
      _TREES, min_samples_leaf=_LEAF, max_features=None, random_state=seed
    ).fit(codes[train], value[train])
    importance.append(forest.feature_importances_)
    accuracy.append(forest.score(codes[~train], value[~train]))
  return np.stack(importance, axis=1), float(np.mean(accuracy))


def _z_diff(codes, values, rng) -> float:
  from sklearn import linear_model
  from sklearn import pipeline
  from sklearn import preprocessing

  def votes():
    factor = rng.integers(values.shape[1], size=_VOTES)
    features = np.empty((_VOTES, codes.shape[1]))
    for vote, column in enumerate(factor):
      first = rng.integers(len(codes), size=_PAIRS)
      second = _alike(values[:, column], first, rng)
      features[vote] = np.abs(codes[first] - codes[second]).mean(axis=0)
    return features, factor

  classifier = pipeline.make_pipeline(
    preprocessing.StandardScaler(),
    linear_model.LogisticRegression(max_iter=1_000),
  ).fit(*votes())
  return float(classifier.score(*votes()))


def _z_min_var(codes, values, rng) -> float:
  scale = codes.std(axis=0)
  alive = scale > 0
  count = values.shape[1]
  if not alive.any():
    return 1 / count
  scaled = codes[:, alive] / scale[alive]

  def votes():
    table = np.zeros((scaled.shape[1], count), np.int64)
    for column in rng.integers(count, size=_VOTES):
      one = np.full(_TEXTS, rng.integers(len(codes)))
      rows = _alike(values[:, column], one, rng)
      table[np.argmin(scaled[rows].var(axis=0)), column] += 1
    return table

  answer, asked = votes().argmax(axis=1), votes()
  return float(asked[np.arange(len(asked)), answer].sum() / _VOTES)


def _alike(value, rows, rng) -> Int[np.ndarray, ' rows']:
  """For each row another, or itself, that has the same value."""
  order = np.argsort(value, kind='stable')
  counts = np.bincount(value)
  starts = np.cumsum(counts) - counts
  own = value[rows]
  offset = (rng.random(len(rows)) * counts[own]).astype(np.int64)
  return order[starts[own] + offset]
