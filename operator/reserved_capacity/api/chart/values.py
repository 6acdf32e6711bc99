"""Owns what the chart can be told. `values.yaml` and `values.schema.json` are written from these models.

The docstring below a field is its comment in `values.yaml` and its description in the schema. Rules that need two fields
are in the chart's `templates/_validate.tpl`: a JSON schema would refuse them without saying why.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt
from pydantic.alias_generators import to_camel

from reserved_capacity.api.fields import DNS_LABEL, DNS_SUBDOMAIN
from reserved_capacity.settings import DEFAULT_METRICS_PORT, DEFAULT_PROBE_PORT, DEFAULT_PULL_IMAGE

_QUANTITY = r"^[0-9]+(\.[0-9]+)?([EPTGMk]i?|m)?$"

Port = Annotated[int, Field(ge=1, le=65535)]
Quantity = Annotated[str, Field(pattern=_QUANTITY)]
Resources = dict[str, Quantity | NonNegativeInt | NonNegativeFloat]
StringMap = dict[str, str]
# Left to Kubernetes to check: they go into the manifest as they are.
KubernetesObject = dict[str, Any]
OptionalName = Annotated[str, Field(max_length=253, pattern=rf"^$|{DNS_SUBDOMAIN}")]
OptionalUrl = Annotated[str, Field(pattern=r"^$|^https?://[^\s]+$")]


class Section(BaseModel):
    """A mapping in which every key is known: a misspelt one is refused instead of ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, extra="forbid", use_attribute_docstrings=True, frozen=True
    )


class Image(Section):
    repository: Annotated[str, Field(min_length=1)] = "reserved-capacity"
    """Where the image is. There is no public one: build operator/Dockerfile and push it to a registry of yours."""
    tag: Annotated[str, Field(pattern=r"^$|^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")] = ""
    """Default: the chart's appVersion."""
    digest: Annotated[str, Field(pattern=r"^$|^sha256:[0-9a-f]{64}$")] = ""
    """sha256:...; wins over the tag, and is what production should use."""
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"


class SecretName(Section):
    name: Annotated[str, Field(max_length=253, pattern=DNS_SUBDOMAIN)]


class Crds(Section):
    install: bool = True
    """Install and upgrade the six CRDs. Set it to false if something else applies crds/."""
    keep: bool = True
    """Leave the CRDs, and the policies that guard contracts, in the cluster when the release is uninstalled. Without its
    CRD every object of a kind is gone."""
    annotations: StringMap = {}
    """More annotations on the CRDs."""


class ServiceAccount(Section):
    create: bool = True
    name: Annotated[str, Field(max_length=63, pattern=rf"^$|{DNS_LABEL}")] = ""
    """Default: reserved-capacity. The admission policies bind this account."""
    annotations: StringMap = {}


class SecretKey(Section):
    name: OptionalName = ""
    """Name of a Secret in the release's namespace; empty: none."""
    key: Annotated[str, Field(min_length=1)] = "url"
    """Its key that holds the URL."""


class TokenKey(Section):
    name: OptionalName = ""
    """Name of a Secret in the release's namespace; empty: none."""
    key: Annotated[str, Field(min_length=1)] = "token"
    """Its key that holds the token."""


class Database(Section):
    url: Annotated[str, Field(pattern=r"^$|^postgresql(\+psycopg)?://[^\s]+$")] = ""
    """postgresql://user:password@host:5432/name. Empty, and no existingSecret: SQLite on the volume below."""
    existing_secret: SecretKey = SecretKey()
    """A Secret with a PostgreSQL URL; keeps the password out of the values."""


class Persistence(Section):
    enabled: bool = True
    """false: SQLite lives as long as the pod, for trying out only. The ledger is not rebuilt from anything."""
    size: Quantity = "5Gi"
    storage_class: str = ""
    """Empty: the cluster's default. "-": no class, for volumes made by hand."""
    access_mode: Literal["ReadWriteOnce", "ReadWriteOncePod"] = "ReadWriteOnce"
    existing_claim: OptionalName = ""
    """Use this PersistentVolumeClaim and make none."""


class Ports(Section):
    metrics: Port = DEFAULT_METRICS_PORT
    probes: Port = DEFAULT_PROBE_PORT


class PodResources(Section):
    requests: Resources = {"cpu": "100m", "memory": "256Mi"}
    limits: Resources = {"memory": "1Gi"}
    """No limit of CPU: a throttled operator renews its Lease late."""


class Egress(Section):
    to: list[KubernetesObject] = []
    """NetworkPolicyPeers; empty: anywhere."""
    ports: list[Port]


class NetworkPolicy(Section):
    enabled: bool = True
    """Lets in scrapes and probes and nothing else."""
    metrics_from: list[KubernetesObject] = []
    """NetworkPolicyPeers that may scrape; empty: every pod and node."""
    restrict_egress: bool = True
    """Let out nothing but what is listed below; database, billing and prometheus only where they are configured."""
    api_server: Egress = Egress(ports=[443, 6443])
    dns: Egress = Egress(ports=[53])
    database: Egress = Egress(ports=[5432])
    billing: Egress = Egress(ports=[80, 443])
    prometheus: Egress = Egress(ports=[80, 443, 9090])


class Enabled(Section):
    enabled: bool = True


class ServiceMonitor(Section):
    enabled: bool = True
    labels: StringMap = {}
    """More labels, by which your Prometheus selects it."""
    interval: Annotated[str, Field(pattern=r"^[0-9]+(ms|s|m)$")] = "30s"


class PrometheusRule(Section):
    enabled: bool = True
    labels: StringMap = {}
    """More labels, by which your Prometheus selects it."""
    runbook_base_url: OptionalUrl = ""
    """Where you serve this project's files: every alert links to docs/runbooks below it. Empty: the links lead nowhere."""


class Monitoring(Section):
    service_monitor: ServiceMonitor = ServiceMonitor()
    """Made where the cluster serves monitoring.coreos.com/v1."""
    prometheus_rule: PrometheusRule = PrometheusRule()
    """The alerts; made where the cluster serves monitoring.coreos.com/v1."""


class Values(Section):
    """Values of the chart reserved-capacity."""

    image: Image = Image()
    image_pull_secrets: list[SecretName] = []
    replicas: Annotated[int, Field(ge=0, le=5)] = 1
    """One works, the others stand by. More than 1 needs PostgreSQL and leaderElection."""
    leader_election: bool = True
    """Work only while holding the Lease."""
    crds: Crds = Crds()
    service_account: ServiceAccount = ServiceAccount()
    user_roles: Enabled = Enabled()
    """The ClusterRoles reserved-capacity-provider, -order-desk, -user (aggregated to edit) and -viewer (to view)."""
    database: Database = Database()
    """Ledger and history."""
    persistence: Persistence = Persistence()
    """The volume of SQLite; it stays when the release is uninstalled. Not used with PostgreSQL."""
    billing_url: OptionalUrl = ""
    """Where CloudEvents with charges go; empty: they are kept in the outbox."""
    billing_token_secret: TokenKey = TokenKey()
    """A Secret with the bearer token that billingUrl asks for."""
    prometheus_url: OptionalUrl = ""
    """The Prometheus that scrapes the gateways: the use of token units is read there."""
    pull_image: Annotated[str, Field(min_length=1, max_length=512)] = DEFAULT_PULL_IMAGE
    """What runs in the pods that bring a snapshot to its nodes before a rollout: an image that ends at once when it is told
    -v. Where nodes cannot pull it, name your mirror of it."""
    ports: Ports = Ports()
    resources: PodResources = PodResources()
    termination_grace_period_seconds: Annotated[int, Field(ge=10, le=600)] = 30
    """The operator finishes its writes and gives the Lease back in about 10 s."""
    pod_labels: StringMap = {}
    pod_annotations: StringMap = {}
    node_selector: StringMap = {}
    tolerations: list[KubernetesObject] = []
    affinity: KubernetesObject = {}
    topology_spread_constraints: list[KubernetesObject] = []
    priority_class_name: OptionalName = ""
    network_policy: NetworkPolicy = NetworkPolicy()
    pod_disruption_budget: Enabled = Enabled()
    """Made for more than one replica: it could only block the drain of a single one's node."""
    monitoring: Monitoring = Monitoring()
    global_: Annotated[KubernetesObject, Field(alias="global")] = {}
    """Helm gives every chart this key; nothing here reads it."""
