"""Envoy Gateway itself on loopback: its real control plane on the cluster's API server, and the data plane that it configures:
Envoy and the rate-limit service, both over its own xDS.

What it would run as pods are processes here. The addresses that only pods have, and the filters of Envoy AI Gateway that tell
usage, are put into its xDS by EnvoyPatchPolicies; limits, keys and routes are as it translates them.
"""
