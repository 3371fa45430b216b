"""Self-Contrastive learning: the method, without a cluster.

Public names are loaded at their first use: importing `selfcon` loads neither torch nor numpy.

    >>> import selfcon
    >>> selfcon.TrainConfig().loss.temperature
    0.1
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfcon.config import TrainConfig
    from selfcon.data.dataset import load_dataset
    from selfcon.evaluate import evaluate_encoder
    from selfcon.export import load_encoder
    from selfcon.loss import selfcon_loss
    from selfcon.model import build_encoder
    from selfcon.train import fit

__all__ = [
    "TrainConfig",
    "build_encoder",
    "evaluate_encoder",
    "fit",
    "load_dataset",
    "load_encoder",
    "selfcon_loss",
]

_MODULES = {
    "TrainConfig": "selfcon.config",
    "build_encoder": "selfcon.model",
    "evaluate_encoder": "selfcon.evaluate",
    "fit": "selfcon.train",
    "load_dataset": "selfcon.data.dataset",
    "load_encoder": "selfcon.export",
    "selfcon_loss": "selfcon.loss",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
