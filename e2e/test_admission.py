"""What the API server refuses by itself, with the operator stopped: CEL in the CRDs and the deletion policies.

The status that the rules read is faked with `kubectl patch --subresource=status`; no operator runs here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from e2e import admission
from e2e.admission import (
    DIGEST,
    GROUP,
    OTHER_DIGEST,
    PLURALS,
    TERM_END,
    Server,
    accelerators,
    commitment,
    instance,
    offering,
    pool,
    price_book,
    refused,
    running,
    snapshot,
    token_price,
    tokens,
)
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.lifecycle import Cluster

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Kubectl:
    return admission.install(cluster.kubectl)


@pytest.fixture
def server(installed: Kubectl) -> Iterator[Server]:
    yield from admission.session(installed)


# --- The shape of an order


def test_an_order_of_150_compute_units_is_refused_with_the_two_that_would_do(server: Server) -> None:
    message = server.refusal(pool(server, commitment(computeUnits=150)))
    assert "spec.commitments[].computeUnits must be a multiple of 100" in message
    assert "order 100 or 200 instead of 150" in message


def test_annual_prepayment_is_for_a_year_only(server: Server) -> None:
    message = server.refusal(pool(server, commitment(term="ThreeMonths", payment="AnnualPrepaid")))
    assert "AnnualPrepaid is for the term OneYear only" in message
    renewed = commitment(payment="AnnualPrepaid", renewal={"policy": "Renew", "term": "ThreeMonths"})
    assert "AnnualPrepaid is for the term OneYear only" in server.refusal(pool(server, renewed))


def test_a_maintenance_window_is_a_cron_expression(server: Server) -> None:
    window = {"schedule": "saturdays at 2", "duration": "4h"}
    assert "must be five cron fields" in server.refusal(pool(server, maintenanceWindow=window))
    window = {"schedule": "0 2 * * 6", "duration": "4 hours"}
    assert "spec.maintenanceWindow.duration" in server.refusal(pool(server, maintenanceWindow=window))


def test_a_spec_without_optional_blocks_gets_the_schema_defaults_and_nothing_else(server: Server) -> None:
    wanted = pool(server)
    live = server.apply(wanted)["spec"]
    defaults = {
        "nodeReplacement": {"strategy": "ReplaceFirst", "maxUnavailableNodes": 1},
        "expiry": {"drainBefore": "1h"},
    }
    wanted["spec"]["commitments"][0] |= {"payment": "Monthly", "renewal": {"policy": "Expire"}}
    assert live == wanted["spec"] | defaults


def test_who_is_billed_and_where_are_immutable(server: Server) -> None:
    server.apply(pool(server))
    for field in ("account", "priceBookRef", "acceleratorClass"):
        assert f"spec.{field} is immutable" in server.refusal(pool(server, **{field: "other"}))


# --- A commitment that runs


@pytest.mark.parametrize("state", ["Provisioning", "Active", "Expiring", "Renewing"])
def test_a_running_commitment_is_not_reduced_and_the_message_has_the_end(server: Server, state: str) -> None:
    server.apply(pool(server))
    server.set_status("cup", running(state))
    message = server.refusal(pool(server, commitment(computeUnits=300)))
    assert f"commitment po-1 is {state}, its computeUnits, term, payment and provisionBy are fixed" in message
    assert f"its term ends at {TERM_END}" in message
    assert "spec.amendments" in message


def test_a_running_commitment_is_not_edited_in_any_other_way(server: Server) -> None:
    server.apply(pool(server))
    server.set_status("cup", running())
    for change in ({"term": "ThreeMonths"}, {"payment": "AnnualPrepaid"}, {"provisionBy": "2026-04-01"}):
        assert TERM_END in server.refusal(pool(server, commitment(**change)))


def test_a_running_commitment_is_not_removed_but_another_may_be_added(server: Server) -> None:
    server.apply(pool(server))
    server.set_status("cup", running())
    message = server.refusal(pool(server, commitment(id="po-2")))
    assert "commitment po-1 is Active, it cannot be removed" in message
    assert TERM_END in message
    server.apply(pool(server, commitment(), commitment(id="po-2")))


def test_before_it_runs_an_order_may_be_changed_and_taken_back(server: Server) -> None:
    server.apply(pool(server, commitment(), commitment(id="po-2")))
    server.apply(pool(server, commitment(computeUnits=300), commitment(id="po-2")))
    server.set_status("cup", {"commitments": [{"id": "po-1", "state": "Ordered"}]})
    server.apply(pool(server, commitment(computeUnits=200), commitment(id="po-2")))
    server.apply(pool(server, commitment(id="po-2")))


def test_an_expired_commitment_may_be_removed_but_not_edited(server: Server) -> None:
    server.apply(pool(server, commitment(), commitment(id="po-2")))
    server.set_status("cup", running("Expired"))
    message = server.refusal(pool(server, commitment(computeUnits=900), commitment(id="po-2")))
    assert "commitment po-1 is Expired" in message
    server.apply(pool(server, commitment(id="po-2")))


def test_renewal_is_reversible_while_running_and_frozen_near_the_end(server: Server) -> None:
    server.apply(pool(server))
    server.set_status("cup", running("Active"))
    server.apply(pool(server, commitment(renewal={"policy": "Renew"})))
    server.apply(pool(server, commitment(renewal={"policy": "Expire"})))
    for state in ("Expiring", "Renewing"):
        server.set_status("cup", running(state))
        message = server.refusal(pool(server, commitment(renewal={"policy": "Renew"})))
        assert "its renewal is frozen from 30 days before the end" in message
        assert TERM_END in message


def test_an_amendment_reduces_a_commitment_of_the_pool_and_stays(server: Server) -> None:
    entry = {"commitment": "po-1", "at": "2026-06-01", "computeUnits": 300, "reason": "agreed on the phone"}
    server.apply(pool(server))
    server.set_status("cup", running())
    assert "must be lower" in server.refusal(pool(server, amendments=[entry | {"computeUnits": 600}]))
    assert "must be the id of one of spec.commitments" in server.refusal(
        pool(server, amendments=[entry | {"commitment": "po-9"}])
    )
    server.apply(pool(server, amendments=[entry]))
    assert "spec.amendments is append-only" in server.refusal(pool(server))
    assert "spec.amendments is append-only" in server.refusal(pool(server, amendments=[entry | {"reason": "other"}]))


# --- Deleting


def test_a_running_pool_is_not_deleted_and_the_message_has_the_end(server: Server) -> None:
    server.apply(pool(server))
    server.set_status("cup", running())
    message = server.deletion_refused("cup")
    assert "has a running commitment and cannot be deleted before it ends" in message
    assert f"po-1 (Active, ends at {TERM_END})" in message
    collection = server.kubectl("delete", "cup", "--all", "--wait=false", *server.at(), check=False)
    assert "cannot be deleted before it ends" in refused(collection)


@pytest.mark.parametrize("state", ["Ordered", "Expired"])
def test_a_pool_that_does_not_run_is_deleted(server: Server, state: str) -> None:
    server.apply(pool(server))
    server.set_status("cup", running(state))
    server.delete("cup")


def test_a_namespace_with_a_running_pool_and_fixed_token_units_goes_away(server: Server) -> None:
    server.apply(pool(server))
    server.set_status("cup", running())
    server.apply(tokens(server))
    server.set_status("tur", {"lots": [{"id": "lot-1", "direction": "Input", "units": 3, "removable": False}]})
    server.kubectl("delete", "namespace", server.namespace, "--timeout=90s")
    server.kubectl("create", "namespace", server.namespace)


def test_our_crds_are_not_deleted_unless_annotated(server: Server) -> None:
    crds = [f"crd/{plural}.{GROUP}" for plural in PLURALS]
    for crd in crds:
        message = refused(server.kubectl("delete", crd, "--wait=false", check=False))
        assert "would delete every object of its kind" in message
        assert "reservedcapacity.io/allow-delete=true" in message
    collection = server.kubectl("delete", "crd", "--all", "--dry-run=server", check=False)
    assert "would delete every object of its kind" in refused(collection)
    server.kubectl("annotate", crds[0], "reservedcapacity.io/allow-delete=true")
    try:
        server.kubectl("delete", crds[0], "--dry-run=server")
    finally:
        server.kubectl("annotate", crds[0], "reservedcapacity.io/allow-delete-")


def test_an_offering_in_use_is_not_deleted(server: Server) -> None:
    server.apply(offering(server))
    server.set_status("modelofferings", {"referencedBy": {"pools": 1, "instances": 2, "tokenReservations": 0}})
    message = server.deletion_refused("modelofferings")
    assert "is in use and cannot be deleted: 2 ModelInstances" in message
    server.set_status("modelofferings", {"referencedBy": {"pools": 0, "instances": 0}})
    server.delete("modelofferings")


def test_token_units_inside_their_minimum_term_are_not_deleted(server: Server) -> None:
    lot = {"id": "lot-1", "direction": "Input", "units": 3, "removableFrom": TERM_END, "removable": False}
    server.apply(tokens(server))
    server.set_status("tur", {"lots": [lot]})
    assert f"lot-1 (removable from {TERM_END})" in server.deletion_refused("tur")
    server.set_status("tur", {"lots": [lot | {"removable": True}]})
    server.delete("tur")


# --- Catalogue and prices


def test_an_artifact_is_a_digest_and_never_changes(server: Server) -> None:
    tag = "oci://registry.example/models/m:latest"
    assert "must be an OCI reference with a digest" in server.refusal(offering(server, snapshot(artifact=tag)))
    server.apply(offering(server))
    message = server.refusal(offering(server, snapshot(artifact=OTHER_DIGEST)))
    assert "spec.snapshots[].artifact is immutable: add a snapshot with a new name" in message


def test_a_pinned_snapshot_is_not_removed(server: Server) -> None:
    server.apply(offering(server, snapshot(), snapshot(name="m-2")))
    server.set_status("modelofferings", {"snapshots": [{"name": "m-1", "lifecycle": "Active", "pinnedInstances": 1}]})
    assert "that is pinned cannot be removed" in server.refusal(offering(server, snapshot(name="m-2")))
    server.apply(offering(server, snapshot()))


def test_retirement_moves_only_later_or_with_an_emergency(server: Server) -> None:
    server.apply(offering(server, snapshot(retiresAt="2026-12-01T00:00:00Z")))
    message = server.refusal(offering(server, snapshot(retiresAt="2026-11-01T00:00:00Z")))
    assert "retiresAt of m-1 moves only later than 2026-12-01T00:00:00Z" in message
    assert "emergency.reason" in message
    assert "emergency.reason" in server.refusal(
        offering(server, snapshot(retiresAt="2026-11-01T00:00:00Z", emergency={"reason": ""}))
    )
    server.apply(offering(server, snapshot(retiresAt="2026-12-02T00:00:00Z", replacement="m-2")))
    early = snapshot(retiresAt="2026-11-01T00:00:00Z", emergency={"reason": "weights leak"})
    server.apply(offering(server, early))


def test_deprecation_comes_before_retirement(server: Server) -> None:
    late = snapshot(deprecatedFrom="2026-12-02", retiresAt="2026-12-01T00:00:00Z")
    assert "deprecatedFrom must not be later than retiresAt" in server.refusal(offering(server, late))


def test_retirement_inside_a_commitment_needs_an_emergency(server: Server) -> None:
    server.apply(offering(server))
    used = {"name": "m-1", "lifecycle": "Active", "pinnedInstances": 1, "latestCommitmentEnd": TERM_END}
    server.set_status("modelofferings", {"snapshots": [used]})
    early = snapshot(retiresAt="2026-12-01T00:00:00Z")
    message = server.refusal(offering(server, snapshot(name="m-2"), early))
    assert "spec.snapshots[].retiresAt lies inside a commitment that pins the snapshot" in message
    assert "not before status.snapshots[].latestCommitmentEnd, or state emergency.reason" in message
    server.apply(offering(server, snapshot(retiresAt=TERM_END)))
    # Nor in two steps: a date that is taken away is not known any more.
    server.apply(offering(server))
    assert "lies inside a commitment" in server.refusal(offering(server, early))
    server.apply(offering(server, early | {"emergency": {"reason": "weights leak"}}))


def test_an_instance_is_whole_blocks_on_every_node(server: Server) -> None:
    message = server.refusal(offering(server, computeUnitsPerInstance=300, nodesPerInstance=2))
    assert "must be a multiple of 200 (100 * nodesPerInstance)" in message


def test_prices_are_append_only(server: Server) -> None:
    first, second = token_price(), token_price(direction="Output")
    server.apply(price_book(server, [first, second]))
    assert "spec.tokenUnits is append-only" in server.refusal(price_book(server, [first]))
    assert "prices are append-only" in server.refusal(
        price_book(server, [first, token_price(direction="Output", pricePerUnitDay="1.00")])
    )
    gone = price_book(server, [])
    del gone["spec"]["tokenUnits"]
    assert "spec.tokenUnits cannot be removed" in server.refusal(gone)
    # In front, not at the end: entries are known by their key, not by their place.
    server.apply(price_book(server, [token_price(effectiveFrom="2026-01-01"), first, second]))


def test_a_full_price_book_is_updated_within_the_cost_budget(server: Server) -> None:
    entries = [token_price(offering=f"model-{number:03}-{'x' * 50}") for number in range(400)]
    server.apply(price_book(server, entries[:399]))
    server.apply(price_book(server, entries))
    assert "spec.tokenUnits is append-only" in server.refusal(price_book(server, entries[1:]))
    assert "400" in server.refusal(price_book(server, [*entries, token_price()]))


def test_the_largest_pool_and_offering_are_updated_within_the_cost_budget(server: Server) -> None:
    orders = [commitment(id=f"{number:02}-{'x' * 60}") for number in range(50)]
    entries = [
        {"commitment": order["id"], "at": "2026-06-01", "computeUnits": 300, "reason": "y" * 1024} for order in orders
    ]
    server.apply(pool(server, *orders, amendments=entries[:49]))
    states = [{"id": order["id"], "state": "Active", "termEnd": TERM_END} for order in orders]
    server.set_status("cup", {"commitments": states})
    server.apply(pool(server, *orders, amendments=entries))
    last_reduced = [*orders[:49], orders[49] | {"computeUnits": 500}]
    assert f"commitment {orders[49]['id']} is Active" in server.refusal(pool(server, *last_reduced, amendments=entries))
    versions = [
        snapshot(name=f"{number:02}-{'x' * 60}", artifact=DIGEST, retiresAt="2028-01-01T00:00:00Z")
        for number in range(64)
    ]
    server.apply(offering(server, *versions))
    used = [
        {"name": item["name"], "lifecycle": "Active", "pinnedInstances": 1, "latestCommitmentEnd": TERM_END}
        for item in versions
    ]
    server.set_status("modelofferings", {"snapshots": used})
    server.apply(offering(server, *[item | {"replacement": "other"} for item in versions]))
    assert "that is pinned cannot be removed" in server.refusal(offering(server, *versions[:63]))


def test_a_block_is_a_whole_number_of_gpus(server: Server) -> None:
    assert "must be a multiple of 100" in server.refusal(accelerators(server, computeUnitsPerNode=150))
    message = server.refusal(accelerators(server, computeUnitsPerNode=300))
    assert "8 GPUs as 300 compute units do not come out whole" in message
    server.apply(accelerators(server))
    assert "spec.gpusPerNode is immutable" in server.refusal(accelerators(server, gpusPerNode=16))


# --- Instances and reservations


def test_an_instance_has_a_name_that_its_children_can_carry(server: Server) -> None:
    for name in ("9lives", "a" * 41, "chat.v2"):
        document = instance(server)
        document["metadata"]["name"] = name
        assert "metadata.name of a ModelInstance must begin with a letter" in server.refusal(document)


def test_an_instance_is_bounded_and_keeps_pool_and_model(server: Server) -> None:
    in_place = {"strategy": "InPlace"}
    assert "minAvailable must be given" in server.refusal(instance(server, upgrade=in_place))
    server.apply(instance(server, upgrade=in_place | {"minAvailable": 1}))
    for spec in (
        {"instances": 1001},
        {"upgrade": {"maxSurge": 0}},
        {"changeSet": {"id": "a", "members": 1}},
        {"changeSet": {"id": "a", "members": 21}},
    ):
        assert "should be" in server.refusal(instance(server, **spec))
    for field in ("poolRef", "offering"):
        assert f"spec.{field} is immutable" in server.refusal(instance(server, **{field: "other"}))


def test_an_instance_is_scaled_by_kubectl(server: Server) -> None:
    server.apply(instance(server))
    server.kubectl("scale", "mi", server.name, "--replicas=3", *server.at())
    spec = json.loads(server.kubectl("get", "mi", server.name, "-o", "json", *server.at()).stdout)["spec"]
    assert spec["instances"] == 3
    refused(server.kubectl("scale", "cup", server.name, "--replicas=3", *server.at(), check=False))


def test_a_reservation_has_units(server: Server) -> None:
    assert "at least one of input and output" in server.refusal(tokens(server, units={}))
    server.apply(tokens(server))
    assert "spec.offering is immutable" in server.refusal(tokens(server, offering="other"))


# --- Reading


def test_kubectl_explain_is_the_manual(server: Server) -> None:
    help_text = " ".join(server.kubectl("explain", "cup.spec.commitments").stdout.split())
    assert "a multiple of 100" in help_text
    assert "ThreeMonths (90 days) or OneYear (365 days)" in help_text
    assert "Default: Surge" in " ".join(server.kubectl("explain", "mi.spec.upgrade").stdout.split())


def test_one_command_lists_all_kinds_and_fields_select(server: Server) -> None:
    server.apply(pool(server))
    server.apply(instance(server))
    server.apply(tokens(server))
    listed = server.kubectl("get", "reserved", *server.at()).stdout
    for heading in ("CONTRACTED", "UPTODATE", "IN-UNITS"):
        assert heading in listed
    for resource, selector in (("cup", "spec.account=acme"), ("mi", "spec.poolRef=prod,spec.snapshot=m-1")):
        found = server.kubectl("get", resource, f"--field-selector={selector}", "-o", "name", *server.at()).stdout
        assert server.name in found
