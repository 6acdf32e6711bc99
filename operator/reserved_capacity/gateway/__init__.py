"""Owns what a gateway is told of limits, and what its counters say of use: pure functions between `limits.json` and the
configuration of the rate-limit service, of Envoy and of Envoy Gateway (ADR 0050).

`limits` is the format of the ConfigMap; `ratelimit`, `envoy` and `policy` are made from it; `usage` reads the way back.
"""
