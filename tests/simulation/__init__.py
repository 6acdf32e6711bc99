"""Deterministic simulation of the operator (docs/testing.md). Simulated processes say nothing: there are thousands."""

import logging

import structlog

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
