"""Which network reads what, and whose its parameters are: by the settings."""

from lvdecode.latent import sizes

# Names of the networks that read; the second and the third are there where the
# first does not read for the prior, or for the routes.
ENCODER, OF_PRIOR, OF_ROUTES = 'encoder', 'prior_encoder', 'condition_encoder'
DECODER = 'decoder'
READERS = (ENCODER, OF_PRIOR, OF_ROUTES)
NETWORKS = (DECODER, *READERS)
SEGMENTS = 'segments'


def for_prior(settings: sizes.ModelSettings) -> str:
  """What reads a condition for p(z | x)."""
  return ENCODER if settings.prior.share else OF_PRIOR


def for_routes(settings: sizes.ModelSettings) -> str:
  """What reads a condition for the decoder."""
  return ENCODER if settings.condition.share else OF_ROUTES


def is_decoder(settings: sizes.ModelSettings, name: str) -> bool:
  """Whether the network's blocks are the decoder's."""
  return name == ENCODER and settings.encoder.kind == 'decoder'


def embeds(settings: sizes.ModelSettings, name: str) -> str:
  """The network by whose embeddings it reads."""
  shared = settings.encoder.kind == 'shared_embeddings'
  return DECODER if shared or is_decoder(settings, name) else name


def heads(settings: sizes.ModelSettings, name: str) -> int:
  """Its attention heads, of which its pooling has as many."""
  own = settings.decoder if is_decoder(settings, name) else settings.encoder
  return own.heads


def part(settings: sizes.ModelSettings, path: str) -> str:
  """Whose the parameter is: 'encoder', 'decoder', or 'both' for shared.

  What reads a condition for p(z | x) or for the decoder is of the model itself,
  as the prior is: 'encoder' is what makes q alone.
  """
  top, _, rest = path.partition('/')
  if top == 'posterior':
    return 'encoder'
  if top in (ENCODER, f'{SEGMENTS}_{ENCODER}'):
    learned = settings.prior.kind == 'learned'
    serves = (learned and settings.prior.share) or (
      settings.condition.encoded and settings.condition.share
    )
    return 'both' if serves else 'encoder'
  if top not in (DECODER, f'{SEGMENTS}_{DECODER}') or not (
    settings.injection.points
  ):
    return 'decoder'
  embedding = top != DECODER or rest.startswith(('wte/', 'wpe/'))
  kind = settings.encoder.kind
  shared = kind == 'decoder' or (kind == 'shared_embeddings' and embedding)
  return 'both' if shared else 'decoder'
