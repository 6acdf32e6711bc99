"""Owns the plugin's way to the API server: the person's own kubeconfig and identity; reading, and editing one spec."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from kubernetes.aio import config

from reserved_capacity.adapters.access import Access, in_cluster, own_namespace
from reserved_capacity.adapters.kubernetes import KubernetesCluster
from reserved_capacity.cli.errors import CliError, from_api
from reserved_capacity.cli.kubeconfig import Choice
from reserved_capacity.ports import (
    ApiError,
    Cluster,
    ClusterReader,
    Conflict,
    Forbidden,
    JsonObject,
    Listing,
    OutcomeUnknown,
    Precondition,
    Ref,
    Resource,
)

FIELD_MANAGER = "kubectl-reserved"

_config: Any = config  # the loaders have no annotations


class _UserAccess(Access):
    """Who the kubeconfig's context says; as kubectl does, the pod's service account only where there is no kubeconfig."""

    def __init__(self, choice: Choice) -> None:
        super().__init__(None)
        self._choice = choice

    async def reload(self) -> None:
        if not self._choice.files:
            await super().reload()
            return
        await _config.load_kube_config(
            config_file=self._choice.path,
            context=self._choice.context,
            client_configuration=self._configuration,
            persist_config=False,
        )


class Reader:
    """LISTs, with failures as messages for a person."""

    def __init__(self, cluster: ClusterReader, server: str) -> None:
        self._cluster = cluster
        self.server = server

    async def list(
        self, resource: Resource, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> Listing:
        """All objects that match. Raises CliError, and of that NotAllowed where RBAC refuses."""
        try:
            return await self._cluster.list(
                resource, namespace=namespace, label_selector=label_selector, field_selector=field_selector
            )
        except ApiError as error:
            raise from_api(
                error, verb="list", resource=resource, namespace=namespace, server=self.server
            ) from error.__cause__


class Editor:
    """One object, read and edited, with failures as messages for a person; but for Conflict, which the caller decides on."""

    def __init__(self, cluster: Cluster, server: str) -> None:
        self._cluster = cluster
        self._server = server

    async def get(self, ref: Ref) -> JsonObject | None:
        try:
            return await self._cluster.get(ref)
        except ApiError as error:
            raise self._told(error, "get", ref) from error.__cause__

    async def patch(self, ref: Ref, precondition: Precondition, merge: JsonObject) -> JsonObject:
        """Raises Conflict where the object is not the one that was read."""
        try:
            return await self._cluster.patch(ref, precondition, merge)
        except Conflict:
            raise
        except OutcomeUnknown as error:
            raise CliError(
                f"no answer to the change of {ref}: it may have been carried out, so look before you repeat ({error})"
            ) from error.__cause__
        except ApiError as error:
            raise self._told(error, "patch", ref) from error.__cause__

    def _told(self, error: ApiError, verb: str, ref: Ref) -> CliError:
        if isinstance(error, Forbidden) and error.code == 403 and verb == "patch":
            return CliError(f"you may not change {ref}: {error}")
        return from_api(error, verb=verb, resource=ref.resource, namespace=ref.namespace, server=self._server)


@asynccontextmanager
async def editing(choice: Choice) -> AsyncIterator[tuple[Reader, Editor]]:
    """As `connected`, with an editor beside the reader; what it writes carries the plugin's name."""
    async with _api(choice) as (api_client, access):
        cluster = KubernetesCluster(api_client, reload=access.reload, field_manager=FIELD_MANAGER)
        yield Reader(cluster, access.server), Editor(cluster, access.server)


@asynccontextmanager
async def connected(choice: Choice) -> AsyncIterator[Reader]:
    """A reader over one connection pool, closed at the end. Raises CliError for a kubeconfig that does not work."""
    async with _api(choice) as (api_client, access):
        yield Reader(KubernetesCluster(api_client, reload=access.reload), access.server)


@asynccontextmanager
async def _api(choice: Choice) -> AsyncIterator[tuple[Any, _UserAccess]]:
    if not choice.files and not in_cluster():
        raise CliError("there is no kubeconfig: give --kubeconfig, or set KUBECONFIG")
    access = _UserAccess(choice)
    try:
        await access.reload()
        api_client = access.api_client()
    except (_config.ConfigException, OSError, ValueError, TypeError, KeyError) as error:
        # The library meets a part that is missing, such as a user, as a TypeError or KeyError.
        what = f"{type(error).__name__}: {error}"
        raise CliError(f"the context {choice.context!r} of the kubeconfig cannot be used ({what})") from error
    try:
        yield api_client, access
    finally:
        await access.close()


def default_namespace(choice: Choice) -> str:
    """The namespace that kubectl would use: the context's, in a pod without kubeconfig the pod's, else `default`."""
    if not choice.files:
        return own_namespace() or "default"
    return choice.namespace or "default"
