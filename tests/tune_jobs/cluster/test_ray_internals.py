import ast
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private import ray_constants
from ray._raylet import RAY_NODE_MARKET_TYPE_KEY  # type: ignore[attr-defined]  # not in its stub

from tests.project import ROOT
from tune_jobs.cluster.ray_internals import (
    ENTRIES,
    GCS_PORT,
    MARKET_TYPE,
    PLACEMENT_GROUP_CLEANER,
    Entry,
    keep_keys_out_of_trials,
)

PRIVATE = ("ray._", "ray.core", "ray.train.v2", "ray.tune.execution")
PROGRAM = [*(ROOT / "tune_jobs").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]


def resolve(name: str) -> Any:
    """Return the object of a dotted name: a module, or an attribute in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            value = getattr(value, part)
        return value
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_ray_has_every_private_name_that_is_used(entry: Entry) -> None:
    broken = (
        f"{entry.name} is not in Ray {ray.__version__} (read in {entry.read_in}; used because: {entry.why})"
    )
    try:
        value = resolve(entry.name)
    except (ModuleNotFoundError, AttributeError):
        pytest.fail(broken)
    assert not entry.contains or entry.contains in inspect.getsource(value), broken


def test_a_name_missing_in_ray_is_reported() -> None:
    gone = Entry("ray._private.state.GlobalState.gone", "a test")
    with pytest.raises(
        pytest.fail.Exception, match=r"^ray\._private\.state\.GlobalState\.gone is not in Ray "
    ):
        test_ray_has_every_private_name_that_is_used(gone)


def test_constants_equal_those_of_ray() -> None:
    assert (MARKET_TYPE, GCS_PORT) == (
        RAY_NODE_MARKET_TYPE_KEY,
        ray_constants.GCS_PORT_ENVIRONMENT_VARIABLE,
    )
    assert any(entry.name.endswith(f".{PLACEMENT_GROUP_CLEANER}") for entry in ENTRIES)


@pytest.mark.parametrize("path", PROGRAM, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_module_imports_private_modules_of_ray(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    names |= {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    private = {name for name in names if name.startswith(PRIVATE)}
    assert not private or path.name == "ray_internals.py"


SECRET = "the-secret-of-the-bucket"


def test_runtime_environments_of_trials_have_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.tune.execution import class_cache

    monkeypatch.setattr(class_cache, "ENV_VARS_TO_PROPAGATE", set(class_cache.ENV_VARS_TO_PROPAGATE))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("RAY_TRAIN_V2_ENABLED", "1")
    assert SECRET in environment_values(class_cache)  # otherwise keep_keys_out_of_trials is no longer needed
    keep_keys_out_of_trials()
    assert environment_values(class_cache).isdisjoint({SECRET})
    assert "1" in environment_values(class_cache)


def environment_values(class_cache: Any) -> set[str]:
    """Return the values in the runtime environment of a trial actor."""
    actor = class_cache._ActorClassCache().get(type("Trainable", (), {}))
    return set(actor._default_options["runtime_env"]["env_vars"].values())
