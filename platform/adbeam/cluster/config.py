"""Settings of the Kubernetes manifests: one file, `cluster/settings.yaml`, from which every manifest is rendered."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from adbeam.settings import LocalPath, Section

Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi|Ti|k|M|G|T)?$")]
Label = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=40)]


class HeadConfig(Section):
    """The head pod. It offers no CPU to tasks: a busy task there would stall the whole cluster."""

    cpu: Quantity = "4"
    memory: Quantity = "8Gi"


class GroupConfig(Section):
    """A group of like worker pods that Ray's autoscaler grows and shrinks."""

    min_replicas: int = Field(0, ge=0)
    max_replicas: int = Field(4, ge=1)
    cpu: Quantity = "8"
    memory: Quantity = "32Gi"
    gpus: int = Field(0, ge=0, description="GPUs of one pod.")
    node_selector: dict[str, str] = Field({}, description="Labels of the machines the pods may run on.")
    idle_timeout_seconds: int = Field(300, ge=0, description="An idle pod is given back after this long.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas <= max_replicas must hold")
        return self


class StorageConfig(Section):
    """The shared folder of all pods: logs, tokens, checkpoints and bundles."""

    claim: Label = Field("adbeam-storage", description="A ReadWriteMany PersistentVolumeClaim.")
    mount_path: str = Field("/mnt/adbeam", pattern="^/[^ ]*$")
    work_dir: LocalPath = Field("/mnt/adbeam/runs/default", description="work_dir of every job.")


class RedisConfig(Section):
    """Redis outside the cluster: one keeps Ray's control state, so that a lost head pod does not stop serving; others
    keep the users' histories, which all replicas share."""

    address: str = Field("redis:6379", pattern=r"^[^\s:]+:[0-9]+$")
    secret: Label = Field("adbeam-redis", description="Kubernetes Secret with the password.")
    secret_key: str = "password"
    histories: tuple[str, ...] = Field(
        ("redis://redis-histories:6379/0",), description="store.redis.urls of the application, one a shard."
    )


class ClusterConfig(Section):
    """Everything the manifests are rendered from."""

    name: Label = "adbeam"
    namespace: Label = "adbeam"
    image: str = Field("adbeam:0.1.0", description="Built from cluster/Dockerfile.")
    image_gpu: str = Field("adbeam:0.1.0-gpu", description="Built from cluster/Dockerfile.gpu.")
    ray_version: str = "2.60.0"
    jobs_config: str = Field("jobs/cluster.yaml", description="One YAML for the steps of all RayJobs.")
    serve_config: str = Field(
        "serving/ads-production.yaml", description="The Serve application that the RayService runs."
    )
    secret_env: Label = Field(
        "adbeam-secrets", description="Secret whose keys become environment variables; serving needs ADBEAM_API_KEYS."
    )
    job_ttl_seconds: int = Field(600, ge=0, description="How long a finished job's cluster stays for a look.")
    job_deadline_seconds: int = Field(86_400, ge=60, description="A job that runs longer is ended.")
    head: HeadConfig = HeadConfig()
    cpu_group: GroupConfig = GroupConfig(min_replicas=0, max_replicas=8)
    gpu_group: GroupConfig = GroupConfig(min_replicas=0, max_replicas=4, gpus=1)
    serve_group: GroupConfig = GroupConfig(min_replicas=2, max_replicas=16, cpu="4", memory="16Gi")
    storage: StorageConfig = StorageConfig()
    redis: RedisConfig = RedisConfig()
