"""Registration of the winner's encoder as a model version in MLflow.

Public function: `from tune_jobs.registry import load_encoder`.
"""

from tune_jobs.registry.load import load_encoder

__all__ = ["load_encoder"]
