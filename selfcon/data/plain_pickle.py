"""Pickles of dictionaries, lists, text and arrays of bytes, read without running anything they name.

The few names that such a file needs are bound to recorders of our own: numpy is not called either.
"""

import pickle
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray


class PickledArray:
    """What a pickle says of a numpy array: its state (version, shape, type, whether by columns, bytes)."""

    def __init__(self, *_: object) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def to_bytes_array(self) -> NDArray[np.uint8]:
        """Return the array. Raises `ValueError` for one of anything but bytes, or of another length."""
        _, shape, kind, by_columns, content = self.state
        if not isinstance(kind, PickledType) or kind.name not in (b"u1", "u1"):
            raise ValueError("an array of something else than bytes")
        flat = np.frombuffer(content, dtype=np.uint8)
        return flat.reshape(shape, order="F" if by_columns else "C")


class PickledType:
    """What a pickle says of the type of an array's elements."""

    def __init__(self, name: object = None, *_: object) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        """The byte order, which bytes do not have."""


def load_plain_pickle(content: bytes) -> Any:
    """Return what was pickled, by Python 2 or 3, with arrays as `PickledArray`; Python 2's text is bytes.

    Raises `pickle.UnpicklingError` for a pickle that names anything else, and whatever `pickle` raises for a
    damaged one.
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
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no plain data needs")
        return _RECORDERS[module, name]
