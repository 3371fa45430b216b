"""How good frozen features are: probes, nearest neighbours, confusion matrix."""
