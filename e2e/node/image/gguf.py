"""Writes a language model of a few thousand random weights: real enough for a real inference server, and worth nothing.

The file is GGUF version 3 of the architecture `llama`, with a vocabulary of bytes. The same model is the same bytes.
"""

from __future__ import annotations

import random
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

_UINT32, _FLOAT32, _BOOL, _STRING, _ARRAY, _INT32 = 4, 6, 7, 8, 9, 5
_F32 = 0  # the tensor type, which also is the file type
_ALIGNMENT = 32
_NORMAL, _CONTROL = 1, 3
_CONTEXT = 4096
_CHAT_TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant:"  # no model needs more


@dataclass(frozen=True)
class Model:
    """Shape and seed; more and wider layers are slower."""

    name: str
    seed: int
    layers: int = 2
    width: int = 64
    heads: int = 4

    def to_bytes(self) -> bytes:
        """The whole file."""
        tensors = list(self._tensors())
        fields = self._fields()
        head = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(fields))]
        head += [_string(key) + struct.pack("<I", kind) + value for key, kind, value in fields]
        offset = 0
        for name, shape, _ in tensors:
            # The innermost dimension comes first.
            dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
            head.append(_string(name) + dimensions + struct.pack("<IQ", _F32, offset))
            offset += _aligned(4 * prod(shape))
        start = b"".join(head)
        return b"".join([_padded(start), *(_padded(data) for _, _, data in tensors)])

    @property
    def _feed_forward(self) -> int:
        return 2 * self.width

    def _fields(self) -> list[tuple[str, int, bytes]]:
        tokens, types = _vocabulary()
        numbers = {
            "llama.context_length": _CONTEXT,
            "llama.embedding_length": self.width,
            "llama.block_count": self.layers,
            "llama.feed_forward_length": self._feed_forward,
            "llama.attention.head_count": self.heads,
            "llama.attention.head_count_kv": self.heads,
            "llama.rope.dimension_count": self.width // self.heads,
            "llama.vocab_size": len(tokens),
            "general.file_type": _F32,
            "tokenizer.ggml.bos_token_id": 256,
            "tokenizer.ggml.eos_token_id": 257,
            "tokenizer.ggml.padding_token_id": 258,
        }
        words = {
            "general.architecture": "llama",
            "general.name": self.name,
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "gpt-2",
            "tokenizer.chat_template": _CHAT_TEMPLATE,
        }
        return [
            *((key, _STRING, _string(word)) for key, word in words.items()),
            *((key, _UINT32, struct.pack("<I", number)) for key, number in numbers.items()),
            ("llama.attention.layer_norm_rms_epsilon", _FLOAT32, struct.pack("<f", 1e-5)),
            ("tokenizer.ggml.add_bos_token", _BOOL, b"\0"),
            ("tokenizer.ggml.tokens", _ARRAY, _array(_STRING, [_string(token) for token in tokens])),
            ("tokenizer.ggml.token_type", _ARRAY, _array(_INT32, [struct.pack("<i", each) for each in types])),
            ("tokenizer.ggml.merges", _ARRAY, _array(_STRING, [_string(merge) for merge in _MERGES])),
        ]

    def _tensors(self) -> Iterator[tuple[str, Sequence[int], bytes]]:
        chance = random.Random(self.seed)  # noqa: S311 -- weights, not secrets
        width, feed, words = self.width, self._feed_forward, len(_vocabulary()[0])

        def weights(name: str, *shape: int) -> tuple[str, Sequence[int], bytes]:
            return name, shape, array("f", (chance.gauss(0, 0.05) for _ in range(prod(shape)))).tobytes()

        def ones(name: str) -> tuple[str, Sequence[int], bytes]:
            return name, (width,), array("f", [1.0] * width).tobytes()

        yield weights("token_embd.weight", words, width)
        yield ones("output_norm.weight")
        yield weights("output.weight", words, width)
        for layer in range(self.layers):
            block = f"blk.{layer}"
            yield ones(f"{block}.attn_norm.weight")
            yield ones(f"{block}.ffn_norm.weight")
            for part in ("q", "k", "v", "output"):
                yield weights(f"{block}.attn_{part}.weight", width, width)
            yield weights(f"{block}.ffn_gate.weight", feed, width)
            yield weights(f"{block}.ffn_up.weight", feed, width)
            yield weights(f"{block}.ffn_down.weight", width, feed)


_MERGES = ("Ġ t", "h e")


def _vocabulary() -> tuple[list[str], list[int]]:
    """Every byte as GPT-2 spells it, three control tokens, and what the merges make."""
    spelled = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in spelled]
    letters = {byte: chr(byte) for byte in spelled} | {byte: chr(256 + index) for index, byte in enumerate(hidden)}
    merged = [merge.replace(" ", "") for merge in _MERGES]
    tokens = [*(letters[byte] for byte in range(256)), "<|bos|>", "<|eos|>", "<|pad|>", *merged]
    return tokens, [*[_NORMAL] * 256, *[_CONTROL] * 3, *[_NORMAL] * len(merged)]


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _array(kind: int, items: Sequence[bytes]) -> bytes:
    return struct.pack("<IQ", kind, len(items)) + b"".join(items)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _padded(data: bytes) -> bytes:
    return data.ljust(_aligned(len(data)), b"\0")
