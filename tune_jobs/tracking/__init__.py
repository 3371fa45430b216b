"""MLflow runs of a search, synchronised from its study."""
