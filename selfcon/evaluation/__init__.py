"""Evaluation of frozen features: linear probes, nearest neighbours, confusion matrix."""
