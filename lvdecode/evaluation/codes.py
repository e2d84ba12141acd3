"""What lies between two latents, and what a sum of latents decodes to."""

from collections.abc import Callable, Sequence
import dataclasses

from jaxtyping import Float
import numpy as np
from rapidfuzz import distance
from rich import table as rich_table

from lvdecode import errors

# Posterior means [n, Z] of texts, texts of latents [n, Z], and -log p(y) [n] of
# texts in nats per sequence.
Encode = Callable[[Sequence[str]], Float[np.ndarray, 'n Z']]
Decode = Callable[[Float[np.ndarray, 'n Z']], list[str]]
Nll = Callable[[Sequence[str]], Float[np.ndarray, ' n']]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interpolation:
  """Texts at S equal steps from one posterior mean to another's.

  Attributes:
    pairs: P, of different texts.
    edits: [S - 1], words inserted, deleted or replaced from each text to the
      next; means over pairs.
    end_edits: the same from the first text to the last.
    detour: sum of the edits, of the edits between the ends: 1 where each brings
      the end nearer; None where all ends decode alike.
    largest_jump: the edits of a path's largest step, of those between its ends:
      1 / (S - 1) at the least, 1 where all happens at once; None likewise.
    nll: [S], -log p(y) of the texts there, nats per sequence, means over pairs.
    nll_per_word: [S], nats per word, an end of text counted with each.
    paths: some of them, text by text.
  """

  pairs: int
  edits: tuple[float, ...]
  end_edits: float
  detour: float | None
  largest_jump: float | None
  nll: tuple[float, ...]
  nll_per_word: tuple[float, ...]
  paths: tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sum:
  """The text of a - b + c, of the posterior means of three texts."""

  a: str
  b: str
  c: str
  text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Codes:
  """Latents between and beside those of texts.

  Attributes:
    interpolation: between pairs of texts.
    sums: of three texts each.
    samples: K of the bound that gives the NLL along the paths.
  """

  interpolation: Interpolation
  sums: tuple[Sum, ...]
  samples: int


def measure(
  texts: Sequence[str],
  labels: Sequence[str] | None,
  *,
  encode: Encode,
  decode: Decode,
  nll: Callable[[Sequence[str], int], Float[np.ndarray, ' n']],
  samples: int,
  pairs: int,
  steps: int,
  shown: int,
  seed: int,
) -> Codes:
  """Paths between texts of a split, and sums of them.

  Args:
    texts: of the split.
    labels: of the texts: a sum is then of an a with another label than b, and
      a c with b's. None: any three texts.
    encode: to posterior means.
    decode: greedily, or a step changes more than z does.
    nll: of the decoded texts, by the bound of so many samples.
    samples: K of it.
    pairs: P; fewer if the split has not as many.
    steps: S, the texts of a path, both ends counted.
    shown: how many paths and sums are kept to be read.
    seed: of which texts are taken.

  Raises:
    UserError: too few texts or steps, or no latent.
  """
  if len(texts) < 3:
    raise errors.UserError(
      f'the split has {len(texts)} texts: a sum of latents is of three'
    )
  rng = np.random.default_rng(seed)
  rows = rng.permutation(len(texts))[: 2 * pairs]
  ends = [texts[row] for row in rows[: len(rows) // 2 * 2]]
  triples = [_triple(labels, len(texts), rng) for _ in range(shown)]
  return Codes(
    interpolation=interpolate(
      ends[::2],
      ends[1::2],
      encode,
      decode,
      lambda some: nll(some, samples),
      steps,
      shown,
    ),
    sums=arithmetic(
      [(texts[a], texts[b], texts[c]) for a, b, c in triples], encode, decode
    ),
    samples=samples,
  )


def means(encode: Encode, texts: Sequence[str]) -> Float[np.ndarray, 'n Z']:
  """Posterior means, or an error where there is no latent."""
  mean = np.asarray(encode(texts))
  if not mean.shape[1]:
    raise errors.UserError(
      'a plain language model has no latent: its codes cannot be measured'
    )
  return mean


def interpolate(
  first: Sequence[str],
  last: Sequence[str],
  encode: Encode,
  decode: Decode,
  nll: Nll,
  steps: int,
  shown: int,
) -> Interpolation:
  """Paths on straight lines from each first text's mean to its last's."""
  errors.at_least('steps', steps, 2)
  begin, end = means(encode, first), means(encode, last)
  share = np.linspace(0, 1, steps, dtype=begin.dtype)[:, None]
  lines = (1 - share) * begin[:, None] + share * end[:, None]  # [P, S, Z]
  texts = decode(lines.reshape(-1, begin.shape[1]))
  paths = [
    tuple(texts[row : row + steps]) for row in range(0, len(texts), steps)
  ]
  edits = np.array(
    [
      [word_edits(a, b) for a, b in zip(path[:-1], path[1:], strict=True)]
      for path in paths
    ]
  )
  ends = np.array([word_edits(path[0], path[-1]) for path in paths])
  nats = np.asarray(nll(texts), np.float64).reshape(-1, steps)
  words = np.array([[len(text.split()) + 1 for text in path] for path in paths])
  apart = ends.sum()
  return Interpolation(
    pairs=len(paths),
    edits=tuple(edits.mean(axis=0).tolist()),
    end_edits=float(ends.mean()),
    detour=float(edits.sum() / apart) if apart else None,
    largest_jump=float(edits.max(axis=1).sum() / apart) if apart else None,
    nll=tuple(nats.mean(axis=0).tolist()),
    nll_per_word=tuple((nats.sum(axis=0) / words.sum(axis=0)).tolist()),
    paths=tuple(paths[:shown]),
  )


def arithmetic(
  triples: Sequence[tuple[str, str, str]], encode: Encode, decode: Decode
) -> tuple[Sum, ...]:
  """What a - b + c decodes to, for the posterior means of each (a, b, c)."""
  if not triples:
    return ()
  a, b, c = zip(*triples, strict=True)
  texts = decode(means(encode, a) - means(encode, b) + means(encode, c))
  return tuple(
    Sum(a=a, b=b, c=c, text=text)
    for (a, b, c), text in zip(triples, texts, strict=True)
  )


def word_edits(a: str, b: str) -> int:
  """Least number of words to insert, delete or replace (Levenshtein)."""
  return distance.Levenshtein.distance(a.split(), b.split())


def to_table(codes: Codes, title: str) -> rich_table.Table:
  """The figures along the path, then the sums, as people read them."""
  path = codes.interpolation
  table = rich_table.Table(
    title=title, caption=f'{path.pairs:,} pairs of texts, decoded greedily'
  )
  table.add_column('figure')
  table.add_column('value', overflow='fold')
  table.add_column('unit', overflow='fold')
  table.add_row('edits, step by step', _list(path.edits), 'words a step')
  table.add_row('edits from end to end', f'{path.end_edits:.1f}', 'words')
  even = f'of those, {1 / len(path.edits):.2f} if all steps were even'
  for name, value, unit in (
    ('detour', path.detour, 'edits of all steps, of those from end to end'),
    ('largest step', path.largest_jump, even),
  ):
    shown = 'all ends decode alike' if value is None else f'{value:.2f}'
    table.add_row(name, shown, unit)
  bound = f'NLL along the path, K = {codes.samples}'
  table.add_row(bound, _list(path.nll), 'nats per sequence')
  table.add_row('', _list(path.nll_per_word), 'nats per word, ends counted')
  for texts in path.paths:
    table.add_section()
    for number, text in enumerate(texts):
      table.add_row(f'path {number + 1}/{len(texts)}', text, '')
  for each in codes.sums:
    table.add_section()
    for name in ('a', 'b', 'c'):
      table.add_row(name, getattr(each, name), '')
    table.add_row('a - b + c', each.text, '')
  return table


def _triple(labels, count, rng) -> tuple[int, int, int]:
  """Rows of a, b and c; by their labels where two of them are known."""
  rows = np.arange(count)
  known = rows if labels is None else np.flatnonzero(np.asarray(labels) != '')
  if len(known) >= 3:
    rows = known
  b = int(rng.choice(rows))
  others = rows[rows != b]
  if labels is None or len(known) < 3:
    a, c = rng.choice(others, 2, replace=False)
    return int(a), b, int(c)
  label = np.asarray(labels)
  different = others[label[others] != label[b]]
  a = rng.choice(different if len(different) else others)
  others = others[others != a]
  alike = others[label[others] == label[b]]
  c = rng.choice(alike if len(alike) else others)
  return int(a), b, int(c)


def _list(values: Sequence[float]) -> str:
  return ' '.join(f'{value:.1f}' for value in values)
