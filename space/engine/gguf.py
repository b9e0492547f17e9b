"""The header of a GGUF file: what it says of itself, read in a moment.

Not the `gguf` package's reader, which builds an object for each of a vocabulary's 262,144 words: 10 seconds and 700 MB.
The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from space.errors import ModelError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
KEPT = 256 * 2**20
"""Bytes for conversations whose place somebody else has taken: whoever goes on with one does not wait for all of it again."""
OVERHEAD = KEPT + 256 * 2**20
"""Bytes that serving a file takes beside weights and cache: with buffers of a batch and the logits of a large vocabulary."""


@dataclass(frozen=True)
class Header:
    """The metadata of a GGUF file, without its arrays, and its size in bytes."""

    values: dict[str, Any]
    size: int

    @property
    def architecture(self) -> str:
        return str(self.values.get("general.architecture", ""))

    @property
    def context(self) -> int:
        """Tokens it was trained with."""
        return int(self._of("context_length") or 4096)

    def cache_bytes(self, batch: int) -> tuple[int, int]:
        """Bytes of keys and values (float16): for each token of the context, and for each conversation besides.

        Layers of Gemma 3 with a sliding window, five of six, keep that window and the batch that is being read.
        """
        layers, heads = int(self._of("block_count")), int(self._of("attention.head_count") or 1)
        kept = int(self._of("attention.head_count_kv") or heads)
        width = int(self._of("embedding_length")) // heads
        token = (
            2 * kept * int((self._of("attention.key_length") or width) + (self._of("attention.value_length") or width))
        )
        window = int(self._of("attention.sliding_window"))
        sliding = layers - layers // 6 if self.architecture == "gemma3" and window else 0
        return token * (layers - sliding), token * sliding * (window + batch)

    def _of(self, name: str) -> Any:
        return self.values.get(f"{self.architecture}.{name}", 0)


def read_header(file: Path, name: str) -> Header:
    """The header of `file`, called `name` in sentences. Raises `ModelError` where it is no GGUF, or cut off."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise ModelError(f"{name} is not a GGUF file; choose another, or set ENGINE=transformers.")
        try:
            version, tensors, count = _unpack(stream, "IQQ")
            if version < 2:
                raise ModelError(
                    f"{name} is a GGUF file of version {version}, too old for llama.cpp; fetch a newer one."
                )
            values = {_text(stream): _value(stream, *_unpack(stream, "I")) for _ in range(count)}
            end = max((_tensor_offset(stream) for _ in range(tensors)), default=0) + stream.tell()
        except (struct.error, UnicodeDecodeError, KeyError, OverflowError) as error:
            raise _damaged(file, name) from error
    if end >= size:
        raise _damaged(file, name)
    return Header({key: value for key, value in values.items() if value is not None}, size)


def _damaged(file: Path, name: str) -> ModelError:
    return ModelError(
        f"The GGUF file of {name} is damaged or only half downloaded; delete {file.resolve()} and fetch it again."
    )


def _unpack(stream: BinaryIO, format: str) -> tuple[Any, ...]:
    return struct.unpack(f"<{format}", stream.read(struct.calcsize(f"<{format}")))


def _text(stream: BinaryIO) -> str:
    (length,) = _unpack(stream, "Q")
    data = stream.read(length)
    if len(data) < length:
        raise struct.error("cut off")
    return data.decode()


def _value(stream: BinaryIO, kind: int) -> Any:
    """A value; None for an array, which is passed over."""
    if kind == _STRING:
        return _text(stream)
    if kind != _ARRAY:
        return _unpack(stream, _SCALARS[kind])[0]
    inner, length = _unpack(stream, "IQ")
    if inner in _SCALARS:
        stream.seek(length * struct.calcsize(_SCALARS[inner]), 1)
    else:
        for _ in range(length):
            if inner == _STRING:
                stream.seek(_unpack(stream, "Q")[0], 1)
            else:
                _value(stream, inner)
    return None


def _tensor_offset(stream: BinaryIO) -> int:
    """Where a tensor's data begins, behind the header."""
    _text(stream)
    (dimensions,) = _unpack(stream, "I")
    return int(_unpack(stream, f"{dimensions}QIQ")[-1])
