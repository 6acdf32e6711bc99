"""How an instance of an offering runs: the bounded part of a pod that a provider may choose."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from reserved_capacity.api.base import ApiModel, ListMap, ListType
from reserved_capacity.api.fields import Label, Quantity, StringMap, Subdomain

Argument = Annotated[str, Field(max_length=4096)]
Arguments = Annotated[tuple[Argument, ...], ListType("atomic"), Field(max_length=128)]
Image = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[a-zA-Z0-9][-a-zA-Z0-9._:/@]*$")]
HttpPath = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^/[-A-Za-z0-9._~/%?=&]*$")]
Quantities = Annotated[
    dict[Annotated[str, Field(max_length=317)], Quantity],
    Field(max_length=16),
]
UserId = Annotated[int, Field(ge=0, le=2**31 - 1)]
Capability = Annotated[str, Field(min_length=1, max_length=64, pattern="^[A-Z_]+$")]
Capabilities = Annotated[tuple[Capability, ...], ListType("set"), Field(max_length=64)]


class EnvVar(ApiModel):
    """One environment variable of the server."""

    name: Annotated[str, Field(min_length=1, max_length=128, pattern="^[A-Za-z_][A-Za-z0-9_]*$")]
    """Name of the variable. MODEL_PATH, MODEL_SNAPSHOT and RESERVED_CU are set by the operator and win."""
    value: Annotated[str, Field(max_length=4096)] = ""
    """Value of the variable; $(OTHER) refers to a variable defined before it. Default: empty."""


EnvVars = Annotated[tuple[EnvVar, ...], ListMap("name"), Field(max_length=128)]


class Resources(ApiModel):
    """CPU, memory and storage of one pod. The GPUs are not stated here: they follow from the compute units."""

    limits: Quantities = Field(default_factory=dict)
    """Upper bounds by resource name, quantities as strings, for example memory: 64Gi."""
    requests: Quantities = Field(default_factory=dict)
    """What the scheduler sets aside by resource name, quantities as strings, for example cpu: "8"."""


class SeccompProfileType(StrEnum):
    """Seccomp profiles that need no file on the node."""

    RUNTIME_DEFAULT = "RuntimeDefault"
    UNCONFINED = "Unconfined"


class SeccompProfile(ApiModel):
    """Seccomp profile of the pod."""

    type: SeccompProfileType
    """RuntimeDefault or Unconfined."""


class CapabilityChange(ApiModel):
    """Linux capabilities added to or taken from the container."""

    add: Capabilities = ()
    """Capabilities to add, for example IPC_LOCK."""
    drop: Capabilities = ()
    """Capabilities to drop; ALL drops every one."""


class SecurityContext(ApiModel):
    """The bounded part of a pod's and its container's security context."""

    run_as_user: UserId | None = None
    """User ID of the server process. Default: the image's."""
    run_as_group: UserId | None = None
    """Group ID of the server process. Default: the image's."""
    fs_group: UserId | None = None
    """Group that owns mounted volumes."""
    run_as_non_root: bool | None = None
    """Refuse to start the server as root."""
    read_only_root_filesystem: bool | None = None
    """Mount the container's root file system read-only."""
    allow_privilege_escalation: bool | None = None
    """Whether a process may gain more privileges than its parent."""
    capabilities: CapabilityChange | None = None
    """Linux capabilities added or dropped."""
    seccomp_profile: SeccompProfile | None = None
    """Seccomp profile of the pod."""


class Profile(ApiModel):
    """A performance profile: what it does not state is as in `serving`."""

    name: Label
    """Name by which spec.profile of a ModelInstance chooses it; `default` exists also when it is not listed."""
    image: Image | None = None
    """Server image instead of serving.image; also how a patched image reaches running instances."""
    args: Arguments | None = None
    """Arguments instead of serving.args, as a whole."""
    env: EnvVars = ()
    """Variables that are added to serving.env; one of the same name replaces it."""
    resources: Resources | None = None
    """CPU, memory and storage instead of serving.resources, as a whole."""


class ServingSpec(ApiModel):
    """How an instance runs: any server that speaks the OpenAI HTTP API. The snapshot's artifact is mounted read-only at
    /model, and MODEL_PATH, MODEL_SNAPSHOT and RESERVED_CU are set in the environment."""

    image: Image
    """Image of the server; pin it by digest. A change reaches new members only, never a running pod."""
    args: Arguments = ()
    """Arguments of the server; $(MODEL_PATH) and other variables are expanded."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    """TCP port of the server, and of the instance's Service. Default: 8000."""
    readiness_path: HttpPath = "/health"
    """HTTP path that answers 2xx when the server can take requests. Default: /health."""
    metrics_path: HttpPath = "/metrics"
    """HTTP path of the server's own Prometheus metrics. Default: /metrics."""
    env: EnvVars = ()
    """Environment variables of the server."""
    image_pull_secrets: Annotated[tuple[Subdomain, ...], ListType("set"), Field(max_length=8)] = ()
    """Names of pull Secrets in the instance's namespace, for the image and for the artifact."""
    resources: Resources = Resources()
    """CPU, memory and storage of one pod. The GPUs follow from the compute units."""
    shared_memory: Quantity | None = None
    """Size of /dev/shm in memory, for example 16Gi. Default: the runtime's."""
    runtime_class_name: Subdomain | None = None
    """RuntimeClass of the pods, for example nvidia. Default: the cluster's."""
    service_account_name: Subdomain | None = None
    """ServiceAccount of the pods, in the instance's namespace. Default: the namespace's default account."""
    security_context: SecurityContext | None = None
    """Security settings of the pods. Default: the image's and the cluster's."""
    labels: StringMap = Field(default_factory=dict)
    """Labels added to the pods; keys of reservedcapacity.io are the operator's."""
    annotations: StringMap = Field(default_factory=dict)
    """Annotations added to the pods."""
    profiles: Annotated[tuple[Profile, ...], ListMap("name"), Field(max_length=16)] = ()
    """Performance profiles the customer may choose from."""

    def profile(self, name: str) -> Profile | None:
        """The profile of that name; an empty one for `default` also when unlisted; None where there is none."""
        listed = next((item for item in self.profiles if item.name == name), None)
        return listed or (Profile(name="default") if name == "default" else None)
