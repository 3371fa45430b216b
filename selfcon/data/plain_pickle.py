"""Safe reading of pickles with dictionaries, lists, text and byte arrays.

No code of the pickle is run: the few global names that such a file needs are replaced by recorder classes,
also those of numpy.
"""

import pickle
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray


class PickledArray:
    """Pickled state of a numpy array: version, shape, type, column order, bytes."""

    def __init__(self, *_: object) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def to_bytes_array(self) -> NDArray[np.uint8]:
        """Return the array. Raises `ValueError` if its type is not uint8, or its length is wrong."""
        _, shape, kind, by_columns, content = self.state
        if not isinstance(kind, PickledType) or kind.name not in (b"u1", "u1"):
            raise ValueError("an array that is not uint8")
        flat = np.frombuffer(content, dtype=np.uint8)
        return flat.reshape(shape, order="F" if by_columns else "C")


class PickledType:
    """Pickled dtype of an array."""

    def __init__(self, name: object = None, *_: object) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        """Ignore the byte order, which does not matter for bytes."""


def load_plain_pickle(content: bytes) -> Any:
    """Return the pickled object, of Python 2 or 3, with arrays as `PickledArray` and text of Python 2 as
    bytes.

    Raises `pickle.UnpicklingError` for other global names, and any error of `pickle` for damaged files.
    """
    return _Unpickler(BytesIO(content), encoding="bytes").load()


_RECORDERS = {
    ("numpy.core.multiarray", "_reconstruct"): PickledArray,
    ("numpy._core.multiarray", "_reconstruct"): PickledArray,
    ("numpy", "ndarray"): PickledArray,
    ("numpy", "dtype"): PickledType,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _RECORDERS:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which is not allowed")
        return _RECORDERS[module, name]
