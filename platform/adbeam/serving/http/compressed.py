"""Compressed request bodies: `Content-Encoding: gzip`, `deflate` and `zstd`, unpacked no further than the limit of a
body."""

from __future__ import annotations

import zlib

import pyarrow as pa
from starlette.requests import ClientDisconnect, Request

from adbeam.serving.http.problems import Problem

DRAINED_BYTES = 64 << 20
"""Of a body that is too large, what is read and dropped so that the client sees the answer."""
READ_CODINGS = "gzip, deflate, zstd"
ZSTD = "zstd"
ZSTD_MAGIC, ZSTD_WINDOW_MOST = b"\x28\xb5\x2f\xfd", 8 << 20
"""How a frame begins, and the most memory that it may ask for to be unpacked (RFC 9659)."""
WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
RAW_DEFLATE_BITS = -15
MEMBERS_MAX = 8
"""Parts of one gzip body: each costs a copy of the rest, and thousands of empty ones fit into a small body."""
ZLIB_METHOD, ZLIB_CHECK = 8, 31
"""A zlib header says method 8 in its low bits and is a multiple of 31 (RFC 1950); what else comes as deflate is raw."""


async def read_body(request: Request, limit: int) -> bytes:
    """The body, unpacked, kept no further than `limit` bytes.

    Raises Problem 413 for more than the limit, 415 for a coding that is not read, 400 for a body that does not unpack.
    """
    coding = request.headers.get("content-encoding")
    if coding is None:
        return await _received(request, limit)
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        return await _received(request, limit)
    if coding == ZSTD:
        return unpacked_zstd(await _received(request, limit), limit)
    if coding not in WINDOW_BITS:
        detail = f"the body comes as Content-Encoding: {coding[:40]}; send {READ_CODINGS} or plain JSON"
        raise Problem(415, detail, headers={"Accept-Encoding": READ_CODINGS})
    return unpacked(await _received(request, limit), coding, limit)


def unpacked(packed: bytes, coding: str, limit: int) -> bytes:
    """The bytes that `packed` stands for; `coding` is one of WINDOW_BITS.

    No more than `limit` + 1 bytes are ever unpacked. Raises Problem 400 for damaged or cut bytes, 413 beyond the limit.
    """
    body = b""
    for _ in range(1 if coding == "deflate" else MEMBERS_MAX):
        unpacker = zlib.decompressobj(_window_bits(packed, coding))
        try:
            body += unpacker.decompress(packed, limit + 1 - len(body))
        except zlib.error:
            raise Problem(400, f"the body cannot be unpacked as {coding}: it is damaged") from None
        if len(body) > limit:
            raise _too_large(limit)
        if not unpacker.eof:
            raise Problem(400, f"the body cannot be unpacked as {coding}: it ends too early")
        packed = unpacker.unused_data
        if not packed:
            return body
    raise Problem(400, f"the body cannot be unpacked as {coding}: {len(packed)} bytes follow its end")


def unpacked_zstd(packed: bytes, limit: int) -> bytes:
    """The same for zstd."""
    if _zstd_window(packed) > ZSTD_WINDOW_MOST:
        raise Problem(
            400, f"the body cannot be unpacked as zstd: its window is larger than {ZSTD_WINDOW_MOST >> 20} MiB"
        )
    try:
        with pa.CompressedInputStream(pa.BufferReader(packed), ZSTD) as stream:
            body: bytes = stream.read(limit + 1)
    except OSError as error:
        why = "it ends too early" if "Truncated" in str(error) else "it is damaged"
        raise Problem(400, f"the body cannot be unpacked as zstd: {why}") from None
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _zstd_window(packed: bytes) -> int:
    """The window that the first frame asks for (RFC 8878, 3.1.1.1.2); 0 where it needs none of its own."""
    if len(packed) < 6 or packed[:4] != ZSTD_MAGIC or packed[4] & 32:
        return 0
    exponent, mantissa = packed[5] >> 3, packed[5] & 7
    return (1 << (10 + exponent)) * (8 + mantissa) >> 3


def _window_bits(packed: bytes, coding: str) -> int:
    if coding != "deflate" or len(packed) < 2:
        return WINDOW_BITS[coding]
    has_header = packed[0] & 15 == ZLIB_METHOD and int.from_bytes(packed[:2]) % ZLIB_CHECK == 0
    return WINDOW_BITS[coding] if has_header else RAW_DEFLATE_BITS


async def _received(request: Request, limit: int) -> bytes:
    """The rest of a body that is too large is read and dropped, within bounds, so that the client sees the answer and
    not a broken connection. Most bodies come in one piece, which is taken as it is; raises ClientDisconnect."""
    kept, received, more = bytearray(), 0, True
    while more and received <= limit + DRAINED_BYTES:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece, more = message.get("body", b""), message.get("more_body", False)
        received += len(piece)
        if not more and received == len(piece) <= limit:
            return bytes(piece)
        if received <= limit:
            kept += piece
    if received > limit:
        raise _too_large(limit)
    return bytes(kept)


def _too_large(limit: int) -> Problem:
    detail = f"the body is larger than {limit} bytes; send less at once"
    return Problem(413, detail, headers={"Connection": "close"})
