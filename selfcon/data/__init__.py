"""Data sets as tensors, and batches whose every random draw is a function of what it is for."""
