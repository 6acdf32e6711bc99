"""Free ports on the loopback interface."""

from __future__ import annotations

import secrets
import socket

# Below Linux's range for outgoing connections (32768 and up), or one of the thousands of connections that a starting
# control plane makes could take a port between the moment it is chosen and the moment it is bound.
_CANDIDATES = range(20000, 32768)


def free_port() -> int:
    """A port that nobody listens on now."""
    while True:
        port = secrets.choice(_CANDIDATES)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
