"""Owns the plugin's way to the API server: the person's own kubeconfig and identity, and reading only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from kubernetes.aio import config

from reserved_capacity.adapters.access import Access, in_cluster, own_namespace
from reserved_capacity.adapters.kubernetes import KubernetesCluster
from reserved_capacity.cli.errors import CliError, from_api
from reserved_capacity.cli.kubeconfig import Choice
from reserved_capacity.ports import ApiError, ClusterReader, Listing, Resource

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


@asynccontextmanager
async def connected(choice: Choice) -> AsyncIterator[Reader]:
    """A reader over one connection pool, closed at the end. Raises CliError for a kubeconfig that does not work."""
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
        yield Reader(KubernetesCluster(api_client, reload=access.reload), access.server)
    finally:
        await access.close()


def default_namespace(choice: Choice) -> str:
    """The namespace that kubectl would use: the context's, in a pod without kubeconfig the pod's, else `default`."""
    if not choice.files:
        return own_namespace() or "default"
    return choice.namespace or "default"
