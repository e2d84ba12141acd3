"""The snippets of docs/conditional.md are settings that can be trained with."""

import re

import house
import jax
import pytest

from configs import base
from lvdecode import settings as settings_lib
from lvdecode.latent import vae
from lvdecode.tasks import latent

PAGE = (house.ROOT / 'docs' / 'conditional.md').read_text()
SNIPPETS = re.findall(
  r'^## ([^\n]*)\n(?:(?!^## ).)*?^```python\n(.*?)^```$',
  PAGE,
  re.DOTALL | re.MULTILINE,
)


def test_every_section_but_the_last_has_a_snippet():
  titles = re.findall('^## (.*)', PAGE, re.MULTILINE)
  assert [title for title, _ in SNIPPETS] == titles[:-1]


@pytest.mark.parametrize(
  ('title', 'snippet'), SNIPPETS, ids=[title for title, _ in SNIPPETS]
)
def test_a_snippet_is_accepted(title, snippet):
  config = base.get_config('quick').lock()
  exec(snippet, {'c': config})
  settings = settings_lib.from_dict(config.to_dict())
  assert settings.data.conditional
  assert settings.model.conditional
  assert settings.data.labels_given == ('Label' in title or 'given' in title)
  task = latent.LatentTask(vae.VAE(settings.model, 9, 9), settings.objective, 3)
  jax.eval_shape(task.init, jax.random.key(0))
