"""Checkpoint storage, validation and retention."""
