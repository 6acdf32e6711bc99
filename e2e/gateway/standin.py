"""A stand-in for a large model's server, for what a model of 470 kB has not: images, a prompt cache worth the name, and a
context so long that one request is worth a minute. Run as `python standin.py DIRECTORY PORT`; standard library only.

It answers as llama.cpp does (`test_gateway_modalities` holds it to that), with `usage` after OpenAI's published rules: a
token for each word here, IMAGE_TOKENS for each image in `prompt_tokens`, and of a prompt of 1,024 tokens or more that was
seen before, whole blocks of 128 as `cached_tokens`. A prompt longer than CONTEXT is refused, as by `--max-model-len`.
"""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

IMAGE_TOKENS = 765
CONTEXT = 100_000
_LEAST_CACHED, _BLOCK = 1_024, 128

_seen: set[str] = set()


def usage_of(body: dict[str, Any]) -> dict[str, Any]:
    """What the answer to a request costs. With `"cached_details": null` in it, as vLLM tells it where it is not asked to."""
    parts = [part for message in body["messages"] for part in _parts(message["content"])]
    words = sum(len(part["text"].split()) for part in parts if part["type"] == "text")
    prompt = words + IMAGE_TOKENS * sum(part["type"] == "image_url" for part in parts)
    text, output = json.dumps(body["messages"]), int(body.get("max_tokens", 16))
    cached = prompt // _BLOCK * _BLOCK if text in _seen and prompt >= _LEAST_CACHED else 0
    _seen.add(text)
    details = None if body.get("cached_details", "") is None else {"cached_tokens": cached}
    return {
        "completion_tokens": output,
        "prompt_tokens": prompt,
        "total_tokens": prompt + output,
        "prompt_tokens_details": details,
    }


def _parts(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._send(200, "application/json", json.dumps({"status": "ok"}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        usage = usage_of(body)
        if usage["prompt_tokens"] > CONTEXT:
            error = {"code": 400, "message": f"more than {CONTEXT} tokens", "type": "exceed_context_size_error"}
            self._send(400, "application/json; charset=utf-8", json.dumps({"error": error}))
        elif body.get("stream"):
            self._send(200, "text/event-stream", "".join(f"data: {each}\n\n" for each in _events(body, usage)))
        else:
            choice = {"finish_reason": "length", "index": 0, "message": {"role": "assistant", "content": "word"}}
            document = _document("chat.completion", [choice]) | {"usage": usage}
            self._send(200, "application/json; charset=utf-8", json.dumps(document))

    def _send(self, status: int, content_type: str, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments: object) -> None:
        """Nothing."""


def _events(body: dict[str, Any], usage: dict[str, Any]) -> list[str]:
    """Usage comes in a last chunk of its own, without choices, to who asks for it."""
    kind = "chat.completion.chunk"
    chunks = [
        _document(kind, [{"finish_reason": None, "index": 0, "delta": {"role": "assistant", "content": None}}]),
        _document(kind, [{"finish_reason": None, "index": 0, "delta": {"content": "word"}}]),
        _document(kind, [{"finish_reason": "length", "index": 0, "delta": {}}]),
    ]
    if (body.get("stream_options") or {}).get("include_usage"):
        chunks.append(_document(kind, []) | {"usage": usage})
    return [*map(json.dumps, chunks), "[DONE]"]


def _document(kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"choices": choices, "created": int(time.time()), "id": "chatcmpl-1", "model": "standin", "object": kind}


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), _Handler).serve_forever()
