"""Pod templates of the Ray nodes: resources, ports, storage, environment, and no more rights than they need."""

from __future__ import annotations

from typing import Any

from adbeam.cluster.config import ClusterConfig, GroupConfig
from adbeam.serving.deploy.environment import SWITCHES

SERVE_PORT = 8000
METRICS_PORT = 8080
DASHBOARD_PORT = 8265
NODE_FOLDER = "/var/lib/adbeam"
REDIS_PASSWORD_ENV = "ADBEAM_REDIS_PASSWORD"

NODE_ENV = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_WAIT_POLICY": "PASSIVE"}
"""For every Ray node. OpenMP threads that spin on a shared core cost milliseconds an operator."""

CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def head_template(config: ClusterConfig, *, serves: bool) -> dict[str, Any]:
    """The pod template of the head node."""
    ports = {"gcs": 6379, "dashboard": DASHBOARD_PORT, "client": 10001, "metrics": METRICS_PORT}
    if serves:
        ports["serve"] = SERVE_PORT
    resources = {"cpu": config.head.cpu, "memory": config.head.memory}
    return _template(config, "ray-head", config.image, resources, ports, serves=serves)


def worker_template(config: ClusterConfig, group: GroupConfig, *, serves: bool) -> dict[str, Any]:
    """The pod template of one worker group."""
    ports = {"metrics": METRICS_PORT, **({"serve": SERVE_PORT} if serves else {})}
    resources: dict[str, Any] = {"cpu": group.cpu, "memory": group.memory}
    image = config.image
    if group.gpus:
        resources["nvidia.com/gpu"] = str(group.gpus)
        image = config.image_gpu
    template = _template(config, "ray-worker", image, resources, ports, serves=serves)
    if group.node_selector:
        template["spec"]["nodeSelector"] = dict(group.node_selector)
    if group.gpus:
        template["spec"]["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    return template


def redis_password(config: ClusterConfig) -> dict[str, Any]:
    """Where a pod finds the password of Redis."""
    return {"valueFrom": {"secretKeyRef": {"name": config.redis.secret, "key": config.redis.secret_key}}}


def _template(
    config: ClusterConfig,
    container: str,
    image: str,
    resources: dict[str, Any],
    ports: dict[str, int],
    *,
    serves: bool,
) -> dict[str, Any]:
    env: list[dict[str, Any]] = [
        {"name": name, "value": value} for name, value in {**NODE_ENV, **(SWITCHES if serves else {})}.items()
    ]
    if serves:
        env.append({"name": REDIS_PASSWORD_ENV, **redis_password(config)})
    return {
        "metadata": {"labels": {"app.kubernetes.io/part-of": config.name}},
        "spec": {
            "automountServiceAccountToken": container == "ray-head",
            "securityContext": {"fsGroup": 1000},
            # In-flight requests end and Serve drains the node before the pod goes.
            "terminationGracePeriodSeconds": 120 if serves else 30,
            "containers": [
                {
                    "name": container,
                    "image": image,
                    "ports": [{"name": name, "containerPort": number} for name, number in ports.items()],
                    "env": env,
                    "envFrom": [{"secretRef": {"name": config.secret_env, "optional": not serves}}],
                    # Requests equal limits: Ray sizes itself by the limit and must really have it.
                    "resources": {"requests": dict(resources), "limits": dict(resources)},
                    "securityContext": dict(CONTAINER_SECURITY),
                    "volumeMounts": [
                        {"name": "storage", "mountPath": config.storage.mount_path},
                        {"name": "node", "mountPath": NODE_FOLDER},
                        {"name": "shm", "mountPath": "/dev/shm"},
                    ],
                }
            ],
            "volumes": [
                {"name": "storage", "persistentVolumeClaim": {"claimName": config.storage.claim}},
                {"name": "node", "emptyDir": {}},
                {"name": "shm", "emptyDir": {"medium": "Memory"}},
            ],
        },
    }
