"""The Applications: the order in which they come and go, and what must not be deleted without a person."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.argocd import argo

CHECKOUT = argo.CUSTOMIZATIONS.parents[2]
DIRECTORY = CHECKOUT / "manifests/argocd/applications"
ROOT = argo.load(DIRECTORY.parent / "root.yaml")
FILES = argo.load(DIRECTORY / "kustomization.yaml")["resources"]
OBJECTS = [each for name in FILES for each in argo.parse((DIRECTORY / name).read_text())]
APPS = {each["metadata"]["name"]: each for each in OBJECTS if each["kind"] == "Application"}
PROJECTS = {each["metadata"]["name"]: each["spec"] for each in OBJECTS if each["kind"] == "AppProject"}
PROVIDERS = ["reserved-capacity-crds", "reserved-capacity-operator", "reserved-capacity-catalogue"]
NAMES = [*PROVIDERS, "acme-pools", "acme-instances"]


def wave(obj: dict[str, Any]) -> int:
    return int(obj["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"])


def confirmations(name: str) -> str:
    annotations: dict[str, str] = APPS[name]["spec"]["source"]["kustomize"]["commonAnnotations"]
    return annotations["argocd.argoproj.io/sync-options"]


def test_all_files_are_in_the_kustomization_and_the_root_points_to_it() -> None:
    assert {path.name for path in DIRECTORY.iterdir()} == {*FILES, "kustomization.yaml"}
    assert CHECKOUT / ROOT["spec"]["source"]["path"] == DIRECTORY


def test_the_waves_are_projects_crds_operator_catalogue_pools_instances() -> None:
    assert [(name, wave(APPS[name])) for name in NAMES] == list(zip(NAMES, (-2, -1, 0, 1, 2), strict=True))
    assert {*APPS} == {*NAMES}
    assert {wave(each) for each in OBJECTS if each["kind"] == "AppProject"} == {-3}


@pytest.mark.parametrize("app", [ROOT, *APPS.values()], ids=lambda app: str(app["metadata"]["name"]))
def test_every_application_is_applied_and_compared_by_the_server_and_ignores_no_difference(app: dict[str, Any]) -> None:
    assert "ServerSideApply=true" in app["spec"]["syncPolicy"]["syncOptions"]
    assert app["metadata"]["annotations"]["argocd.argoproj.io/compare-options"] == "ServerSideDiff=true"
    assert "ignoreDifferences" not in app["spec"]
    assert (CHECKOUT / app["spec"]["source"]["path"]).is_dir()


@pytest.mark.parametrize("name", ["reserved-capacity-catalogue", "acme-pools", "acme-instances"])
def test_custom_resources_are_not_tried_out_before_their_crd_is_there(name: str) -> None:
    assert "SkipDryRunOnMissingResource=true" in APPS[name]["spec"]["syncPolicy"]["syncOptions"]


def test_pools_are_deleted_by_confirmation_only_and_never_pruned_by_themselves() -> None:
    assert confirmations("acme-pools") == "Prune=confirm,Delete=confirm"
    assert APPS["acme-pools"]["spec"]["syncPolicy"]["automated"]["prune"] is False


def test_the_crds_outlive_their_application_and_have_one_owner() -> None:
    assert confirmations("reserved-capacity-crds") == "Prune=false,Delete=false"
    assert "finalizers" not in APPS["reserved-capacity-crds"]["metadata"]
    assert APPS["reserved-capacity-operator"]["spec"]["source"]["helm"]["valuesObject"]["crds"] == {"install": False}


def test_deleting_the_root_takes_the_others_one_wave_after_the_other() -> None:
    for app in (ROOT, *(APPS[name] for name in NAMES[1:])):
        assert app["metadata"]["finalizers"] == ["resources-finalizer.argocd.argoproj.io"]


def test_each_application_stays_within_its_project_and_only_orders_can_buy() -> None:
    for app in APPS.values():
        allowed = [each["namespace"] for each in PROJECTS[app["spec"]["project"]]["destinations"]]
        assert app["spec"]["destination"]["namespace"] in allowed
        assert app["spec"]["source"]["repoURL"] in PROJECTS[app["spec"]["project"]]["sourceRepos"]
    buying = {"ComputeUnitPool", "TokenUnitReservation"}
    orders, serving = PROJECTS["reserved-capacity-orders"], PROJECTS["reserved-capacity-serving"]
    assert {each["kind"] for each in orders["namespaceResourceWhitelist"]} == buying
    assert {each["kind"] for each in serving["namespaceResourceWhitelist"]} == {"ModelInstance"}
    assert serving["clusterResourceWhitelist"] == []


def test_every_address_that_is_not_real_says_so() -> None:
    for path in [*DIRECTORY.glob("*.yaml"), DIRECTORY.parent / "root.yaml"]:
        for line in path.read_text().splitlines():
            assert "example.com" not in line or "# placeholder" in line, f"{path.name}: {line}"
