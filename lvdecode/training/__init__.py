"""A step, repeated: optimiser, devices, checkpoints and the loop."""
