"""The serving image: llama.cpp's own HTTP server (`/v1`, streaming, `/metrics`, `/health`) for the model at MODEL_PATH.

It ends as a server should: on SIGTERM it goes on until nobody waits for an answer any more, and only then stops.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
import urllib.request

import xllamacpp

_PORT = 8000
_QUIET_SECONDS = 0.3


def main() -> None:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = f"{os.environ['MODEL_PATH']}/model.gguf"
    parameters.model_alias = {os.environ["MODEL_SNAPSHOT"]}
    parameters.hostnames = ["0.0.0.0"]  # noqa: S104 -- the pod's address, whatever that is
    parameters.port = _PORT
    parameters.n_ctx = 2048
    parameters.n_parallel = 4
    parameters.n_threads_http = 16
    parameters.cpuparams.n_threads = 1
    parameters.warmup = False
    parameters.endpoint_metrics = True
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    server = xllamacpp.Server(parameters)
    print(f"serving {os.environ['MODEL_SNAPSHOT']} at {server.listening_address}", flush=True)
    ended.wait()
    print("asked to end", flush=True)
    while _busy():
        time.sleep(_QUIET_SECONDS)
    print("nobody waits any more", flush=True)
    os._exit(0)


def _busy() -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{_PORT}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return any(float(each) > 0 for each in re.findall(r"^llamacpp:requests_(?:processing|deferred) (\S+)", text, re.M))


if __name__ == "__main__":
    main()
