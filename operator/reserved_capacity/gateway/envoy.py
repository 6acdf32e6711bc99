"""Owns what an Envoy needs so that limits hold, as pieces of its configuration: HTTP filters, one route's part, and an access
log that counts. It names no limit and no account, so it changes only when an offering comes or goes.

Who asks is the header ACCOUNT_HEADER, which the provider's own authentication filter, placed before these, sets from the
identity that it has verified. What comes without it is refused.

Two calls to the rate-limit service for each request: before it, with 0 tokens, whether there is room; and when its answer
has ended, with the tokens of the server's own `usage`, which are known only then.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from reserved_capacity.gateway import ratelimit

ACCOUNT_HEADER: Final = "x-reserved-capacity-account"
SPILLED_HEADER: Final = "x-reserved-capacity"
STATS_PREFIX: Final = "reserved_capacity"
TOKENS_COUNTER: Final = "tokens"
REQUESTS_COUNTER: Final = "requests"
CACHED_DIRECTION: Final = "cached_input"
SERVED, SPILLED, SHADOWED, REJECTED, INVALID, FAILED = OUTCOMES = (
    "served",
    "spilled",
    "shadowed",
    "rejected",
    "invalid",
    "failed",
)

# The namespace and names that Envoy's AI gateway writes, so that a BackendTrafficPolicy reads the same (`policy`).
USAGE: Final = "io.envoy.ai_gateway"
INPUT, OUTPUT, CACHED = "llm_input_token", "llm_output_token", "llm_cached_input_token"

_TYPES = "type.googleapis.com/envoy.extensions"
_FILTERS = f"{_TYPES}.filters.http"
_RATE_LIMIT = "envoy.filters.http.ratelimit"
# Places in the request to the service, in the order of `_asked`: the service names counters that are full by place.
_TOKENS_AT, _UNITS_AT = (1, 2), (3, 4)

_NOBODY = f"""
function envoy_on_request(request)
  if not request:headers():get("{ACCOUNT_HEADER}") then
    refuse(request, "401", "Nobody is authenticated.")
    return
  end
"""
_UNCOUNTED = f"""
  local said = request:streamInfo():dynamicMetadata():get("{STATS_PREFIX}")
  if request:headers():get(":method") == "POST" and not said then
    refuse(request, "400", "The body has to be JSON, of content type application/json.")
    return
  end
  if said and said["stream"] == true and said["include_usage"] ~= true then
    refuse(request, "400", "A stream needs stream_options.include_usage true here: its tokens are counted.")
  end
"""
_ENTRANCE_END = """
end
function refuse(request, status, message)
  local body = '{"error": {"message": "' .. message .. '", "type": "invalid_request_error"}}'
  request:respond({[":status"] = status, ["content-type"] = "application/json"}, body)
end
"""

Config = dict[str, Any]


def header_mutations() -> list[Config]:
    """The connection manager's `early_header_mutation_extensions`: from outside nobody says who he is."""
    return [
        {
            "name": "envoy.http.early_header_mutation.header_mutation",
            "typed_config": {
                "@type": f"{_TYPES}.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                "mutations": [{"remove": ACCOUNT_HEADER}],
            },
        }
    ]


def http_filters(service_cluster: str, *, servers_force_usage: bool = False) -> list[Config]:
    """Between the provider's authentication and the router. `service_cluster` is the rate-limit service, over HTTP/2.

    A stream whose usage nobody tells cannot be counted. Where the servers do not tell it of their own accord (vLLM:
    `--enable-force-include-usage`) the client has to ask for it, or is refused.
    """
    return [_read_json(), _read_stream(), _entrance(servers_force_usage), _limiter(service_cluster)]


def route(offering: str, cached_input_weight: Decimal = Decimal(1)) -> Config:
    """What the route to an offering's servers has beside its match and its action."""
    return {
        "response_headers_to_add": [
            {
                "header": {"key": SPILLED_HEADER, "value": f"%CEL({_spilled()} ? '{SPILLED}' : '')%"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
        "metadata": {"filter_metadata": {STATS_PREFIX: {"offering": offering}}},
        "typed_per_filter_config": {
            _RATE_LIMIT: {
                "@type": f"{_FILTERS}.ratelimit.v3.RateLimitPerRoute",
                "rate_limits": [*_asked(offering), *_charged(offering, cached_input_weight)],
            }
        },
    }


def access_logs() -> list[Config]:
    """Counters of tokens, as the server counted them, and of requests, by account and offering; /stats/prometheus shows
    them. Only requests of somebody: a counter for each thing that strangers call themselves would fill the memory."""
    tokens = [
        _counter(TOKENS_COUNTER, {"direction": direction}, {"value_format": _tokens(name)})
        for direction, name in (*zip(ratelimit.DIRECTIONS, (INPUT, OUTPUT), strict=True), (CACHED_DIRECTION, CACHED))
    ]
    requests = _counter(REQUESTS_COUNTER, {"outcome": f"%CEL({_outcome()})%"}, {"value_fixed": 1})
    return [
        {
            "name": "envoy.access_loggers.stats",
            "filter": {"header_filter": {"header": {"name": ACCOUNT_HEADER, "present_match": True}}},
            "typed_config": {
                "@type": f"{_TYPES}.access_loggers.stats.v3.Config",
                "stat_prefix": STATS_PREFIX,
                "counters": [*tokens, requests],
            },
        }
    ]


def _asked(offering: str) -> list[Config]:
    admission = {"actions": _actions(offering, ratelimit.ADMISSION, ratelimit.EVERY_REQUEST)}
    counters = [
        {"hits_addend": {"number": 0}, "actions": _actions(offering, key, direction)}
        for key in (ratelimit.TOKENS, ratelimit.UNITS)
        for direction in ratelimit.DIRECTIONS
    ]
    return [admission, *counters]


def _charged(offering: str, cached_input_weight: Decimal) -> list[Config]:
    used = (_input_tokens(cached_input_weight), _tokens(OUTPUT))
    return [
        {
            "apply_on_stream_done": True,
            "hits_addend": {"format": tokens},
            "actions": _actions(offering, key, direction),
        }
        for key in (ratelimit.TOKENS, ratelimit.UNITS)
        for direction, tokens in zip(ratelimit.DIRECTIONS, used, strict=True)
    ]


def _actions(offering: str, key: str, value: str) -> list[Config]:
    return [
        {"generic_key": {"descriptor_key": ratelimit.OFFERING, "descriptor_value": offering}},
        {"request_headers": {"header_name": ACCOUNT_HEADER, "descriptor_key": ratelimit.ACCOUNT}},
        {"generic_key": {"descriptor_key": key, "descriptor_value": value}},
    ]


def _input_tokens(cached_weight: Decimal) -> str:
    """As the server counted them, less the discount on those it had in its cache, rounded down: whole tokens, and no
    float on the way."""
    discount = Fraction(1) - Fraction(cached_weight)
    if not discount:
        return _tokens(INPUT)
    return f"%CEL({_counted(INPUT)} - {_counted(CACHED)} * {discount.numerator} / {discount.denominator})%"


def _tokens(name: str) -> str:
    return f"%CEL({_counted(name)})%"


def _counted(name: str) -> str:
    """0 where the server said nothing, as of a request that it refused."""
    return f"({_has(USAGE, name)} ? int({_metadata(USAGE)}.{name}) : 0)"


def _metadata(namespace: str) -> str:
    return f"metadata.filter_metadata['{namespace}']"


def _has(namespace: str, name: str) -> str:
    """CEL has no value for a question about a key of a map that is not there."""
    return f"('{namespace}' in metadata.filter_metadata && has({_metadata(namespace)}.{name}))"


def _outcome() -> str:
    """The first of OUTCOMES, told from behind, that is true of a request, as CEL."""
    return (
        f"response.code_details == 'request_rate_limited' ? '{REJECTED}' : "
        f"response.code >= 500 ? '{FAILED}' : response.code >= 400 ? '{INVALID}' : "
        f"{_full(_TOKENS_AT)} ? '{SHADOWED}' : {_full(_UNITS_AT)} ? '{SPILLED}' : '{SERVED}'"
    )


def _spilled() -> str:
    """Of an answer that is about to go out: a refusal is marked by its status alone."""
    return f"{_full(_UNITS_AT)} && response.code != 429"


def _counter(name: str, tags: Mapping[str, str], amount: Config) -> Config:
    who = {"account": f"%REQ({ACCOUNT_HEADER})%", "offering": f"%METADATA(ROUTE:{STATS_PREFIX}:offering)%"}
    written = [{"name": key, "value_format": value} for key, value in {**who, **tags}.items()]
    return {"stat": {"name": name, "tags": written}, **amount}


def _full(places: tuple[int, ...]) -> str:
    """Whether the service named one of these places as full, as CEL."""
    full = "quotaModeViolations"
    named = " || ".join(f"{place}.0 in {_metadata(_RATE_LIMIT)}.{full}" for place in places)
    return f"({_has(_RATE_LIMIT, full)} && ({named}))"


def _entrance(servers_force_usage: bool) -> Config:
    """Refuses, in the form that OpenAI's clients show, what could not be counted."""
    checks = [_NOBODY] if servers_force_usage else [_NOBODY, _UNCOUNTED]
    return {
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": f"{_FILTERS}.lua.v3.Lua",
            "default_source_code": {"inline_string": "".join([*checks, _ENTRANCE_END])},
        },
    }


def _limiter(service_cluster: str) -> Config:
    return {
        "name": _RATE_LIMIT,
        "typed_config": {
            "@type": f"{_FILTERS}.ratelimit.v3.RateLimit",
            "domain": ratelimit.DOMAIN,
            # A service that is away is no fault of who has paid: requests pass, uncounted (ADR 0050).
            "failure_mode_deny": False,
            "timeout": "0.5s",
            "rate_limit_service": {
                "transport_api_version": "V3",
                "grpc_service": {"envoy_grpc": {"cluster_name": service_cluster}},
            },
            "response_headers_to_add": [
                {
                    # Every counter begins anew with the minute.
                    "header": {"key": "retry-after", "value": "%CEL(60 - request.time.getSeconds())%"},
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                }
            ],
        },
    }


def _usage_rules() -> list[Config]:
    paths = {
        INPUT: ("usage", "prompt_tokens"),
        OUTPUT: ("usage", "completion_tokens"),
        CACHED: ("usage", "prompt_tokens_details", "cached_tokens"),
    }
    return [
        {
            "selectors": [{"key": each} for each in path],
            "on_present": {"metadata_namespace": USAGE, "key": key, "type": "NUMBER"},
        }
        for key, path in paths.items()
    ]


def _read_json() -> Config:
    # Lua cannot tell "missing" from "not JSON" otherwise.
    said = [("stream",), ("stream_options", "include_usage")]
    asked = [
        {
            "selectors": [{"key": each} for each in path],
            "on_present": {"metadata_namespace": STATS_PREFIX, "key": path[-1]},
            "on_missing": {"metadata_namespace": STATS_PREFIX, "key": path[-1], "value": False},
        }
        for path in said
    ]
    # A list of content types is compared with all of the header, parameters too.
    is_json = {"allow_content_types_regex": {"regex": "(?i)application/json.*"}}
    return {
        "name": "envoy.filters.http.json_to_metadata",
        "typed_config": {
            "@type": f"{_FILTERS}.json_to_metadata.v3.JsonToMetadata",
            "request_rules": {**is_json, "rules": asked},
            "response_rules": {**is_json, "rules": _usage_rules()},
        },
    }


def _read_stream() -> Config:
    parser = {
        "@type": f"{_TYPES}.content_parsers.json.v3.JsonContentParser",
        "rules": [{"rule": rule} for rule in _usage_rules()],
    }
    return {
        "name": "envoy.filters.http.sse_to_metadata",
        "typed_config": {
            "@type": f"{_FILTERS}.sse_to_metadata.v3.SseToMetadata",
            "response_rules": {"content_parser": {"name": "envoy.content_parsers.json", "typed_config": parser}},
        },
    }
