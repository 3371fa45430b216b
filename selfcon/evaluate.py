"""Public path of the evaluation: `from selfcon.evaluate import evaluate_encoder`."""

from selfcon.evaluation.evaluate import (
    Evaluation,
    evaluate_encoder,
    extract_features,
    predict_by_neighbours,
    predict_classes,
    probes_of,
)

__all__ = [
    "Evaluation",
    "evaluate_encoder",
    "extract_features",
    "predict_by_neighbours",
    "predict_classes",
    "probes_of",
]
