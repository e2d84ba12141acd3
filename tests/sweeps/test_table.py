"""A sweep's table holds every run, and its groups the mean over seeds."""

import csv
import io
import json
import math
import statistics

import pytest
import swept

from lvdecode.sweeps import points
from lvdecode.sweeps import table


def test_groups_are_means_and_deviations_over_seeds(tmp_path):
  found = swept.all_points(seeds=3)
  for point in found:
    swept.evaluated(tmp_path, point)
  keys, groups = table.groups(swept.rows(tmp_path, found))
  assert keys == ['model.injection.points']
  assert [group.values for group in groups] == [(each,) for each in swept.SETS]
  for size, group in enumerate(groups):
    assert group.runs == 3
    assert group.mean['kl'] == 10 * size + 1
    assert group.deviation['kl'] == statistics.stdev([0, 1, 2])
    assert group.mean['shuffled_gap'] == pytest.approx(2)


def test_alternatives_have_one_column_that_names_them(tmp_path):
  def sweep(add):
    for changes in (
      {},
      {'objective.word_dropout': 0.5},
      {'model.latent_size': 4, 'objective.beta.kind': 'constant'},
    ):
      for seed in range(2):
        add(changes | {'seed': seed})

  found = points.expand(swept.BASE, sweep)
  for point in found:
    swept.evaluated(tmp_path, point)
  keys, groups = table.groups(swept.rows(tmp_path, found))
  assert keys == [table.CHANGED]
  assert [group.values for group in groups] == [
    ('nothing',),
    ('word_dropout = 0.5',),
    ('latent_size = 4, beta.kind = constant',),
  ]
  assert [group.runs for group in groups] == [2, 2, 2]
  text = table.to_markdown(swept.rows(tmp_path, found), 'test', 5)
  assert '| changed | runs |' in text and '| word_dropout = 0.5 | 2 |' in text


def test_a_single_run_has_no_deviation(tmp_path):
  found = swept.all_points(seeds=1)
  for point in found:
    swept.evaluated(tmp_path, point)
  _, groups = table.groups(swept.rows(tmp_path, found))
  assert all(math.isnan(group.deviation['kl']) for group in groups)
  text = table.to_markdown(swept.rows(tmp_path, found), 'test', 5)
  assert '| memory | 1 | 10.00 | 60.00 |' in text


def test_rows_tell_done_failed_and_open_apart(tmp_path):
  done, failed, *still_open = swept.all_points()
  swept.evaluated(tmp_path, done)
  (tmp_path / failed.name).mkdir()
  (tmp_path / failed.name / table.ERROR).write_text('no memory, it said\n')
  found = swept.rows(tmp_path, [done, failed, *still_open])
  assert [row.status for row in found] == ['done', 'failed'] + ['open'] * 4
  assert found[1].error == 'no memory, it said'
  text = table.to_markdown(found, 'test', 5)
  assert text.startswith('1 of 6 runs.')
  assert f'Failed: `{failed.name}`: no memory, it said' in text
  lines = list(csv.DictReader(io.StringIO(table.to_csv(found))))
  assert [line['status'] for line in lines] == [r.status for r in found]
  assert lines[0]['kl'] == '0.0' and lines[2]['kl'] == ''
  assert lines[1]['error'] == 'no memory, it said'
  assert lines[4]['model.injection.points'] == 'input+memory'


def test_figures_of_other_samples_do_not_count(tmp_path):
  plain, _, told, *_ = swept.all_points()
  for point in (plain, told):
    swept.evaluated(tmp_path, point)
  found = [
    table.read(tmp_path, point, 'test', 6, swept.TEXTS)
    for point in (plain, told)
  ]
  # A plain language model's likelihood needs no samples.
  assert [row.status for row in found] == ['done', 'open']


@pytest.mark.parametrize('text', ['', '[]', '{}', '{"provenance": 3}', 'whole'])
def test_a_damaged_evaluation_is_none(tmp_path, text):
  """It ends no sweep: the point is evaluated anew."""
  point = swept.all_points()[0]
  swept.evaluated(tmp_path, point)
  path = tmp_path / point.name / 'evaluation' / 'test.json'
  path.write_text(path.read_text()[:-5] if text == 'whole' else text)
  row = table.read(tmp_path, point, 'test', 5, swept.TEXTS)
  assert row.status == 'open' and not row.figures


def test_a_failure_after_success_does_not_hide_it(tmp_path):
  point = swept.all_points()[0]
  swept.evaluated(tmp_path, point)
  (tmp_path / point.name / table.ERROR).write_text('old')
  assert table.read(tmp_path, point, 'test', 5, swept.TEXTS).status == 'done'


def test_only_other_sections_make_no_row(tmp_path):
  point = swept.all_points()[0]
  swept.evaluated(tmp_path, point)
  path = tmp_path / point.name / 'evaluation' / 'test.json'
  path.write_text('{"text": {}, "provenance": {}}')
  assert table.read(tmp_path, point, 'test', 5, swept.TEXTS).status == 'open'


def test_the_shares_of_unknown_tokens_stand_beside_the_figures(tmp_path):
  found = swept.all_points(seeds=1)
  for share, point in zip((0.01, 0.025, 0.01), found, strict=True):
    swept.evaluated(tmp_path, point, unknown_share=share)
  text = table.to_markdown(swept.rows(tmp_path, found), 'test', 5)
  assert '; 1.00 or 2.50 % of the tokens are unknown' in text


def test_figures_that_do_not_exist_are_left_out(tmp_path):
  found = swept.all_points(seeds=1)
  for point in found:
    gone = {'shuffled_nll': None} if point is found[0] else {}
    swept.evaluated(tmp_path, point, **gone)
  _, groups = table.groups(swept.rows(tmp_path, found))
  assert ['shuffled_gap' in group.mean for group in groups] == [0, 1, 1]
  text = table.to_markdown(swept.rows(tmp_path, found), 'test', 5)
  assert '| none | 1 | 0.00 | 70.00 | 70.00 | 69.00 | – | 1.00 |' in text
  assert 'test split, 9 texts' in text


def test_figures_of_other_texts_do_not_count(tmp_path):
  point = swept.all_points()[0]
  swept.evaluated(tmp_path, point)
  statuses = [
    table.read(tmp_path, point, 'test', 5, texts).status for texts in (9, 0, 8)
  ]
  assert statuses == ['done', 'open', 'open']


@pytest.mark.parametrize(
  'change', [{'asked_step': 500}, {'seed': 99}, {'latest_step': 40}]
)
def test_an_evaluation_that_somebody_asked_for_is_not_the_sweeps(
  tmp_path, change
):
  point = swept.all_points()[0]
  swept.evaluated(tmp_path, point)
  assert table.read(tmp_path, point, 'test', 5, swept.TEXTS).status == 'done'
  swept.came_from(tmp_path, point, **change)
  assert table.read(tmp_path, point, 'test', 5, swept.TEXTS).status == 'open'


def test_a_bar_in_a_value_is_no_column(tmp_path):
  def sweep(add):
    for rate in (0.0, 0.1):
      add({'optimizer.multipliers': (('.*(bias|scale)', rate),)})

  found = points.expand(swept.BASE, sweep)
  for point in found:
    swept.evaluated(tmp_path, point)
  text = table.to_markdown(swept.rows(tmp_path, found), 'test', 5)
  (row,) = [line for line in text.split('\n') if '+0.1 |' in line]
  assert r'(bias\|scale)' in row
  head = next(line for line in text.split('\n') if line.startswith('|'))
  assert row.replace(r'\|', '').count('|') == head.count('|')


def classified(folder, point, accuracy, samples=0):
  """What an evaluation of a classifier leaves, in the place of the figures."""
  swept.evaluated(folder, point)
  path = folder / point.name / 'evaluation' / 'test.json'
  judged = {'accuracy': accuracy, 'macro_f1': 0.5, 'texts': 7, 'nats': 0.1}
  path.write_text(
    json.dumps(
      {
        'classification': judged | {'samples': samples},
        'provenance': {'asked_texts': swept.TEXTS},
      }
    )
  )


def test_classifiers_have_columns_of_their_own(tmp_path):
  point, other, *_ = swept.all_points()  # two seeds
  classified(tmp_path, point, 0.75)
  classified(tmp_path, other, 0.77)
  text = table.to_markdown(swept.rows(tmp_path, [point, other]), 'test', 5)
  assert '| runs | accuracy | macro-F1 |\n' in text
  assert '| 2 | 76.00 ± 1.41 | 50.00 ± 0.00 |' in text
  assert 'test split, 7 texts; per cent' in text
  assert 'nats' not in text


def test_labels_by_bayes_rule_are_not_a_classifiers(tmp_path):
  point = swept.all_points()[0]
  classified(tmp_path, point, 0.75, samples=10)
  assert table.read(tmp_path, point, 'test', 5, swept.TEXTS).status == 'open'


def test_a_point_that_was_not_trained_to_its_end_is_open(tmp_path):
  point = swept.all_points()[0]
  swept.evaluated(tmp_path, point)
  folder = tmp_path / point.name / 'checkpoints'
  last = folder / str(point.settings.training.steps)
  # As Orbax names one that is being written.
  last.rename(folder / f'{last.name}.orbax-checkpoint-tmp')
  assert not table.trained(tmp_path, point)
  row = table.read(tmp_path, point, 'test', 5, swept.TEXTS)
  assert row.status == 'open'


def test_completions_are_columns(tmp_path):
  found = swept.all_points(seeds=1)
  for point in found:
    swept.evaluated(tmp_path, point)
    swept.measured(tmp_path, point, completion=swept.COMPLETION)
  row = table.read(tmp_path, found[0], 'test', 5, swept.TEXTS)
  assert row.figures['bleu_4'] == 4.25 and row.figures['kl'] == 0.0
  text = table.to_markdown(swept.rows(tmp_path, found), 'test', 5)
  assert '| BLEU-4 | distinct-1 | distinct-2 |' in text
  assert '| 4.25 | 3.50 | 23.50 |' in text
  assert 'a text of likely words for each of 9 conditions' in text


def test_a_point_without_an_asked_section_is_open(tmp_path):
  point = swept.all_points()[0]
  swept.evaluated(tmp_path, point)

  def status(*sections):
    found = table.read(tmp_path, point, 'test', 5, swept.TEXTS, sections)
    return found.status

  assert status() == status('figures') == 'done'
  assert status('figures', 'completion') == 'open'
