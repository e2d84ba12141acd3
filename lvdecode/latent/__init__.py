"""Everything that knows the latent z."""
