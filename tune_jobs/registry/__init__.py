"""The winner's encoder as a registered version in MLflow.

`load_encoder` is for users: `from tune_jobs.registry import load_encoder`.
"""

from tune_jobs.registry.load import load_encoder

__all__ = ["load_encoder"]
