from typing import Any

import pytest

from tune_jobs.cluster.session import keep_keys_out

SECRET = "the-secret-of-the-bucket"


def test_keys_do_not_go_into_the_runtime_environment_of_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.tune.execution import class_cache

    monkeypatch.setattr(class_cache, "ENV_VARS_TO_PROPAGATE", set(class_cache.ENV_VARS_TO_PROPAGATE))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("RAY_TRAIN_V2_ENABLED", "1")
    assert SECRET in passed_on(class_cache)  # else Ray has changed, and nothing is left to do
    keep_keys_out()
    assert passed_on(class_cache).isdisjoint({SECRET})
    assert "1" in passed_on(class_cache)


def passed_on(class_cache: Any) -> set[str]:
    """The values that Tune gives to the actor of a trial."""
    actor = class_cache._ActorClassCache().get(type("Trainable", (), {}))
    return set(actor._default_options["runtime_env"]["env_vars"].values())
