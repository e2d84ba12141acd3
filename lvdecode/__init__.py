"""Latent-variable text decoders: how to tell a GPT about z."""


def load(workdir, step=None):
  """Opens a trained model; see `lvdecode.restore.load`."""
  from lvdecode import restore  # JAX loads when it is needed, not before

  return restore.load(workdir, step)
