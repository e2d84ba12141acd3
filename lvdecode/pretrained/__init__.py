"""Weights of other projects: folders in Hugging Face's layout, in and out."""
