import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selfcon.data.plain_pickle import PickledArray, load_plain_pickle
from tests.selfcon.tiny_datasets import write_python2_pickle

ARRAY = np.arange(60, dtype=np.uint8).reshape(5, 12)


class Malicious:
    def __reduce__(self) -> Any:
        return os.mkdir, ("made by a pickle",)


def python2(tmp_path: Path, value: object) -> Any:
    write_python2_pickle(tmp_path / "pickle", value)
    return load_plain_pickle((tmp_path / "pickle").read_bytes())


def test_python_2_pickles_are_read_like_pickle_and_numpy_do(tmp_path: Path) -> None:
    table = {b"data": ARRAY, b"labels": [3, 1], b"long": b"x" * 1000}
    found = python2(tmp_path, table)
    assert np.array_equal(found.pop(b"data").to_bytes_array(), ARRAY)
    assert found == {b"labels": [3, 1], b"long": b"x" * 1000}
    stock = pickle.loads((tmp_path / "pickle").read_bytes(), encoding="bytes")
    assert np.array_equal(stock[b"data"], ARRAY)


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("array", [ARRAY, np.asfortranarray(ARRAY), ARRAY[:0], ARRAY[:, ::2]])
def test_byte_arrays_of_python_3_are_read(array: Any, protocol: int) -> None:
    found = load_plain_pickle(pickle.dumps({"a": [array]}, protocol=protocol))
    assert np.array_equal(found["a"][0].to_bytes_array(), array)


def test_arrays_of_other_types_are_rejected() -> None:
    for array in (np.zeros(3), np.zeros(3, dtype=np.int8), np.array([Malicious()], dtype=object)[:0]):
        found = load_plain_pickle(pickle.dumps(array, protocol=4))
        with pytest.raises(ValueError, match="an array that is not uint8"):
            found.to_bytes_array()


def test_array_shorter_than_its_shape_is_rejected() -> None:
    found = PickledArray()
    found.__setstate__((1, (5, 12), load_plain_pickle(pickle.dumps(np.dtype("u1"), 4)), False, bytes(59)))
    with pytest.raises(ValueError, match="reshape"):
        found.to_bytes_array()


@pytest.mark.parametrize("protocol", range(6))
def test_code_in_a_pickle_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int) -> None:
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps({"data": Malicious()}, protocol=protocol)
    with pytest.raises(pickle.UnpicklingError, match=r"it refers to \w+\.mkdir, which is not allowed"):
        load_plain_pickle(content)
    assert list(tmp_path.iterdir()) == []
    pickle.loads(content)
    assert (tmp_path / "made by a pickle").is_dir()


@pytest.mark.parametrize("value", [os.system, eval, np.load, type, pickle.loads])
def test_all_other_global_names_are_rejected(value: object) -> None:
    with pytest.raises(pickle.UnpicklingError, match="which is not allowed"):
        load_plain_pickle(pickle.dumps(value))
