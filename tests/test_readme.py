"""What the documents say is so: commands run, files exist, tables are whole."""

import configparser
import re
import shlex

import house
import pytest

from lvdecode.latent import condition
from lvdecode.latent import injection
from lvdecode.text import embedded

README = house.ROOT / 'README.md'
DOCUMENTS = sorted(house.ROOT.glob('*.md')) + sorted(
  (house.ROOT / 'docs').rglob('*.md')
)


def blocks(language):
  """The code blocks of the README in one language, in order."""
  return re.findall(
    rf'^```{language}\n(.*?)^```$', README.read_text(), re.DOTALL | re.MULTILINE
  )


def commands():
  """Every command of the README as a list of words, in order."""
  lines = ''.join(blocks('sh')).replace('\\\n', ' ').splitlines()
  return [shlex.split(line, comments=True) for line in lines if line.strip()]


def quick(words):
  """The one change to a command: a run is that of the config's quick variant.

  `--config=configs/x.py` becomes `--config=configs/x.py:quick`.
  """
  return [
    f'{word}:quick' if re.fullmatch(r'--config=\S+\.py', word) else word
    for word in words
  ]


def test_the_readme_has_commands_and_an_example():
  programs = [' '.join(words[:3]) for words in commands()]
  assert programs[0] == 'make quickstart'
  assert programs[1] == 'make test'
  for name in ('run', 'evaluate', 'sample', 'export'):
    assert f'python -m experiments.{name}' in programs
  assert len(blocks('python')) == 1


def test_make_has_the_targets_of_the_readme():
  makefile = (house.ROOT / 'Makefile').read_text()
  for words in commands():
    # `make`, whose targets are looked up, or `python`, which is run below.
    assert words[0] in ('make', 'python')
    if words[0] == 'make':
      assert re.search(rf'^{words[1]}:', makefile, re.MULTILINE), words


@pytest.mark.slow
def test_every_command_runs_as_written(quickstart):
  sentences = [text for text, _ in embedded.generate()['validation'][:400]]
  (quickstart / 'my_texts.txt').write_text('\n'.join(sentences))
  for words in commands():
    if words[0] == 'python':
      assert house.python(quickstart, *quick(words[1:])).strip(), words


@pytest.mark.slow
def test_the_example_runs_as_written(quickstart):
  printed = house.python(quickstart, '-c', blocks('python')[0])
  assert len(printed.splitlines()) == 3
  picture = (quickstart / 'map.png').read_bytes()
  assert picture.startswith(b'\x89PNG')


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
  for target in re.findall(r'\]\(([^)#]+)\)', document.read_text()):
    if not target.startswith('https://'):
      assert (document.parent / target).exists(), target


def test_pictures_are_small():
  pictures = list((house.ROOT / 'docs' / 'images').iterdir())
  assert pictures
  for picture in pictures:
    assert picture.stat().st_size < 100_000, picture


def test_every_injection_point_and_every_route_is_in_its_table():
  named = re.findall(r'^\| `(\w+)`', README.read_text(), re.MULTILINE)
  ways = injection.POINTS + condition.ROUTES
  assert list(dict.fromkeys(named)) == list(dict.fromkeys(ways))


def test_the_map_names_every_room_and_no_other():
  named = re.findall(
    r'^\| `([\w/.]+(?:/|[.]py))` \|', README.read_text(), re.MULTILINE
  )
  package = house.ROOT / 'lvdecode'
  rooms = [
    f'lvdecode/{path.parent.name}/' for path in package.glob('*/__init__.py')
  ]
  files = [f'lvdecode/{path.name}' for path in package.glob('[a-z]*.py')]
  assert {name for name in named if name.startswith('lvdecode/')} == {
    *rooms,
    *files,
  }
  for name in named:
    assert (house.ROOT / name).exists(), name


def test_every_dependency_has_a_line_with_its_reason():
  page = house.ROOT / 'docs' / 'decisions' / '0004-dependencies.md'
  named = re.findall(r'^\| ([\w-]+) \| .*\w', page.read_text(), re.MULTILINE)
  setup = configparser.ConfigParser()
  setup.read(house.ROOT / 'setup.cfg')
  lists = [
    setup['options']['install_requires'],
    *setup['options.extras_require'].values(),
  ]
  wanted = re.findall(r'^([\w-]+)', '\n'.join(lists), re.MULTILINE)
  assert sorted(set(named) - {'package'}) == sorted(set(wanted))
