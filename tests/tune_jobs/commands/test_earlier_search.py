"""A search that version 0.1 started is resumed, and the encoder that it registered is loaded."""

import csv
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from tests.earlier_versions import VERSION_0_1, unpack
from tests.launches import launched
from tune_jobs.registry import load_encoder

pytestmark = [pytest.mark.cluster, pytest.mark.soak, pytest.mark.timeout(300)]

# What version 0.1 wrote at the end of the same search, resumed on another machine.
EXPECTED = VERSION_0_1.with_name("version_0_1_killed.csv")
MEASURED = ("cost/", "started", "finished", "mlflow", "attempts")


def table(path: Path) -> list[dict[str, str]]:
    """The table of trials without times and costs."""
    with path.open(newline="") as file:
        return [
            {name: value for name, value in row.items() if not name.startswith(MEASURED)}
            for row in csv.DictReader(file)
        ]


def test_a_killed_search_of_version_0_1_completes_with_the_table_of_version_0_1(
    tmp_path: Path,
    start_mlflow_server: Callable[..., AbstractContextManager[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = unpack(tmp_path)
    with start_mlflow_server(folder) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with launched(folder, "--space", "killed.yaml") as launch:
            code, text = launch.end()
        assert code == 0, text
        assert re.search("trial 3 +resumes after epoch 2", text), text
        assert table(folder / "runs/killed/trials.csv") == table(EXPECTED)
        encoder = load_encoder("models:/digits-0-1/1")  # registered by version 0.1
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    assert encoder(images).shape == (3, 32)
    assert encoder.class_names == tuple("0123456789")
    assert encoder.ensemble_logits(images).shape == (3, 10)
