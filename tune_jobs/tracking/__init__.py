"""The MLflow runs of a search, kept equal to its study."""
