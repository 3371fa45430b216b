"""Checks of the `ray up` cluster that do not need a cloud."""

import copy
import re
import shlex
import subprocess
from typing import Any

import pytest
import yaml
from ray._raylet import RAY_NODE_MARKET_TYPE_KEY  # type: ignore[attr-defined]  # not in its stub
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start

from tests.project import ROOT

CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "ray-up" / "cluster.yaml").read_text())
NODE_TYPES: dict[str, Any] = CONFIG["available_node_types"]
STARTS = {key: CONFIG[key] for key in ("head_start_ray_commands", "worker_start_ray_commands")}
COMMANDS = [command for key, commands in CONFIG.items() if key.endswith("_commands") for command in commands]


def test_the_cluster_is_valid_for_ray() -> None:
    prepared = prepare_config(copy.deepcopy(CONFIG))
    validate_config(prepared)
    assert prepared["available_node_types"]["training"]["max_workers"] == CONFIG["max_workers"]


def test_worker_types_have_nodes_from_the_start_and_the_head_has_no_resources() -> None:
    for name, node_type in NODE_TYPES.items():
        if name == CONFIG["head_node_type"]:
            assert not any(node_type["resources"].values())
        else:
            assert 1 <= node_type["min_workers"] <= node_type["max_workers"]


@pytest.mark.parametrize("node_type", NODE_TYPES.values(), ids=list(NODE_TYPES))
def test_spot_nodes_are_labelled(node_type: dict[str, Any]) -> None:
    market = node_type["node_config"].get("InstanceMarketOptions", {"MarketType": "on-demand"})
    assert node_type["labels"] == {RAY_NODE_MARKET_TYPE_KEY: market["MarketType"]}


def test_the_head_is_not_a_spot_node() -> None:
    assert "InstanceMarketOptions" not in NODE_TYPES[CONFIG["head_node_type"]]["node_config"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_valid_shell(command: str) -> None:
    subprocess.run(["bash", "-n", "-c", command], check=True)


def test_the_project_is_installed_with_the_constraints() -> None:
    (install,) = [command for command in CONFIG["setup_commands"] if "pip install" in command]
    assert "--constraint constraints.txt" in install
    assert CONFIG["file_mounts"]["/home/ubuntu/search"] == "."


@pytest.mark.parametrize("commands", STARTS.values(), ids=list(STARTS))
def test_ray_starts_with_a_token_and_existing_options(commands: list[str]) -> None:
    (command,) = [command for command in commands if "ray start" in command]
    assert "RAY_AUTH_MODE=token" in command
    known = {option for parameter in start.params for option in parameter.opts}
    assert set(re.findall(r"--[\w-]+", command)) <= known


def test_the_token_file_is_readable_only_by_its_user() -> None:
    assert CONFIG["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    assert shlex.split(CONFIG["setup_commands"][0]) == ["chmod", "600", "~/.ray/auth_token"]
