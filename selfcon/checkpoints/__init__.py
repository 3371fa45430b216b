"""Checkpoints of training runs: state, files and names."""
