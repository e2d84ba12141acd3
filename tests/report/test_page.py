"""The page is whole, safe, self-contained, and answers to a pointer."""

import dataclasses
import functools
import html.parser
import json
import math
import re
import shutil
import subprocess
import typing

import made_up
import numpy as np
import pytest

from lvdecode import errors
from lvdecode.evaluation import classification
from lvdecode.evaluation import collapse
from lvdecode.report import exhibit
from lvdecode.report import page

_BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
_EMPTY = {'meta', 'path', 'use', 'link', 'br', 'circle', 'rect', 'input'}


class Reader(html.parser.HTMLParser):
  """Elements with their attributes, scripts, words; closed as opened."""

  def __init__(self, text):
    super().__init__()
    self.elements, self.scripts, self.words, self._open = [], [], [], []
    self.feed(text)
    assert not self._open, self._open

  def handle_starttag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))
    if tag not in _EMPTY:
      self._open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))

  def handle_endtag(self, tag):
    if tag not in _EMPTY:
      assert self._open.pop() == tag

  def handle_data(self, data):
    if self._open[-1:] == ['script']:
      self.scripts.append(data)
    elif self._open[-1:] != ['style']:
      self.words.append(data)

  def all(self, name):
    return [attrs[name] for _, attrs in self.elements if name in attrs]

  @property
  def text(self):
    return ' '.join(' '.join(self.words).split())


def read(*runs):
  return Reader(page.render(runs))


@functools.cache
def whole():
  """The page of a run of which all is known."""
  return read(made_up.a_run())


def maps(reader):
  return [json.loads(text) for text in reader.scripts[:-1]]


def plain(name='plain'):
  """The run of a plain language model."""
  alone = made_up.an_exhibit()._replace(views=[], groups={}, copies=[], ways=[])
  evaluation = {'figures': made_up.report(latent_size=0)}
  return made_up.a_run(name, evaluation=evaluation, exhibit=alone)


def test_the_first_screen_says_whether_z_is_used():
  text = whole().text
  first = text[: text.index('Losses are')]
  for words in (
    'The decoder uses z.',
    "another text's z costs 6.25 nats",
    '23.25 ± 0.50 nats per sequence, K = 5',
    '3.50 nats per sequence',
    '+6.25',
    '2 of 3',
    'enters at input and memory',
  ):
    assert words in first


@pytest.mark.parametrize('verdict', typing.get_args(collapse.Verdict))
def test_every_verdict_has_its_sentence(verdict):
  found = dataclasses.replace(made_up.the_use(), verdict=verdict)
  evaluation = {'figures': made_up.report(), 'use': found}
  text = read(made_up.a_run(evaluation=evaluation, lines=[])).text
  assert ('does not use z' in text) == (verdict == 'collapsed')
  assert ('no z to use' in text) == (verdict == 'no latent')


def test_every_section_is_there_and_linked():
  reader = whole()
  sections = [attrs['id'] for tag, attrs in reader.elements if tag == 'section']
  links = [attrs['href'] for tag, attrs in reader.elements if tag == 'a']
  assert links == [f'#{name}' for name in sections]
  assert {'figures', 'likelihood', 'information', 'use', 'map'} < set(sections)
  assert {'samples', 'reconstructions', 'curves', 'settings'} < set(sections)


def test_completions_stand_beside_what_is_given():
  rows = [exhibit.Completed('Tom ran <b>', 'He fell.', ['He sat.', 'He won.'])]
  shown = made_up.an_exhibit()._replace(samples=[], completions=rows)
  reader = read(made_up.a_run(exhibit=shown))
  assert 'samples' not in reader.all('id')
  assert 'given text written Tom ran <b> He fell. He sat. He won.' in (
    reader.text
  )


def test_the_classifier_has_a_table():
  label = classification.Label(
    name='good', texts=4, precision=0.5, recall=0.75, f1=0.6
  )
  found = classification.Classification(
    texts=4,
    samples=10,
    accuracy=0.625,
    error=0.125,
    macro_f1=0.6,
    nats=0.5,
    majority=0.5,
    labels=(label,),
  )
  run = made_up.a_run()
  text = read(
    made_up.a_run(evaluation=run.evaluation | {'classification': found})
  ).text
  assert '62.5' in text and 'Classification' in text


def test_what_was_not_measured_is_left_out():
  reader = read(plain())
  assert not {'use', 'map', 'likelihood', 'text'} & set(reader.all('id'))
  assert 'perplexity' in reader.text


@pytest.mark.slow
def test_identifiers_are_unique_and_nothing_is_fetched():
  reader = read(made_up.a_run('a'), made_up.a_run('b', lines=[]))
  names = reader.all('id')
  doubled = {name for name in names if names.count(name) > 1}
  # The same picture twice has the same identifiers, of the same things.
  assert all(re.fullmatch(r'p[0-9a-f]{8}-.*', name) for name in doubled)
  targets = reader.all('href') + reader.all('xlink:href') + reader.all('src')
  assert all(target.startswith('#') for target in targets)
  (policy,) = [
    attrs['content'] for _, attrs in reader.elements if 'http-equiv' in attrs
  ]
  assert "default-src 'none'" in policy


def test_all_figures_are_in_the_table_though_names_repeat():
  reader = whole()
  report = made_up.report().derived()
  for unit in ('perplexity_per_token', 'perplexity_per_word'):
    assert f'{report[f"iw_{unit}"]:.3f}' in reader.text


@pytest.mark.slow
def test_runs_stand_side_by_side():
  other = made_up.report(kl=7.125, texts=5)
  evaluation = made_up.a_run().evaluation | {'figures': other}
  runs = (
    made_up.a_run('first'),
    made_up.a_run('second', evaluation=evaluation),
  )
  reader = read(*runs)
  assert 'figure first second unit' in reader.text
  assert 'KL(q || p) 3.50 7.12 nats per sequence' in reader.text
  # The denominators differ, so each stands by its figure.
  assert len(maps(reader)) == 2


def test_a_run_without_a_section_says_so_beside_one_with_it():
  text = read(made_up.a_run('latent'), plain()).text
  assert text.count('not measured') >= 4


@pytest.mark.slow
def test_texts_of_the_data_are_text_wherever_they_stand():
  nasty = [f'{n} {made_up.NASTY}' for n in range(4)]
  shown = made_up.an_exhibit(nasty)._replace(
    groups={made_up.NASTY: nasty, 'length': ['short'] * 4}
  )
  run = made_up.a_run(
    made_up.NASTY,
    exhibit=shown,
    settings=made_up.a_run().settings | {made_up.NASTY: [made_up.NASTY]},
  )
  reader = read(run)
  tags = [tag for tag, _ in reader.elements]
  # The map's data and the page's own: no other script, no bold letter.
  assert tags.count('script') == 2 and 'b' not in tags[tags.index('nav') :]
  (data,) = maps(reader)
  assert data['texts'] == nasty
  assert data['groups'][0]['name'] == made_up.NASTY
  words = ' '.join(made_up.NASTY.split())
  assert reader.text.count(words) > 10


def test_the_map_has_every_text_with_its_labels():
  (data,) = maps(whole())
  exhibit = made_up.an_exhibit()
  assert data['texts'] == exhibit.texts
  label = data['groups'][0]
  assert [label['labels'][n] for n in label['of']] == exhibit.groups['label']
  assert [view['name'] for view in data['views']] == ['principal axes', 't-SNE']
  assert [view['bar'] > 0 for view in data['views']] == [True, False]


@pytest.mark.slow
@pytest.mark.parametrize(
  ('scale', 'bar'), [(0.0019, 0.001), (1.0, 1.0), (73.0, 10.0)]
)
def test_a_map_is_drawn_to_its_own_size(scale, bar):
  """Of a model that has all but collapsed it is not a handful of places."""
  exhibit = made_up.an_exhibit()
  count = len(exhibit.texts)
  spread = np.stack([np.linspace(0, 1, count), np.zeros(count)], axis=1)
  view = exhibit.views[0]._replace(places=scale * spread)
  (data,) = maps(read(made_up.a_run(exhibit=exhibit._replace(views=[view]))))
  (shown,) = data['views']
  assert shown['bar'] == pytest.approx(bar)
  assert f'The bar is {bar:g} times the standard deviation' in shown['caption']
  places = np.array(shown['places'])
  np.testing.assert_allclose(places, view.places, rtol=1e-3)


def test_labels_beyond_the_colours_share_a_name():
  texts = [f'{chr(97 + n)} text' for n in range(12)]
  exhibit = made_up.an_exhibit(texts)
  exhibit = exhibit._replace(groups={'label': exhibit.groups['label']})
  (data,) = maps(read(made_up.a_run(exhibit=exhibit)))
  (label,) = data['groups']
  assert label['labels'][8:] == ['4 others'] and max(label['of']) == 8


def test_a_split_that_cannot_be_shuffled_is_shown():
  figures = made_up.report(shuffled_nll=math.nan)
  evaluation = made_up.a_run().evaluation | {'figures': figures}
  assert 'cannot be shuffled' in read(made_up.a_run(evaluation=evaluation)).text


def test_the_page_is_written_whole(tmp_path):
  path = tmp_path / 'report' / 'index.html'
  page.write(path, [made_up.a_run('naïve 名前')])
  assert 'naïve 名前' in path.read_text(encoding='utf-8')
  assert list(path.parent.iterdir()) == [path]


def test_a_page_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.UserError, match=r'index.html cannot be written'):
    page.write(tmp_path / 'file' / 'index.html', [made_up.a_run()])


@pytest.fixture(name='browser', scope='module')
def _browser():
  """A headless Chromium: the page after its script, and what it complained."""
  program = next(filter(None, map(shutil.which, _BROWSERS)), None)
  if program is None:
    pytest.skip('no Chromium here')

  def browse(path):
    done = subprocess.run(
      [
        program,
        '--headless',
        '--no-sandbox',
        '--disable-gpu',
        '--disable-dev-shm-usage',
        '--enable-logging=stderr',
        f'--user-data-dir={path.parent / "profile"}',
        '--virtual-time-budget=2000',
        '--dump-dom',
        path.as_uri(),
      ],
      capture_output=True,
      text=True,
      timeout=120,
      check=True,
    )
    console = [line for line in done.stderr.splitlines() if 'CONSOLE' in line]
    return done.stdout, console

  return browse


# What a person would do: point at the third text, choose another colour, and
# ask for one label alone. What the page shows then becomes its title.
_POINT = """
const circle = document.querySelectorAll('.map circle')[2];
const box = circle.getBoundingClientRect();
const at = {clientX: box.x + box.width / 2, clientY: box.y + box.height / 2};
const tip = document.querySelector('.tip');
const found = [tip.hidden];
document.querySelector('.plane svg').dispatchEvent(
  new PointerEvent('pointermove', at));
found.push(tip.hidden, tip.textContent);
const group = document.querySelector('[name=group]');
const names = () => [...document.querySelectorAll('.legend button')].map(
  (button) => button.textContent);
found.push(names());
document.querySelector('.legend button').click();
found.push(document.querySelectorAll('circle.off').length);
group.value = 1;
group.dispatchEvent(new Event('change'));
found.push(names(), document.querySelectorAll('circle.off').length);
const before = circle.getAttribute('cx');
document.title = JSON.stringify(found);
"""


def test_pointing_at_a_text_shows_it(browser, tmp_path):
  texts = ['one two', 'two three', f'four {made_up.NASTY}', 'five six']
  run = made_up.a_run(exhibit=made_up.an_exhibit(texts))
  path = tmp_path / 'index.html'
  # The policy lets no other script run: here it has to.
  whole = re.sub(r'<meta http-equiv[^>]*>', '', page.render([run]))
  path.write_text(whole.replace('</body>', f'<script>{_POINT}</script></body>'))
  dom, console = browser(path)
  assert not console
  title = html.unescape(re.search(r'<title>(.*?)</title>', dom, re.DOTALL)[1])
  hidden, still_hidden, tip, labels, off, lengths, off_again = json.loads(title)
  assert hidden and not still_hidden
  assert tip == f'{texts[2]} (f)'
  assert labels == ['f', 'o', 't'] and off == 2
  assert lengths == ['short'] and off_again == 0


def test_the_page_as_it_is_has_nothing_to_complain_of(browser, tmp_path):
  path = tmp_path / 'index.html'
  page.write(path, [made_up.a_run('a'), plain()])
  dom, console = browser(path)
  assert not console
  # The script ran under the policy: the points are there.
  assert dom.count('<circle') == len(made_up.an_exhibit().texts)
