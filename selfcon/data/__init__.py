"""Data sets as tensors, and augmented batches without random state."""
