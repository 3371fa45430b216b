"""The search platform around selfcon: Ray, Optuna and MLflow live here. Importing it imports nothing else."""
