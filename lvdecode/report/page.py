"""One self-contained HTML page with everything known of one run or several."""

import base64
from collections.abc import Sequence
import functools
import hashlib
import json
import pathlib

import jinja2

from lvdecode.report import exhibit
from lvdecode.report import headline
from lvdecode.report import sections
from lvdecode.report import style
from lvdecode.training import workdir as workdir_lib


def write(path: pathlib.Path, runs: Sequence[exhibit.Run]) -> None:
  """Writes the page of the runs, side by side, as a whole or not at all."""
  text = render(runs)
  with workdir_lib.writing(path):
    path.parent.mkdir(parents=True, exist_ok=True)
  workdir_lib.write_text(path, text)


def render(runs: Sequence[exhibit.Run]) -> str:
  """The page; every string that does not come from the template is escaped."""
  environment = jinja2.Environment(
    loader=jinja2.FunctionLoader(_read),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters['plain_json'] = functools.partial(
    json.dumps, ensure_ascii=False
  )
  script = _read('page.js')
  digest = hashlib.sha256(script.encode()).digest()
  return environment.get_template('page.html').render(
    heads=[headline.head(run) for run in runs],
    sections=sections.make(runs),
    script=script,
    css=_read('page.css'),
    digest=base64.b64encode(digest).decode(),
  )


def _read(name: str) -> str:
  return (style.TEMPLATE / name).read_text(encoding='utf-8')
