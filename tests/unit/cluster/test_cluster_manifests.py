"""Every manifest in cluster/ against the schemas of what will read it."""

from __future__ import annotations

import copy
import gzip
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from adbeam.cluster.checks import check_serve
from adbeam.cluster.config import ClusterConfig
from adbeam.cluster.manifests import ray_service
from adbeam.cluster.render import load, render, stale, write
from adbeam.config import Config
from adbeam.errors import UserError
from adbeam.jobs.steps import STEPS, Step
from adbeam.serving.config import StoreConfig

ROOT = Path(__file__).parents[3]
CLUSTER = ROOT / "cluster"
SCHEMAS = ROOT / "tests" / "schemas" / "kuberay"
KINDS = {"RayCluster": "rayclusters", "RayJob": "rayjobs", "RayService": "rayservices"}
KUBERNETES = "1.34"
SERVE = {"applications": [{"name": "ads", "import_path": "adbeam.serving.app:build", "args": {"bundle": "runs/x"}}]}


@pytest.fixture(scope="module")
def crds() -> dict[str, Draft202012Validator]:
    """A strict validator of each KubeRay kind (version v1)."""
    return {kind: Draft202012Validator(_schema(plural)) for kind, plural in KINDS.items()}


def _schema(plural: str) -> dict[str, Any]:
    with gzip.open(SCHEMAS / f"ray.io_{plural}.yaml.gz") as stream:
        definition = yaml.load(stream, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    version = next(version for version in definition["spec"]["versions"] if version["name"] == "v1")
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    _strict(schema)
    return schema


def _strict(schema: dict[str, Any]) -> None:
    """Refuse unknown fields, as the API server does, except where the schema keeps them."""
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    inner = [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]
    for part in inner:
        if isinstance(part, dict):
            _strict(part)


def _documents() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{path.name}#{index}", document)
        for path in sorted(CLUSTER.glob("*.yaml"))
        for index, document in enumerate(yaml.safe_load_all(path.read_text()))
        if "kind" in document
    ]


def _pod_templates(document: dict[str, Any]) -> list[dict[str, Any]]:
    spec = document["spec"]
    cluster = spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec
    return [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


DOCUMENTS = _documents()
RAY = [(name, document) for name, document in DOCUMENTS if document["kind"] in KINDS]
MONITORING = [name for name, document in DOCUMENTS if document["apiVersion"].startswith("monitoring.coreos.com")]
CORE = [(name, document) for name, document in DOCUMENTS if document["apiVersion"].split("/")[0] in
        ("v1", "apps", "networking.k8s.io", "batch")]  # fmt: skip


def _each(documents: list[tuple[str, dict[str, Any]]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("document", [pytest.param(value, id=name) for name, value in documents])


def test_every_step_and_kind_has_a_manifest() -> None:
    names = {path.name for path in CLUSTER.glob("*.yaml")}
    assert {f"rayjob-{step.replace('_', '-')}.yaml" for step in STEPS} <= names
    assert {document["kind"] for _, document in RAY} == set(KINDS)
    assert len(CORE) + len(RAY) + sum(
        document["kind"] in ("PodMonitor", "PrometheusRule") for _, document in DOCUMENTS
    ) == len(DOCUMENTS)


@_each(RAY)
def test_ray_objects_match_the_custom_resource_definitions(
    document: dict[str, Any], crds: dict[str, Draft202012Validator]
) -> None:
    errors = [f"{error.json_path}: {error.message}" for error in crds[document["kind"]].iter_errors(document)]
    assert not errors


@_each(RAY)
def test_pods_match_kubernetes_and_ask_for_no_rights(document: dict[str, Any]) -> None:
    for template in _pod_templates(document):
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": template}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        for container in template["spec"]["containers"]:
            assert container["securityContext"]["runAsNonRoot"]
            assert not container["securityContext"]["allowPrivilegeEscalation"]
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert "RAY_AUTH_TOKEN" not in {variable["name"] for variable in container["env"]}


@_each(RAY)
def test_token_authentication_is_on_and_the_head_runs_no_tasks(document: dict[str, Any]) -> None:
    spec = document["spec"]
    cluster = spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["enableInTreeAutoscaling"]
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


@_each(CORE)
def test_core_objects_match_kubernetes(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_a_strict_validator_refuses_what_the_api_server_would_drop(crds: dict[str, Draft202012Validator]) -> None:
    broken = copy.deepcopy(next(document for _, document in RAY if document["kind"] == "RayCluster"))
    broken["spec"]["enableInTreeAutoscalling"] = True
    assert not crds["RayCluster"].is_valid(broken)


def test_the_service_embeds_the_serve_application_and_survives_a_lost_head() -> None:
    document = yaml.safe_load((CLUSTER / "rayservice.yaml").read_text())
    serve = yaml.safe_load(document["spec"]["serveConfigV2"])
    check_serve(serve, "rayservice.yaml")
    original = yaml.safe_load((ROOT / ClusterConfig().serve_config).read_text())
    for application, own in zip(serve["applications"], original["applications"], strict=True):
        assert application["import_path"] == own["import_path"]
    assert serve["applications"][0]["args"]["auth"]["mode"] != "none"
    assert document["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]["redisAddress"]


def test_histories_are_shared_in_a_redis_that_the_files_make_and_admit() -> None:
    document = yaml.safe_load((CLUSTER / "rayservice.yaml").read_text())
    store = yaml.safe_load(document["spec"]["serveConfigV2"])["applications"][0]["args"]["store"]
    config = StoreConfig.parse(store)
    assert config.backend == "redis"
    (host,) = {urlsplit(url).hostname for url in config.redis.urls}
    made = [one for name, one in DOCUMENTS if name.startswith("redis.yaml") and one["metadata"]["name"] == host]
    assert [one["kind"] for one in made] == ["Service", "StatefulSet"]
    labels = made[1]["spec"]["template"]["metadata"]["labels"]
    assert made[0]["spec"]["selector"] == labels
    assert "--maxmemory-policy noeviction" in made[1]["spec"]["template"]["spec"]["containers"][0]["args"][0]
    policy = next(one for _, one in DOCUMENTS if one["kind"] == "NetworkPolicy" and "redis" in one["metadata"]["name"])
    assert labels["app.kubernetes.io/name"] in policy["spec"]["podSelector"]["matchExpressions"][0]["values"]
    for template in _pod_templates(document):
        variables = {one["name"]: one for one in template["spec"]["containers"][0]["env"]}
        assert variables[config.redis.password_env]["valueFrom"]["secretKeyRef"]["name"] == ClusterConfig().redis.secret


def test_the_largest_cluster_holds_the_most_replicas() -> None:
    config, serve = load(CLUSTER / "settings.yaml")
    for deployment in serve["applications"][0]["deployments"]:
        cpus = deployment["ray_actor_options"]["num_cpus"] * deployment["autoscaling_config"]["max_replicas"]
        assert cpus <= int(config.serve_group.cpu) * config.serve_group.max_replicas


def test_rendered_manifests_are_current() -> None:
    assert stale(render(*load(CLUSTER / "settings.yaml")), CLUSTER) == []


def test_settings_reach_the_manifests(tmp_path: Path) -> None:
    config = ClusterConfig.parse({"name": "ads", "serve_group": {"gpus": 4}})
    service = ray_service(config, SERVE)
    worker = service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    container = worker["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "4"
    assert container["image"] == config.image_gpu
    files = render(config, SERVE)
    assert write(files, tmp_path) == [tmp_path / name for name in files]
    assert write(files, tmp_path) == []


def test_settings_name_the_wrong_key() -> None:
    with pytest.raises(UserError, match=r"gpu_group.max_replica.*max_replicas"):
        ClusterConfig.parse({"gpu_group": {"max_replica": 3}})
    with pytest.raises(UserError, match="min_replicas <= max_replicas"):
        ClusterConfig.parse({"cpu_group": {"min_replicas": 9, "max_replicas": 3}})


def test_versions_agree_between_images_manifests_and_constraints() -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    bases = [
        line.split("ray:")[1].split("-")[:2]
        for name in ("Dockerfile", "Dockerfile.gpu")
        for line in (CLUSTER / name).read_text().splitlines()
        if line.startswith("FROM")
    ]
    assert bases[0] == bases[1], "a cluster of both images needs one Ray and one Python"
    assert bases[0][0] == pins["ray"] == ClusterConfig().ray_version


def test_the_monitor_names_ports_that_pods_have() -> None:
    monitor = yaml.safe_load((CLUSTER / "podmonitor.yaml").read_text())
    wanted = {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
    for _, document in RAY:
        for template in _pod_templates(document):
            assert wanted <= {port["name"] for port in template["spec"]["containers"][0]["ports"]}


def test_every_job_runs_on_a_worker_with_a_configuration_that_is_valid_and_in_the_image() -> None:
    jobs = [document for _, document in RAY if document["kind"] == "RayJob"]
    for document in jobs:
        words = shlex.split(document["spec"]["entrypoint"])
        assert words[:3] == ["python", "-m", "adbeam.cli"]
        Config.load(ROOT / words[words.index("--config") + 1])
        assert document["spec"]["entrypointNumCpus"] <= int(ClusterConfig().cpu_group.cpu)


@pytest.mark.parametrize("step", STEPS.values(), ids=lambda step: step.name)
def test_every_step_has_a_configuration_of_its_own_that_is_valid(step: Step) -> None:
    Config.load(ROOT / step.config)
