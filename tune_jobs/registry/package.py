"""Encoder as an MLflow model: plain files that load without this project and without pickle.

    MLmodel, requirements.txt, conda.yaml    MLflow's description; flavors python_function and pytorch
    data/model.pt2                           the exported graph with its weights (torch.export)
    encoder/                                 the encoder as `selfcon.export` saves it, for uint8 and exits
    README.md                                the model card

Shape letters: N images, C channels, H height, W width, D feature dimensions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_jobs.errors import SearchError

if TYPE_CHECKING:
    import numpy as np
    from mlflow.models import Model

    from selfcon.export import PixelEncoder

PRODUCT_FOLDER, CARD = "encoder", "README.md"
ADDED_BY_MLFLOW = "registered_model_meta"  # to models downloaded by name
TOLERANCE = 1e-5
_PROGRAM = Path("data", "model.pt2")
_CHECKED_BATCHES = (1, 3, 17)


def write_package(folder: Path, encoder: PixelEncoder, *, image_size: int, description: Model) -> None:
    """Write `encoder` as an MLflow model to the new `folder`, and complete `description` (its MLmodel).

    The model takes float32 images in [0, 1] of shape (N, 3, H, W), H = W = `image_size`, any N, and returns
    the features (N, D) in float32.
    """
    import mlflow.pytorch
    import mlflow.utils.file_utils
    import numpy as np
    import torch
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    float32 = np.dtype("float32")
    mlflow.pytorch.save_model(
        encoder.cpu(),
        str(folder),
        mlflow_model=description,
        signature=ModelSignature(
            inputs=Schema([TensorSpec(float32, (-1, 3, image_size, image_size))]),
            outputs=Schema([TensorSpec(float32, (-1, encoder.feature_dim))]),
        ),
        # torch.export makes the batch dimension dynamic only if it is above 1 in the example.
        input_example=example_images(2, image_size=image_size),
        pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}"],
        serialization_format="pt2",
    )
    _remove_pickled_example(folder / _PROGRAM)
    _describe(description, folder)


def example_images(num_images: int, *, image_size: int) -> np.ndarray[Any, Any]:
    """Return images (N, 3, H, W) of seeded noise in [0, 1], so that no real image is part of a model."""
    import numpy as np

    generator = np.random.default_rng(0)
    images = generator.random((num_images, 3, image_size, image_size), dtype=np.float32)
    return images.round(2)  # two digits keep the JSON copy of the example short


def verify_package(
    folder: Path, encoder: PixelEncoder, *, image_size: int, num_images: Sequence[int] = _CHECKED_BATCHES
) -> None:
    """Load the package as users do, and compare its features with the encoder's.

    Raises `SearchError` if a feature differs by more than 1e-5, absolute and relative.
    """
    import mlflow.pyfunc
    import numpy as np
    import torch

    model = mlflow.pyfunc.load_model(str(folder))
    for count in num_images:
        images = example_images(count, image_size=image_size)
        with torch.no_grad():
            expected = encoder(torch.from_numpy(images)).numpy()
        found = model.predict(images)
        if found.shape != expected.shape or not np.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE):
            raise SearchError(
                f"the exported encoder must give the features of the trained one within "
                f"{TOLERANCE:g}, but differs for a batch of {count}"
            )


def digests_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a folder by its path, without the files that MLflow adds."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ADDED_BY_MLFLOW)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def digest_of_package(folder: Path) -> str:
    """Return the SHA-256 of all files: that of the sorted lines `<SHA-256 of a file> <its path>`."""
    lines = sorted(f"{digest}  {path}\n" for path, digest in digests_of(folder).items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _remove_pickled_example(program: Path) -> None:
    """Remove the example input from the archive of torch.export: it is a pickle, and not needed."""
    import torch

    exported = torch.export.load(program)
    exported.example_inputs = None
    torch.export.save(exported, program)


def _describe(description: Model, folder: Path) -> None:
    """Complete MLmodel: its device, no pickle module, its size."""
    flavor = description.flavors["python_function"]
    # The graph is exported on the CPU and cannot be moved; the default of MLflow would fail on a GPU machine.
    flavor["config"] = {"device": "cpu"}
    flavor.pop("pickle_module_name", None)
    description.model_size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    description.save(str(folder / "MLmodel"))
