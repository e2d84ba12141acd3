"""Which label a text has, by the classifier q(y | x, a) of a run."""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int
import numpy as np

from lvdecode import errors
from lvdecode.evaluation import classification
from lvdecode.evaluation import split as split_lib
from lvdecode.tasks import semi_supervised


def measure(
  split: split_lib.Split,
  shares: Float[np.ndarray, ' Y'],
  advance: Callable[[float], None] = lambda texts: None,
) -> classification.Classification:
  """The figures of argmax_y q(y | x, a), of the texts with a label.

  Args:
    split: of a run with `semi_supervised.labels`.
    shares: of the training texts' labels, for what the commonest comes to.
    advance: is called with the number of texts that were just finished.

  Raises:
    UserError: no text has a label.
  """
  task = _task(split)

  def log_q(batch, rows):
    del rows
    return _log_q(task, split.params, batch)

  return _judged(split, split.per_text(log_q, advance), shares)


def validation_figures(split: split_lib.Split) -> dict[str, float]:
  """What is followed while training.

  'error' is 1 - accuracy; 'negative_elbo' the bound of -log p(x | a), the label
  summed out of every text, where there is a generative model.
  """
  task = _task(split)
  if not task.semi_supervised.generative:
    bound, log_q = (
      None,
      split.per_text(lambda batch, rows: _log_q(task, split.params, batch)),
    )
  else:
    found = split.per_text(functools.partial(_bounded, task, split))
    bound, log_q = found[:, 0], found[:, 1:]
  even = np.full(log_q.shape[1], 1 / log_q.shape[1])
  judged = _judged(split, log_q, even)
  figures = {
    'error': 1.0 - judged.accuracy,
    'accuracy': judged.accuracy,
    'macro_f1': judged.macro_f1,
    'classifier_nll': judged.nats,
  }
  if bound is not None:
    figures['negative_elbo'] = split_lib.mean(bound)
  return figures


def _task(split: split_lib.Split) -> semi_supervised.SemiSupervisedTask:
  assert isinstance(split.task, semi_supervised.SemiSupervisedTask)
  return split.task


def _judged(split, log_q, shares) -> classification.Classification:
  label = split.corpus.label
  known = np.zeros(len(log_q), bool) if label is None else label >= 0
  names = _task(split).semi_supervised.labels
  if not known.any():
    raise errors.UserError(
      f'none of the {len(log_q):,} texts has one of the labels '
      f'{", ".join(names)}: give data that have'
    )
  # Bayes' rule with these shares gives q back.
  likelihood = np.log(shares)[None, :] - log_q[known].astype(np.float64)
  groups = None if split.groups is None else split.groups[known]
  return classification.judge(
    likelihood, label[known], shares, names, 0, groups
  )


def _bounded(task, split, batch, rows: Int[np.ndarray, ' B']):
  """The bound of each text, and behind it log q(y | x, a), [B, 1 + Y]."""
  keys = split.keys(rows, split_lib.SAMPLE)
  found = _figures(task, split.params, batch, keys)
  return jnp.concatenate(
    [found['negative_bound'][:, None], found['log_q']], axis=1
  )


@functools.partial(jax.jit, static_argnames='task')
def _log_q(task, params, batch):
  return task.log_q(params, batch)


@functools.partial(jax.jit, static_argnames='task')
def _figures(task, params, batch, keys):
  return task.evaluate(params, batch, keys)
