"""Owns the Envoy that a provider would write around our pieces: who has which key, and which host is which offering."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from reserved_capacity.gateway import envoy

_TYPES = "type.googleapis.com/envoy.extensions"
_SERVICE = "rate-limit-service"

Config = dict[str, Any]


@dataclass(frozen=True)
class Offering:
    """`port` is where its server listens; clients reach it by the host of the offering's name. `stands_in`: a stand-in for a
    large model (`standin`)."""

    name: str
    port: int
    cached_input_weight: Decimal = Decimal(1)
    stands_in: bool = False


def bootstrap(ports: Mapping[str, int], offerings: tuple[Offering, ...], accounts: tuple[str, ...]) -> Config:
    """`ports`: `gateway`, `admin` and `service`. The key of an account is its name with `key-` before it."""
    connections = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "early_header_mutation_extensions": envoy.header_mutations(),
        "access_log": envoy.access_logs(),
        "http_filters": [_authentication(accounts), *envoy.http_filters(_SERVICE), _ROUTER],
        "route_config": {"virtual_hosts": [_host(each) for each in offerings]},
    }
    listener = {
        "address": loopback(ports["gateway"]),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": connections}]}],
    }
    clusters = [static_cluster(each.name, each.port) for each in offerings]
    return {
        "admin": {"address": loopback(ports["admin"])},
        "static_resources": {
            "listeners": [listener],
            "clusters": [*clusters, {**static_cluster(_SERVICE, ports["service"]), **HTTP2}],
        },
    }


def _authentication(accounts: tuple[str, ...]) -> Config:
    """The provider's own. Any filter does that sets the header from what it has verified."""
    return {
        "name": "envoy.filters.http.api_key_auth",
        "typed_config": {
            "@type": f"{_TYPES}.filters.http.api_key_auth.v3.ApiKeyAuth",
            "credentials": [{"key": f"key-{account}", "client": account} for account in accounts],
            "key_sources": [{"header": "Authorization"}],
            "forwarding": {"header": envoy.ACCOUNT_HEADER, "hide_credentials": True},
        },
    }


def _host(offering: Offering) -> Config:
    route = {
        "match": {"prefix": "/v1/"},
        "route": {"cluster": offering.name, "timeout": "0s"},
        **envoy.route(offering.name, offering.cached_input_weight),
    }
    return {"name": offering.name, "domains": [offering.name], "routes": [route]}


def static_cluster(name: str, port: int) -> Config:
    return {"name": name, "type": "STATIC", "load_assignment": load_assignment(name, port)}


def load_assignment(cluster: str, port: int) -> Config:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": loopback(port)}}]}]
    return {"cluster_name": cluster, "endpoints": endpoints}


def loopback(port: int) -> Config:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


_ROUTER = {
    "name": "envoy.filters.http.router",
    "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"},
}
HTTP2 = {
    "typed_extension_protocol_options": {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
}
