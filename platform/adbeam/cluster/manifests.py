"""KubeRay objects: a shared RayCluster, one RayJob a step, and the RayService.

Token authentication is on in all of them (`authOptions`): without it, whoever reaches the dashboard port can run code.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import yaml

from adbeam.cluster.config import ClusterConfig, GroupConfig
from adbeam.cluster.pods import (
    CONTAINER_SECURITY,
    REDIS_PASSWORD_ENV,
    SERVE_PORT,
    head_template,
    redis_password,
    worker_template,
)
from adbeam.jobs.steps import Step
from adbeam.workdir import BUNDLES

API_VERSION = "ray.io/v1"


def ray_cluster(config: ClusterConfig) -> dict[str, Any]:
    """A cluster for many jobs, with a CPU and a GPU group that shrink to nothing when idle."""
    groups = {"cpu": config.cpu_group, "gpu": config.gpu_group}
    return _object("RayCluster", config, config.name, _cluster_spec(config, groups))


def ray_job(config: ClusterConfig, step: Step) -> dict[str, Any]:
    """One step on a cluster of its own, which is removed when the step has ended."""
    groups = {"cpu": config.cpu_group, **({"gpu": config.gpu_group} if step.gpu else {})}
    spec = {
        "entrypoint": step.entrypoint(config.jobs_config, (f"work_dir={config.storage.work_dir}",)),
        # The step's own process runs on a worker: the head must stay free for scheduling.
        "entrypointNumCpus": step.driver_cpus,
        "submissionMode": "K8sJobMode",
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": config.job_ttl_seconds,
        "activeDeadlineSeconds": config.job_deadline_seconds,
        "backoffLimit": step.retries,
        "runtimeEnvYAML": yaml.safe_dump({"env_vars": {"PYTHONUNBUFFERED": "1"}}),
        "rayClusterSpec": _cluster_spec(config, groups),
    }
    return _object("RayJob", config, f"{config.name}-{step.name}", spec)


def ray_service(config: ClusterConfig, serve: dict[str, Any]) -> dict[str, Any]:
    """The serving cluster. A change of `serveConfigV2` is applied in place; any other starts a new cluster, waits until
    it is healthy, moves the traffic, and removes the old one."""
    cluster = _cluster_spec(config, {"serve": config.serve_group}, serves=True)
    cluster["gcsFaultToleranceOptions"] = {
        "redisAddress": config.redis.address,
        "redisPassword": redis_password(config),
    }
    spec = {
        "upgradeStrategy": {"type": "NewCluster"},
        "rayClusterDeletionDelaySeconds": 60,
        # The head decodes nothing: it must not be in the way of traffic.
        "excludeHeadPodFromServeSvc": True,
        "serveConfigV2": yaml.safe_dump(_on_cluster(serve, config), sort_keys=False),
        "rayClusterConfig": cluster,
    }
    return _object("RayService", config, f"{config.name}-serve", spec)


def _object(kind: str, config: ClusterConfig, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": config.namespace,
        "labels": {"app.kubernetes.io/part-of": config.name},
    }
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def _cluster_spec(config: ClusterConfig, groups: dict[str, GroupConfig], *, serves: bool = False) -> dict[str, Any]:
    return {
        "rayVersion": config.ray_version,
        "authOptions": {"mode": "token"},
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2",
            "upscalingMode": "Default",
            "idleTimeoutSeconds": 60,
            "securityContext": CONTAINER_SECURITY,
        },
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
            "template": head_template(config, serves=serves),
        },
        "workerGroupSpecs": [_worker_group(config, name, group, serves) for name, group in groups.items()],
    }


def _worker_group(config: ClusterConfig, name: str, group: GroupConfig, serves: bool) -> dict[str, Any]:
    return {
        "groupName": name,
        "replicas": group.min_replicas,
        "minReplicas": group.min_replicas,
        "maxReplicas": group.max_replicas,
        "idleTimeoutSeconds": group.idle_timeout_seconds,
        "rayStartParams": {},
        "template": worker_template(config, group, serves=serves),
    }


def _on_cluster(serve: dict[str, Any], config: ClusterConfig) -> dict[str, Any]:
    """The Serve configuration with what differs on a cluster: it listens for the Service, callers need a key, bundles
    and logs lie on the shared volume, and histories in Redis: a file of one pod would be unknown to the others."""
    applications = [
        {**application, "args": _application_args(application.get("args") or {}, config)}
        for application in serve["applications"]
    ]
    http = {**(serve.get("http_options") or {}), "host": "0.0.0.0", "port": SERVE_PORT}
    return {**serve, "http_options": http, "applications": applications}


def _application_args(args: dict[str, Any], config: ClusterConfig) -> dict[str, Any]:
    changed = {
        **args,
        "bundle": f"{config.storage.work_dir}/{BUNDLES}",
        "auth": {"mode": "bearer", **(args.get("auth") or {})},
        "store": _store(args.get("store") or {}, config),
    }
    if (args.get("event_log") or {}).get("folder"):
        changed["event_log"] = {**args["event_log"], "folder": f"{config.storage.mount_path}/events"}
    if args.get("updates"):
        rest = {key: value for key, value in args["updates"].items() if key not in ("path", "redis_url")}
        changed["updates"] = {**rest, "redis_url": _database_one(config.redis.histories[0])}
    return changed


def _database_one(url: str) -> str:
    """Ad updates lie beside the histories, in a database of their own."""
    return urlsplit(url)._replace(path="/1").geturl()


def _store(store: dict[str, Any], config: ClusterConfig) -> dict[str, Any]:
    kept = {key: value for key, value in store.items() if key != "path"}
    redis = {**(store.get("redis") or {}), "urls": list(config.redis.histories), "password_env": REDIS_PASSWORD_ENV}
    return {**kept, "backend": "redis", "redis": redis}
