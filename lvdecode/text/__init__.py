"""Strings to batches; knows nothing of networks."""
