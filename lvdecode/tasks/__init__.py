"""What is asked of a model: a loss, and per-example metrics."""
