"""One search as the documentation starts it, and all that the documentation then does with what it left."""

import re
import runpy
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.project import ROOT

pytestmark = pytest.mark.cluster

README = (ROOT / "README.md").read_text(encoding="utf-8")


def example(name: str) -> Callable[..., None]:
    main: Callable[..., None] = runpy.run_path(str(ROOT / "examples" / name))["main"]
    return main


def test_what_the_documentation_does_with_a_finished_search(
    launch_search: Callable[..., AbstractContextManager[Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with launch_search(tmp_path, "--space", str(ROOT / "search_spaces/smoke.yaml")) as search:
        code, lines = search.end()
    assert code == 0, lines
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    example("read_study.py")("runs/smoke/study.db")
    table = capsys.readouterr().out
    assert table.startswith("smoke/smoke: 3 trials\n")
    assert len(re.findall(r"^ +\d+  (?:COMPLETE|PRUNED) ", table, re.MULTILINE)) == 3
    assert "best: trial" in table

    example("load_encoder.py")()
    told = capsys.readouterr().out
    assert "features of 359 test images: (359, 32)" in told
    assert float(re.findall(r"pyfunc differs by (\S+)", told)[0]) < 1e-4

    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, Any] = {}
    exec(block.replace("16, 16", "8, 8"), names)
    assert names["features"].shape == (3, 32)
    assert names["features"].dtype == np.float32
