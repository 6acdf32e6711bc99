"""What servers say of themselves, as they say it (behaviour.md S7)."""

from __future__ import annotations

import pytest
from aiohttp import web

from reserved_capacity.adapters.server_metrics import ServerMetrics, counted

VLLM = """\
# HELP vllm:generation_tokens_total Number of generation tokens processed.
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="m"} 1200.0
vllm:generation_tokens_total{engine="1",model_name="m"} 300.0
# HELP vllm:request_decode_time_seconds Histogram of time spent in DECODE phase for request.
# TYPE vllm:request_decode_time_seconds histogram
vllm:request_decode_time_seconds_bucket{engine="0",le="+Inf",model_name="m"} 3.0
vllm:request_decode_time_seconds_count{engine="0",model_name="m"} 3.0
vllm:request_decode_time_seconds_sum{engine="0",model_name="m"} 12.5
"""
LLAMA = """\
# HELP llamacpp:tokens_predicted_total Number of generation tokens processed
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total 16
# HELP llamacpp:tokens_predicted_seconds_total Total time spent generating tokens
# TYPE llamacpp:tokens_predicted_seconds_total counter
llamacpp:tokens_predicted_seconds_total 0.005557
"""
SGLANG = "# TYPE sglang:generation_tokens_total counter\nsglang:generation_tokens_total 7\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (VLLM, (1500, 12_500)),
        (LLAMA, (16, 6)),
        (SGLANG, (7, None)),
        ("# TYPE up gauge\nup 1\n", None),
        ("<html>", None),
        ("", None),
    ],
)
def test_s7_tokens_and_working_time_are_read_as_each_server_names_them(
    text: str, found: tuple[int, int | None] | None
) -> None:
    assert counted(text) == found


async def test_a_server_that_answers_otherwise_or_not_at_all_says_nothing(unused_tcp_port: int) -> None:
    async def metrics(request: web.Request) -> web.Response:
        if request.path == "/moved":
            raise web.HTTPFound("/metrics")
        return web.Response(text=LLAMA, status=200 if request.path == "/metrics" else 503)

    application = web.Application()
    application.router.add_get("/{path}", metrics)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    url = f"http://127.0.0.1:{unused_tcp_port}"
    try:
        assert await ServerMetrics().read(f"{url}/metrics") == (16, 6)
        assert await ServerMetrics().read(f"{url}/loading") is None
        # Nobody sends the operator elsewhere.
        assert await ServerMetrics().read(f"{url}/moved") is None
    finally:
        await runner.cleanup()
    assert await ServerMetrics().read(f"{url}/metrics") is None
