"""Hypothesis profiles: `quick` for every run, `thorough` for `pytest --hypothesis-profile=thorough`."""

from __future__ import annotations

import structlog
from hypothesis import HealthCheck, settings

_ALWAYS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Derandomised: what CI says of a commit does not change from run to run. Chance is for the thorough profile.
settings.register_profile("quick", _ALWAYS, max_examples=60, stateful_step_count=20, derandomize=True)
settings.register_profile("thorough", _ALWAYS, max_examples=1500, stateful_step_count=50)
settings.load_profile("quick")

# Plain logs: a traceback with every local of the simulated world, drawn in boxes, takes minutes.
structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()])
