"""Checks of the KubeRay manifests that do not need Kubernetes.

Pods and policies are validated against Kubernetes' OpenAPI schema. KubeRay's resources are validated against
the schema below, which has the fields used here, from the ray.io/v1 types (ray-project/kuberay,
ray-operator/apis/ray/v1) and the API reference.
"""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray._raylet import RAY_NODE_MARKET_TYPE_KEY  # type: ignore[attr-defined]  # not in its stub
from ray.scripts.scripts import start

from selfcon.version import VERSION
from tests.project import ROOT
from tune_jobs.commands.command_line import parse

FOLDER = ROOT / "deploy" / "kuberay"
KUBERNETES = "1.34"
LAUNCHER_SECRET, STORAGE_SECRET = "selfcon-launcher", "selfcon-storage"
Manifest = dict[str, Any]


def _closed(required: str = "", **properties: Manifest) -> Manifest:
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


STRING: Manifest = {"type": "string"}
BOOLEAN: Manifest = {"type": "boolean"}
COUNT: Manifest = {"type": "integer", "minimum": 0}
STRINGS: Manifest = {"type": "object", "additionalProperties": STRING}
GROUP: dict[str, Manifest] = {"labels": STRINGS, "rayStartParams": STRINGS, "template": {"type": "object"}}
HEAD_GROUP = _closed(
    "rayStartParams template", serviceType={"enum": ["ClusterIP"]}, enableIngress={"const": False}, **GROUP
)
WORKER_GROUP = _closed(
    "groupName minReplicas maxReplicas rayStartParams template",
    groupName=STRING, replicas=COUNT, minReplicas=COUNT, maxReplicas=COUNT, **GROUP,
)  # fmt: skip
CLUSTER_SPEC = _closed(
    "rayVersion authOptions headGroupSpec",
    rayVersion=STRING,
    authOptions=_closed("mode", mode={"const": "token"}),
    headGroupSpec=HEAD_GROUP,
    workerGroupSpecs={"type": "array", "items": WORKER_GROUP},
)
JOB_SPEC = _closed(
    "entrypoint rayClusterSpec",
    entrypoint=STRING,
    submissionMode={"const": "HTTPMode"},
    backoffLimit=COUNT,
    shutdownAfterJobFinishes=BOOLEAN,
    ttlSecondsAfterFinished=COUNT,
    rayClusterSpec=CLUSTER_SPEC,
)


def _resource(kind: str, spec: Manifest) -> Manifest:
    return _closed(
        "apiVersion kind metadata spec",
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=_closed("name", name={"type": "string", "pattern": "^[a-z][-a-z0-9]{0,46}$"}),
        spec=spec,
    )


def _load(name: str) -> Manifest:
    manifest: Manifest = yaml.safe_load((FOLDER / name).read_text())
    return manifest


CLUSTER, JOB, POLICY = _load("cluster.yaml"), _load("job.yaml"), _load("network-policy.yaml")
HEAD: Manifest = CLUSTER["spec"]["headGroupSpec"]
WORKERS: dict[str, Manifest] = {group["groupName"]: group for group in CLUSTER["spec"]["workerGroupSpecs"]}
GROUPS = {"head": HEAD, **WORKERS}
CONSTRAINTS = dict(re.findall(r"^([\w-]+)==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))


@pytest.fixture(params=GROUPS.values(), ids=list(GROUPS))
def group(request: pytest.FixtureRequest) -> Manifest:
    found: Manifest = request.param
    return found


@pytest.fixture
def pod(group: Manifest) -> Manifest:
    found: Manifest = group["template"]["spec"]
    return found


@pytest.fixture
def container(pod: Manifest) -> Manifest:
    (found,) = pod["containers"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("manifest", "schema"),
    [(CLUSTER, _resource("RayCluster", CLUSTER_SPEC)), (JOB, _resource("RayJob", JOB_SPEC))],
    ids=["cluster", "job"],
)
def test_a_manifest_has_the_fields_of_kuberay(manifest: Manifest, schema: Manifest) -> None:
    jsonschema.validate(manifest, schema)


def test_the_job_runs_on_the_same_cluster() -> None:
    assert JOB["spec"]["rayClusterSpec"] == CLUSTER["spec"]


def test_kubernetes_accepts_the_pods(group: Manifest) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", **group["template"]}
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_the_policy_is_valid_and_selects_every_pod(group: Manifest) -> None:
    kubernetes_validate.validate(POLICY, KUBERNETES, strict=True)
    selected = POLICY["spec"]["podSelector"]["matchLabels"]
    assert selected.items() <= group["template"]["metadata"]["labels"].items()


def test_the_job_runs_a_shipped_space() -> None:
    words = shlex.split(JOB["spec"]["entrypoint"])
    options = parse(words[words.index("launch.py") + 1 :])
    assert options.space is not None
    assert (ROOT / options.space).is_file()


def test_image_tags_contain_the_pinned_versions(container: Manifest) -> None:
    assert CLUSTER["spec"]["rayVersion"] == CONSTRAINTS["ray"]
    assert container["image"].partition(":")[2] == f"{VERSION}-ray{CONSTRAINTS['ray']}"


def test_ray_start_parameters_exist(group: Manifest) -> None:
    known = {option for parameter in start.params for option in parameter.opts}
    assert {f"--{name}" for name in group["rayStartParams"]} <= known


def test_requests_of_a_container_are_equal_to_its_limits(container: Manifest) -> None:
    resources = container["resources"]
    assert {"cpu", "memory"} <= resources["limits"].keys()
    assert resources["requests"] == resources["limits"]


def test_secrets_are_those_that_the_guide_creates(container: Manifest) -> None:
    assert all(re.fullmatch(r"\d+", variable["value"]) for variable in container["env"])
    guide = (ROOT / "docs" / "cluster.md").read_text()
    for source in container["envFrom"]:
        assert f"kubectl create secret generic {source['secretRef']['name']} --from-env-file" in guide


def test_no_secret_has_the_name_of_the_token_secret() -> None:
    assert CLUSTER["metadata"]["name"] not in (LAUNCHER_SECRET, STORAGE_SECRET)


def test_only_the_launcher_gets_the_database() -> None:
    for name, group in GROUPS.items():
        (container,) = group["template"]["spec"]["containers"]
        secrets = {source["secretRef"]["name"] for source in container["envFrom"]}
        assert secrets == {STORAGE_SECRET, *([LAUNCHER_SECRET] if name == "head" else [])}


def test_pods_do_not_run_as_root_and_cannot_escalate(pod: Manifest, container: Manifest) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_every_mount_has_its_volume(pod: Manifest, container: Manifest) -> None:
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_spot_nodes_are_labelled(group: Manifest, pod: Manifest) -> None:
    assert group["labels"] == {RAY_NODE_MARKET_TYPE_KEY: pod["nodeSelector"]["karpenter.sh/capacity-type"]}


def test_training_alone_takes_cpus_and_may_be_preempted() -> None:
    for name, group in GROUPS.items():
        assert (group["rayStartParams"].get("num-cpus") == "0") is (name != "training")
        assert (group["labels"][RAY_NODE_MARKET_TYPE_KEY] == "spot") is (name == "training")


@pytest.mark.parametrize("group", WORKERS.values(), ids=list(WORKERS))
def test_the_number_of_nodes_is_fixed(group: Manifest) -> None:
    assert 1 <= group["minReplicas"] == group["replicas"] == group["maxReplicas"]


def test_a_preempted_pod_has_time_to_drain(run_python: Callable[..., Any], tmp_path: Path) -> None:
    pod = WORKERS["training"]["template"]["spec"]
    (container,) = pod["containers"]
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    code = "from ray._private import ray_constants as ray; print(ray.RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S)"
    drain_s = float(run_python(code, cwd=tmp_path, environment=environment).stdout)
    assert drain_s == 90
    assert drain_s < pod["terminationGracePeriodSeconds"]
