"""Compressed request bodies: read, bounded once unpacked, and refused by name."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pyarrow as pa
import pytest
from tests.support.asgi import call
from tests.support.echo_service import EVENT, EchoService

from adbeam.serving.http.app import build_api
from adbeam.serving.http.compressed import MEMBERS_MAX, unpacked
from adbeam.serving.http.problems import Problem


def zstd(data: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(data, asbytes=True)
    return packed


ASKED = json.dumps({"user_id": "u17", "count": 3}).encode()


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


async def ask(body: bytes, coding: str, path: str = "/v1/ads", chunks: int = 1, **limits: Any) -> Any:
    api = build_api(EchoService(limits=limits))
    return await call(api, "POST", path, body, {"Content-Encoding": coding}, chunks)


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(ASKED)),
        ("GZIP", gzip.compress(ASKED)),
        ("x-gzip", gzip.compress(ASKED)),
        ("gzip", gzip.compress(ASKED[:9]) + gzip.compress(ASKED[9:])),
        ("deflate", zlib.compress(ASKED)),
        ("deflate", raw_deflate(ASKED)),
        ("zstd", zstd(ASKED)),
        ("ZSTD", zstd(ASKED[:9]) + zstd(ASKED[9:])),
        ("identity", ASKED),
        ("", ASKED),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)}_bytes",
)
async def test_a_packed_request_is_answered_as_the_plain_one(coding: str, body: bytes) -> None:
    plain = await call(build_api(EchoService()), "POST", "/v1/ads", ASKED)
    for chunks in (1, 3):
        reply = await ask(body, coding, chunks=chunks)
        assert reply.status == 200 and reply.body == plain.body


@pytest.mark.parametrize(
    ("path", "asked", "status"),
    [("/v1/openrtb", {"id": "r", "imp": [{"id": "1"}]}, 200), ("/v1/events", {"events": [EVENT]}, 202)],
)
async def test_every_route_reads_packed_bodies(path: str, asked: Any, status: int) -> None:
    assert (await ask(gzip.compress(json.dumps(asked).encode()), "gzip", path)).status == status


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
async def test_a_body_that_unpacks_beyond_the_limit_is_413_at_the_limit(coding: str) -> None:
    packers: dict[str, Any] = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd}
    pack = packers[coding]
    fits = pack(b" " * (2048 - len(ASKED)) + ASKED)
    assert (await ask(fits, coding, body_bytes=2048)).status == 200
    for size in (2049, 32 << 20):
        reply = await ask(pack(b" " * (size - len(ASKED)) + ASKED), coding, body_bytes=max(2048, size >> 5))
        assert reply.status == 413 and "larger than" in reply.json["detail"]


def test_a_bomb_is_unpacked_no_further_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    real = zlib.decompressobj

    class Counted:
        def __init__(self, bits: int) -> None:
            self._real = real(bits)

        def decompress(self, data: bytes, most: int) -> bytes:
            body = self._real.decompress(data, most)
            made.append(len(body))
            return body

    monkeypatch.setattr(zlib, "decompressobj", Counted)
    with pytest.raises(Problem, match="larger than 4096 bytes"):
        unpacked(gzip.compress(b"\0" * (8 << 20)), "gzip", 4096)
    assert made == [4097]


async def test_thousands_of_empty_parts_are_refused() -> None:
    reply = await ask(gzip.compress(b"") * 5000, "gzip")
    assert reply.status == 400 and "follow its end" in reply.json["detail"]
    assert (await ask(gzip.compress(ASKED) + gzip.compress(b"") * (MEMBERS_MAX - 1), "gzip")).status == 200


@pytest.mark.parametrize(
    ("coding", "body", "words"),
    [
        ("gzip", ASKED, "damaged"),
        ("gzip", gzip.compress(ASKED)[:-9], "too early"),
        ("gzip", b"", "too early"),
        ("gzip", gzip.compress(ASKED)[:-8] + b"\0" * 8, "damaged"),
        ("deflate", zlib.compress(ASKED)[:-3], "too early"),
        ("deflate", b"\xff" * 9, "damaged"),
        ("deflate", zlib.compress(ASKED) + b"more", "follow its end"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)}_bytes",
)
async def test_a_damaged_body_is_400_and_says_so(coding: str, body: bytes, words: str) -> None:
    reply = await ask(body, coding)
    assert reply.status == 400 and words in reply.json["detail"] and coding in reply.json["detail"]


@pytest.mark.parametrize("coding", ["br", "snappy", "gzip, gzip", "x" * 5000])
async def test_other_codings_are_415_and_name_those_that_are_read(coding: str) -> None:
    reply = await ask(ASKED, coding)
    assert reply.status == 415 and reply.headers["accept-encoding"] == "gzip, deflate, zstd"
    assert coding[:40] in reply.json["detail"] and len(reply.body) < 500


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (zstd(ASKED * 9)[:-4], "ends too early"), (zstd(ASKED)[:10], "ends too early"), (b"plain", "damaged"),
        (zstd(ASKED) + b"junk", "damaged"), (b"\x28\xb5\x2f\xfd\x00\xf8" + b"\x00" * 20, "window"),
    ],
)  # fmt: skip
async def test_a_zstd_body_that_does_not_unpack_is_400(body: bytes, why: str) -> None:
    reply = await ask(body, "zstd")
    assert reply.status == 400 and "zstd" in reply.json["detail"] and why in reply.json["detail"]
