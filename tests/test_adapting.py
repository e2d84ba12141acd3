"""The snippets of docs/adapting.md are settings that can be trained with."""

import re

import house
import jax
import pytest

from configs import base
from lvdecode import settings as settings_lib
from lvdecode.latent import vae
from lvdecode.tasks import latent
from lvdecode.training import optimizer

PAGE = (house.ROOT / 'docs' / 'adapting.md').read_text()
SNIPPETS = re.findall(
  r'^## (.*?)\n.*?^```python\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE
)


def test_every_section_has_a_snippet():
  assert [title for title, _ in SNIPPETS] == re.findall(
    '^## (.*)', PAGE, re.MULTILINE
  )


@pytest.mark.parametrize(
  ('title', 'snippet'), SNIPPETS, ids=[title for title, _ in SNIPPETS]
)
def test_a_snippet_is_accepted(title, snippet):
  config = base.get_config('quick').lock()
  exec(snippet, {'c': config})
  assert config != base.get_config('quick').lock()
  settings = settings_lib.from_dict(config.to_dict())
  task = latent.LatentTask(vae.VAE(settings.model, 9, 9), settings.objective, 3)
  shapes = jax.eval_shape(task.init, jax.random.key(0))
  made = optimizer.make(settings.optimizer, settings.training.steps, shapes)
  assert len(made.stages) == (3 if title == 'Stages' else 1)
  frozen = title in ('LoRA', 'A frozen decoder that is told z')
  assert any(jax.tree.leaves(made.trainable['decoder'])) != frozen
