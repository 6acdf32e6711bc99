"""Who may do what: the operator's own account, buyers, and the ClusterRoles for people.

The operator's account is given cluster-admin for the policy tests, so that what refuses is the policy and not RBAC.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from e2e import admission
from e2e.admission import (
    PLURALS,
    Document,
    Server,
    accelerators,
    commitment,
    instance,
    offering,
    pool,
    price_book,
    refused,
    running,
    token_price,
    tokens,
)
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.lifecycle import Cluster
from e2e.waiting import until

pytestmark = pytest.mark.cluster

ACCOUNT = "system:serviceaccount:reserved-capacity:reserved-capacity"
OPERATOR = f"--as={ACCOUNT}"
CUSTOMER = "--as=carol"
TAINT = {"key": "reservedcapacity.io/claimed", "value": "true", "effect": "NoSchedule"}
FOREIGN_TAINT = {"key": "example.com/busy", "value": "yes", "effect": "NoSchedule"}


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Kubectl:
    return admission.install(cluster.kubectl)


@pytest.fixture
def server(installed: Kubectl) -> Iterator[Server]:
    yield from admission.session(installed)


@pytest.fixture
def powerful(server: Server) -> Iterator[Server]:
    """The operator's account may do everything that RBAC can give."""
    name = f"test-{server.name}"
    subject = "--serviceaccount=reserved-capacity:reserved-capacity"
    server.kubectl("create", "clusterrolebinding", name, "--clusterrole=cluster-admin", subject)
    yield server
    server.kubectl("delete", "clusterrolebinding", name)


@pytest.fixture
def node(server: Server) -> Iterator[str]:
    document = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": server.name, "labels": {"zone": "a"}, "annotations": {"note": "b"}},
        "spec": {"taints": [FOREIGN_TAINT]},
    }
    server.kubectl("create", "-f", "-", input=json.dumps(document))
    yield server.name
    server.kubectl("delete", "node", server.name, "--wait=false")


def patch_node(node: str, patch: Document) -> tuple[str, ...]:
    return ("patch", "node", node, "--type=merge", "-p", json.dumps(patch), OPERATOR)


# --- The operator's own account


def test_the_operator_writes_status_and_no_spec_of_any_kind(powerful: Server) -> None:
    documents = {
        "acceleratorclasses": accelerators(powerful),
        "modelofferings": offering(powerful),
        "pricebooks": price_book(powerful, [token_price()]),
        "computeunitpools": pool(powerful),
        "modelinstances": instance(powerful),
        "tokenunitreservations": tokens(powerful),
    }
    assert set(documents) == set(PLURALS)
    for resource, document in documents.items():
        expected = "the operator's account may write only /status"
        assert expected in powerful.refusal(document, OPERATOR)
        powerful.apply(document)
        powerful.set_status(resource, {"phase": "Fine"}, OPERATOR)
        labelled = powerful.kubectl("label", resource, powerful.name, "a=b", *powerful.at(OPERATOR), check=False)
        assert expected in refused(labelled)
        assert expected in powerful.deletion_refused(resource, OPERATOR)
    scaled = powerful.kubectl("scale", "mi", powerful.name, "--replicas=5", *powerful.at(OPERATOR), check=False)
    assert "may write only /status" in refused(scaled)


def test_the_operator_makes_changes_and_deletes_fleet_instances_only(powerful: Server) -> None:
    fleet = instance(powerful)
    fleet["metadata"]["labels"] = {"reservedcapacity.io/fleet": "m"}
    powerful.apply(fleet, OPERATOR)
    fleet["spec"]["instances"] = 3
    powerful.apply(fleet, OPERATOR)
    unlabel = ("label", "mi", powerful.name, "reservedcapacity.io/fleet-")
    assert "may write only /status" in refused(powerful.kubectl(*unlabel, *powerful.at(OPERATOR), check=False))
    powerful.delete("mi", OPERATOR)
    powerful.apply(instance(powerful))
    adopt = ("label", "mi", powerful.name, "reservedcapacity.io/fleet=m")
    assert "may write only /status" in refused(powerful.kubectl(*adopt, *powerful.at(OPERATOR), check=False))


def _others(server: Server, node: str) -> list[dict[str, str]]:
    """The taints of a node that are not ours; Kubernetes adds its own to one that nobody reports on."""
    spec = json.loads(server.kubectl("get", "node", node, "-o", "json").stdout)["spec"]
    return [taint for taint in spec.get("taints", []) if taint["key"] != TAINT["key"]]


def _written(server: Server, node: str, metadata: Document, ours: list[Document]) -> bool:
    """False also where Kubernetes changed a taint of its own between the look and the write, which then says something of it."""
    patch = {"metadata": metadata, "spec": {"taints": [*_others(server, node), *ours]}}
    return server.kubectl(*patch_node(node, patch), check=False).returncode == 0


def test_the_operator_claims_and_releases_a_node_beside_other_taints(powerful: Server, node: str) -> None:
    claim: dict[str, Any] = {
        "annotations": {
            "reservedcapacity.io/claims": "[]",
            "cluster-autoscaler.kubernetes.io/scale-down-disabled": "true",
            "karpenter.sh/do-not-disrupt": "true",
        },
        "labels": {"reservedcapacity.io/claimed": "true"},
    }
    release = {
        "annotations": dict.fromkeys(claim["annotations"]),
        "labels": {"reservedcapacity.io/claimed": None},
    }
    until(lambda: _written(powerful, node, claim, [TAINT]), "the operator may claim a node")
    until(lambda: _written(powerful, node, release, []), "the operator may release a node")


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ({"metadata": {"annotations": {"note": "c"}}}, "only the annotations reservedcapacity.io/claims"),
        ({"metadata": {"annotations": {"note": None}}}, "only the annotations reservedcapacity.io/claims"),
        ({"metadata": {"annotations": {"more": "c"}}}, "only the annotations reservedcapacity.io/claims"),
        ({"metadata": {"labels": {"zone": "b"}}}, "only the label reservedcapacity.io/claimed"),
        ({"metadata": {"labels": {"zone": None}}}, "only the label reservedcapacity.io/claimed"),
        ({"metadata": {"labels": {"more": "b"}}}, "only the label reservedcapacity.io/claimed"),
        ({"spec": {"taints": [TAINT]}}, "only the taint reservedcapacity.io/claimed"),
        ({"spec": {"taints": [FOREIGN_TAINT, {"key": "a", "effect": "NoExecute"}]}}, "only the taint"),
        ({"spec": {"unschedulable": True}}, "nothing of spec but the taint"),
        ({"metadata": {"finalizers": ["example.com/held"]}}, "neither finalizers nor owner references"),
    ],
)
def test_the_operator_touches_nothing_else_on_a_node(powerful: Server, node: str, patch: Document, said: str) -> None:
    assert said in refused(powerful.kubectl(*patch_node(node, patch), check=False))


def test_the_operator_neither_deletes_nodes_nor_writes_their_status(powerful: Server, node: str) -> None:
    said = "may neither create nor delete Nodes nor write their status"
    assert said in refused(powerful.kubectl("delete", "node", node, OPERATOR, check=False))
    patch = (
        "patch",
        "node",
        node,
        "--subresource=status",
        "--type=merge",
        "-p",
        '{"status": {"capacity": {"x": "1"}}}',
    )
    assert said in refused(powerful.kubectl(*patch, OPERATOR, check=False))


def test_nobody_else_is_bound_by_the_operators_limits(server: Server, node: str) -> None:
    server.kubectl("label", "node", node, "zone=b", "--overwrite")


@pytest.mark.parametrize(
    ("verb", "resource", "allowed"),
    [
        ("watch", "computeunitpools", True),
        ("update", "computeunitpools/status", True),
        ("update", "computeunitpools", False),
        ("create", "modelinstances", True),  # of the fleet alone (T4), which the policy sees to
        ("update", "modelinstances", False),
        ("patch", "nodes", True),
        ("delete", "nodes", False),
        ("create", "statefulsets.apps", True),
        ("delete", "services", False),
        ("create", "pods", False),
        ("delete", "pods", False),
        ("create", "jobs.batch", True),
        ("patch", "jobs.batch", False),
        ("get", "secrets", False),
        ("create", "events.events.k8s.io", True),
        ("update", "leases.coordination.k8s.io", False),
    ],
)
def test_the_operators_role_is_what_it_uses(server: Server, verb: str, resource: str, *, allowed: bool) -> None:
    plain, _, subresource = resource.partition("/")
    flags = [f"--subresource={subresource}"] if subresource else []
    answer = server.kubectl("auth", "can-i", verb, plain, *flags, *server.at(OPERATOR), check=False)
    assert answer.stdout.strip() == ("yes" if allowed else "no")


# --- Buying


@pytest.fixture
def customer(server: Server) -> Server:
    """Carol may write pools in her namespace, and that is all."""
    server.kubectl(
        "create", "role", "pools", "--verb=*", "--resource=computeunitpools.reservedcapacity.io", *server.at()
    )
    server.kubectl("create", "rolebinding", "pools", "--role=pools", "--user=carol", *server.at())
    return server


def test_whoever_may_edit_pools_may_not_therefore_buy(customer: Server) -> None:
    message = customer.refusal(pool(customer), CUSTOMER)
    assert "carol may not buy" in message
    assert 'takes the verb "create" on computeunitpools/commitments in namespace' in message
    assert "reserved-capacity-order-desk" in message
    customer.apply(pool(customer))
    flags = (CUSTOMER, "--force-conflicts")
    for orders in (
        [commitment(), commitment(id="po-2")],
        [commitment(computeUnits=700)],
        [commitment(renewal={"policy": "Renew"})],
    ):
        assert "carol may not buy" in customer.refusal(pool(customer, *orders), *flags)
    customer.apply(pool(customer, nodeReplacement={"maxUnavailableNodes": 2}), *flags)
    entry = {"commitment": "po-1", "at": "2026-06-01", "computeUnits": 300, "reason": "cheaper"}
    assert "carol may not amend" in customer.refusal(pool(customer, amendments=[entry]), *flags)


def test_with_the_verb_it_is_an_order(customer: Server) -> None:
    resource = "--resource=computeunitpools.reservedcapacity.io/commitments"
    customer.kubectl("create", "role", "buy", "--verb=create", resource, *customer.at())
    customer.kubectl("create", "rolebinding", "buy", "--role=buy", "--user=carol", *customer.at())
    customer.apply(pool(customer), CUSTOMER)
    customer.apply(pool(customer, commitment(), commitment(id="po-2")), CUSTOMER)


def test_the_order_desk_buys_and_amends(server: Server) -> None:
    role = "--clusterrole=reserved-capacity-order-desk"
    server.kubectl("create", "rolebinding", "desk", role, "--user=dan", *server.at())
    server.apply(pool(server), "--as=dan")
    entry = {"commitment": "po-1", "at": "2026-06-01", "computeUnits": 300, "reason": "agreed"}
    server.apply(pool(server, amendments=[entry]), "--as=dan")
    server.apply(tokens(server), "--as=dan")


def test_the_operators_status_writes_are_no_purchase(powerful: Server) -> None:
    powerful.apply(pool(powerful))
    powerful.set_status("cup", running(), OPERATOR)


# --- Roles for people


@pytest.mark.parametrize(
    ("role", "verb", "resource", "allowed"),
    [
        ("edit", "create", "modelinstances", True),
        ("edit", "patch", "modelinstances/scale", True),
        ("edit", "get", "computeunitpools", True),
        ("edit", "update", "computeunitpools", False),
        ("view", "list", "tokenunitreservations", True),
        ("view", "update", "modelinstances", False),
        ("reserved-capacity-provider", "update", "pricebooks", True),
        ("reserved-capacity-provider", "create", "computeunitpools", False),
    ],
)
def test_roles_are_what_the_design_says(server: Server, role: str, verb: str, resource: str, *, allowed: bool) -> None:
    user = f"{role}-{server.name}"
    server.kubectl("create", "clusterrolebinding", user, f"--clusterrole={role}", f"--user={user}")
    try:
        plain, _, subresource = resource.partition("/")
        flags = [f"--subresource={subresource}"] if subresource else []
        asked = ("auth", "can-i", verb, plain, *flags, *server.at(f"--as={user}"))
        answer = server.kubectl(*asked, check=False).stdout.strip()
    finally:
        server.kubectl("delete", "clusterrolebinding", user)
    assert answer == ("yes" if allowed else "no")
