"""Networks that have never heard of a latent."""
