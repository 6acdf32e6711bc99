"""Names that more than one side reads: the API group, the kinds, and the keys on other people's objects."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

GROUP: Final = "reservedcapacity.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
CATEGORY: Final = "reserved"

# On Nodes: the claim itself, and what keeps other pods and the autoscalers away from it.
CLAIMS_ANNOTATION: Final = f"{GROUP}/claims"
CLAIMED_LABEL: Final = f"{GROUP}/claimed"
CLAIMED_TAINT: Final = f"{GROUP}/claimed"
CLAIMED_VALUE: Final = "true"
CLAIMED_TAINT_EFFECT: Final = "NoSchedule"
CLUSTER_AUTOSCALER_ANNOTATION: Final = "cluster-autoscaler.kubernetes.io/scale-down-disabled"
KARPENTER_ANNOTATION: Final = "karpenter.sh/do-not-disrupt"
NODE_ANNOTATIONS: Final = (CLAIMS_ANNOTATION, CLUSTER_AUTOSCALER_ANNOTATION, KARPENTER_ANNOTATION)

# On children of a ModelInstance.
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "reserved-capacity"
INSTANCE_LABEL: Final = f"{GROUP}/instance"
MEMBER_LABEL: Final = f"{GROUP}/member"
SNAPSHOT_LABEL: Final = f"{GROUP}/snapshot"
POOL_LABEL: Final = f"{GROUP}/pool"
REVISION_LABEL: Final = f"{GROUP}/revision"
# On a member's StatefulSet: the holding under which it was made, should the pool's record be lost (behaviour.md C2).
PROFILE_ANNOTATION: Final = f"{GROUP}/profile"
COMPUTE_UNITS_ANNOTATION: Final = f"{GROUP}/compute-units"
NODES_ANNOTATION: Final = f"{GROUP}/nodes"
REPLACES_ANNOTATION: Final = f"{GROUP}/replaces"

# On Jobs that pull an artifact to a node, and on their pods: for which instance (behaviour.md S3). Their pods carry neither the
# instance's label nor the member's: they are nobody's members.
PREFETCH_LABEL: Final = f"{GROUP}/prefetch"
NODE_ANNOTATION: Final = f"{GROUP}/node"
NODE_UID_ANNOTATION: Final = f"{GROUP}/node-uid"
RECIPE_ANNOTATION: Final = f"{GROUP}/recipe"
ATTEMPT_ANNOTATION: Final = f"{GROUP}/attempt"

# On ModelInstances that the operator makes itself, for the provider's token-unit fleet (behaviour.md T4).
FLEET_LABEL: Final = f"{GROUP}/fleet"

# On a ModelOffering: the HTTPRoute to its servers, `namespace/name` (ADR 0053). On what is published of it: whose it is.
HTTP_ROUTE_ANNOTATION: Final = f"{GROUP}/http-route"
OFFERING_LABEL: Final = f"{GROUP}/offering"

# On our CRDs: the only way to have one deleted.
ALLOW_DELETE_ANNOTATION: Final = f"{GROUP}/allow-delete"

# Where the operator lives; the admission policies name this account.
OPERATOR_NAMESPACE: Final = "reserved-capacity"
OPERATOR_ACCOUNT: Final = "reserved-capacity"
OPERATOR_USER: Final = f"system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR_ACCOUNT}"


class Kind(StrEnum):
    """The six kinds, spelled as on the wire."""

    ACCELERATOR_CLASS = "AcceleratorClass"
    MODEL_OFFERING = "ModelOffering"
    PRICE_BOOK = "PriceBook"
    COMPUTE_UNIT_POOL = "ComputeUnitPool"
    MODEL_INSTANCE = "ModelInstance"
    TOKEN_UNIT_RESERVATION = "TokenUnitReservation"  # noqa: S105  a kind, not a secret


@dataclass(frozen=True, slots=True)
class KindInfo:
    """How the API server addresses one kind."""

    kind: Kind
    plural: str
    namespaced: bool
    short_names: tuple[str, ...] = ()

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def crd_name(self) -> str:
        return f"{self.plural}.{GROUP}"


ACCELERATOR_CLASS: Final = KindInfo(Kind.ACCELERATOR_CLASS, "acceleratorclasses", namespaced=False)
MODEL_OFFERING: Final = KindInfo(Kind.MODEL_OFFERING, "modelofferings", namespaced=False)
PRICE_BOOK: Final = KindInfo(Kind.PRICE_BOOK, "pricebooks", namespaced=False)
COMPUTE_UNIT_POOL: Final = KindInfo(Kind.COMPUTE_UNIT_POOL, "computeunitpools", True, ("cup",))
MODEL_INSTANCE: Final = KindInfo(Kind.MODEL_INSTANCE, "modelinstances", True, ("mi",))
TOKEN_UNIT_RESERVATION: Final = KindInfo(Kind.TOKEN_UNIT_RESERVATION, "tokenunitreservations", True, ("tur",))

KINDS: Final = (
    ACCELERATOR_CLASS,
    MODEL_OFFERING,
    PRICE_BOOK,
    COMPUTE_UNIT_POOL,
    MODEL_INSTANCE,
    TOKEN_UNIT_RESERVATION,
)
BY_KIND: Final = {info.kind: info for info in KINDS}
