"""How good the texts are that a model writes for what it is given."""

from collections.abc import Mapping, Sequence
import dataclasses

from rich import table as rich_table
from sacrebleu.tokenizers import tokenizer_13a

from lvdecode import errors
from lvdecode.evaluation import quality


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
  """Texts of which one was written for each condition.

  Attributes:
    bleu: BLEU-1 to BLEU-4 of the corpus against the texts of the data, one
      reference each, in 0..100, not smoothed.
    distinct_1: different words, per cent of all words in these texts (Li et
      al. 2016; per cent as Wang & Wan 2019, table 2, have it).
    distinct_2: different pairs of neighbouring words, per cent of all pairs.
    words: the words in all texts, what distinct_1 was divided by.
  """

  bleu: tuple[float, ...]
  distinct_1: float
  distinct_2: float
  words: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Completion:
  """What was written beside what the data have.

  Words are split at white space and around punctuation (sacrebleu's 13a), and
  keep their case. Distinct shares fall with the number of texts: they compare
  at equal `texts` only.

  Attributes:
    texts: N conditions, of each of which there is one text.
    written: by how it was chosen.
    real: shares of the data's own texts; their BLEU with themselves is 100.
  """

  texts: int
  written: Mapping[str, Written]
  real: Written


def measure(
  texts: Sequence[str], completions: Mapping[str, Sequence[str]]
) -> Completion:
  """Judges the completions.

  Args:
    texts: of the data, as they were before tokenisation.
    completions: a text for each of them, in their order, under a name for how
      they were chosen.
  """
  return Completion(
    texts=len(texts),
    written={
      name: _judged(texts, written) for name, written in completions.items()
    },
    real=_judged(texts, texts),
  )


def to_table(completion: Completion, title: str) -> rich_table.Table:
  """The figures as people read them, the data's own texts in a column."""
  table = rich_table.Table(
    title=title,
    caption=f'{completion.texts:,} conditions, a text for each.',
  )
  columns = {**completion.written, 'real texts': completion.real}
  table.add_column('figure')
  for name in columns:
    table.add_column(name, justify='right')
  table.add_column('unit')
  for order in range(4):
    table.add_row(
      f'BLEU-{order + 1}',
      *(f'{written.bleu[order]:.2f}' for written in columns.values()),
      '0..100, of the corpus',
    )
  for name, field, unit in (
    ('distinct-1', 'distinct_1', 'per cent of words'),
    ('distinct-2', 'distinct_2', 'per cent of pairs of words'),
  ):
    shares = (f'{getattr(w, field):.2f}' for w in columns.values())
    table.add_row(name, *shares, unit)
  words = (f'{written.words:,}' for written in columns.values())
  table.add_row('words', *words, 'in all texts')
  return table


def _judged(texts: Sequence[str], written: Sequence[str]) -> Written:
  if len(texts) != len(written):
    raise errors.UserError(
      f'{len(texts)} texts, {len(written)} completions: give one a text, in '
      'their order'
    )
  split = tokenizer_13a.Tokenizer13a()
  real, ours = [split(text) for text in texts], [split(t) for t in written]
  words = [text.split() for text in ours]
  return Written(
    bleu=quality.bleu(ours, [real]),
    distinct_1=100 * quality.distinct(words, 1),
    distinct_2=100 * quality.distinct(words, 2),
    words=sum(map(len, words)),
  )
