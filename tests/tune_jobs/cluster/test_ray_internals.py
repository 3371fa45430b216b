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


def found(name: str) -> Any:
    """What a dotted name of a module, and of what is in it, stands for."""
    words = name.split(".")
    for length in range(len(words), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(words[:length]))
        except ModuleNotFoundError:
            continue
        for word in words[length:]:
            value = getattr(value, word)
        return value
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_ray_still_has_what_is_used_of_it(entry: Entry) -> None:
    broken = (
        f"{entry.name} is not in Ray {ray.__version__} (read in {entry.read_in}; used since: {entry.why})"
    )
    try:
        value = found(entry.name)
    except (ModuleNotFoundError, AttributeError):
        pytest.fail(broken)
    assert not entry.contains or entry.contains in inspect.getsource(value), broken


def test_an_entry_that_ray_no_longer_has_is_named() -> None:
    gone = Entry("ray._private.state.GlobalState.gone", "a test")
    with pytest.raises(
        pytest.fail.Exception, match=r"^ray\._private\.state\.GlobalState\.gone is not in Ray "
    ):
        test_ray_still_has_what_is_used_of_it(gone)


def test_names_are_rays_own() -> None:
    assert (MARKET_TYPE, GCS_PORT) == (
        RAY_NODE_MARKET_TYPE_KEY,
        ray_constants.GCS_PORT_ENVIRONMENT_VARIABLE,
    )
    assert any(entry.name.endswith(f".{PLACEMENT_GROUP_CLEANER}") for entry in ENTRIES)


@pytest.mark.parametrize("path", PROGRAM, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_module_reaches_into_rays_private_modules(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    names |= {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    private = {name for name in names if name.startswith(PRIVATE)}
    assert not private or path.name == "ray_internals.py"


SECRET = "the-secret-of-the-bucket"


def test_keys_do_not_go_into_the_runtime_environment_of_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.tune.execution import class_cache

    monkeypatch.setattr(class_cache, "ENV_VARS_TO_PROPAGATE", set(class_cache.ENV_VARS_TO_PROPAGATE))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("RAY_TRAIN_V2_ENABLED", "1")
    assert SECRET in passed_on(class_cache)  # else Ray has changed, and nothing is left to do
    keep_keys_out_of_trials()
    assert passed_on(class_cache).isdisjoint({SECRET})
    assert "1" in passed_on(class_cache)


def passed_on(class_cache: Any) -> set[str]:
    """The values that Tune gives to the actor of a trial."""
    actor = class_cache._ActorClassCache().get(type("Trainable", (), {}))
    return set(actor._default_options["runtime_env"]["env_vars"].values())
