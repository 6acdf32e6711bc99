"""The network between the nodes, as a process: a bridge in a namespace of its own, and the way from there to the API server.

The API server listens on this machine's loopback, which no other network namespace reaches. This process has a foot in
both: its main thread goes into a new namespace and stays there, with the bridge and a listening socket; the thread that
was started before takes the connections of that socket over and passes them on. The machine's own network is not touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from e2e.node.namespaces import CLONE_NEWNET, die_with_parent, unshare

GATEWAY = "10.88.0.1"
PORT = 6443
BRIDGE = "nodes"
_CHUNK = 64 * 1024


def main() -> None:
    """`fabric PORT READY`: relay to this port of loopback until killed, and make the file READY when that works."""
    port, ready = int(sys.argv[1]), Path(sys.argv[2])
    die_with_parent()
    listening: list[socket.socket] = []
    made = threading.Event()

    def relay() -> None:
        made.wait()
        asyncio.run(_relay(listening[0], port))

    # Before the main thread leaves: a new thread is where its maker is.
    threading.Thread(target=relay, daemon=True).start()
    unshare(CLONE_NEWNET)
    for command in (
        f"ip link add {BRIDGE} type bridge",
        f"ip address add {GATEWAY}/24 dev {BRIDGE}",
        f"ip link set {BRIDGE} up",
        "ip link set lo up",
    ):
        subprocess.run(command.split(), check=True)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    listening.append(socket.create_server((GATEWAY, PORT), backlog=128))
    made.set()
    ready.touch()
    signal.pause()


async def _relay(listening: socket.socket, port: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pass_on(reader, upstream_writer), _pass_on(upstream_reader, writer))

    server = await asyncio.start_server(serve, sock=listening)
    await server.serve_forever()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction of a connection, to its end."""
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


if __name__ == "__main__":
    main()
