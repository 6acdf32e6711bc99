"""The client: constant streaming requests to one URL, and a record of each, as one line of JSON a request.

`load URL WORKERS` runs until SIGTERM, from the first connection that is accepted on: kube-proxy learns of a Service's first
endpoint a moment after the instance is Ready. Each request is a connection of its own (llama.cpp's server closes it after a
stream in any case), with no retry: what fails has failed. An answer is whole when it has come to its end, with every token
that was asked for and the usage.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from urllib.parse import urlsplit

TOKENS = 16
_TIMEOUT_SECONDS = 30
_BODY = json.dumps(
    {
        "model": "any",
        "stream": True,
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "What is a compute unit?"}],
    }
).encode()


async def main() -> None:
    url, workers = urlsplit(sys.argv[1]), int(sys.argv[2])
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await _until_accepted(ended, url.hostname or "", url.port or 80)
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(_ask_until(ended, url.hostname or "", url.port or 80, url.path))


async def _until_accepted(ended: asyncio.Event, host: str, port: int) -> None:
    while not ended.is_set():
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return


async def _ask_until(ended: asyncio.Event, host: str, port: int, path: str) -> None:
    while not ended.is_set():
        began = time.time()
        record: dict[str, object] = {"at": round(began, 3)}
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                record |= await _ask(host, port, path)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            record["failed"] = f"{type(error).__name__}: {error}"
            await asyncio.sleep(0.1)  # a server that is gone is not asked a thousand times a second
        record["seconds"] = round(time.time() - began, 3)
        print(json.dumps(record), flush=True)


async def _ask(host: str, port: int, path: str) -> dict[str, object]:
    """Which snapshot has answered; raises ValueError when the answer is not whole."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        head = f"POST {path}/chat/completions HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(_BODY)}\r\n\r\n"
        writer.write(head.encode() + _BODY)
        await writer.drain()
        status = (await reader.readline()).decode().split(" ")
        if status[1:2] != ["200"]:
            raise ValueError(f"status {' '.join(status)!r}")
        lines = (await reader.read()).decode().splitlines()
    finally:
        writer.close()
    events = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    if events[-1:] != ["[DONE]"]:
        raise ValueError(f"the stream broke off after {len(events)} events")
    last = json.loads(events[-2])
    if last["usage"]["completion_tokens"] != TOKENS:
        raise ValueError(f"{last['usage']}")
    return {"snapshot": last["model"]}


if __name__ == "__main__":
    asyncio.run(main())
