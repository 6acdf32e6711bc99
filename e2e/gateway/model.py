"""A model of random numbers, 470 kB, and llama.cpp's server on it. Run by the environment of `install`, never imported:

    python model.py DIRECTORY PORT

It says nonsense, but it counts its tokens, caches prompts and streams like any other.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import xllamacpp
from gguf import GGUFWriter, TokenType

_WIDTH, _LAYERS, _HEADS, _FEED_FORWARD, _CONTEXT = 64, 2, 4, 128, 4096
_SPECIAL = ("<|bos|>", "<|eos|>", "<|pad|>")
_TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
_SEED = 7


def write_model(path: Path) -> None:
    """One token for each byte, as GPT-2 spells bytes."""
    tokens = [*_bytes(), *_SPECIAL]
    types = [TokenType.NORMAL] * 256 + [TokenType.CONTROL] * len(_SPECIAL)
    writer: Any = GGUFWriter(str(path), "llama")
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(["Ġ t"])
    for number, name in enumerate(("bos", "eos", "pad"), start=256):
        getattr(writer, f"add_{name}_token_id")(number)
    writer.add_add_bos_token(False)
    writer.add_chat_template(_TEMPLATE)
    _write_weights(writer, len(tokens))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_weights(writer: Any, vocabulary: int) -> None:
    chance = numpy.random.default_rng(_SEED)

    def random(name: str, *shape: int) -> None:
        writer.add_tensor(f"{name}.weight", (chance.standard_normal(shape) * 0.05).astype(numpy.float32))

    def ones(name: str) -> None:
        writer.add_tensor(f"{name}.weight", numpy.ones(_WIDTH, numpy.float32))

    random("token_embd", vocabulary, _WIDTH)
    ones("output_norm")
    random("output", vocabulary, _WIDTH)
    for layer in range(_LAYERS):
        _write_layer(f"blk.{layer}", random, ones)


def _write_layer(name: str, random: Callable[..., None], ones: Callable[[str], None]) -> None:
    ones(f"{name}.attn_norm")
    ones(f"{name}.ffn_norm")
    for each in ("attn_q", "attn_k", "attn_v", "attn_output"):
        random(f"{name}.{each}", _WIDTH, _WIDTH)
    random(f"{name}.ffn_gate", _FEED_FORWARD, _WIDTH)
    random(f"{name}.ffn_up", _FEED_FORWARD, _WIDTH)
    random(f"{name}.ffn_down", _WIDTH, _FEED_FORWARD)


def _bytes() -> list[str]:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    shown = {byte: chr(byte) for byte in printable} | {byte: chr(256 + at) for at, byte in enumerate(others)}
    return [shown[byte] for byte in range(256)]


def serve(model: Path, port: int) -> None:
    """Until it is ended from outside."""
    parameters: Any = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.n_ctx = _CONTEXT
    parameters.cpuparams.n_threads = 1
    parameters.n_parallel = 4
    parameters.warmup = False
    parameters.endpoint_metrics = True
    parameters.port = port
    server: Any = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    path = Path(sys.argv[1]) / "random.gguf"
    write_model(path)
    serve(path, int(sys.argv[2]))
