"""Keep-alive HTTP/1.1 connections for a load generator: as little work a request as there can be.

A general client costs half a millisecond of processor time a request, on the machine that is being measured.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from contextlib import closing
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools


class Answered(NamedTuple):
    """Status and body of an answer."""

    status: int
    body: bytes


class NoConnection(Exception):
    """Nobody accepts connections there."""


class Broken(Exception):
    """The connection ended, or what came is no HTTP. `before_reply`: not one byte of a reply had come."""

    def __init__(self, before_reply: bool) -> None:
        super().__init__("the connection was closed" + (" before a reply" if before_reply else " during a reply"))
        self.before_reply = before_reply


def listens(url: str, seconds: float) -> bool:
    """Whether a server accepts connections there: the kernel does it for one that gets no processor to answer."""
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    try:
        with closing(socket.create_connection(address, seconds)):
            return True
    except OSError:
        return False


class HttpPool:
    """Posts to one URL over as many connections as are busy at once; free ones are used again, the last one first."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self._host, self._secure = parts.hostname or "", parts.scheme == "https"
        self._port = parts.port or (443 if self._secure else 80)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"POST {target} HTTP/1.1", f"Host: {parts.netloc.rpartition('@')[2]}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._head = "\r\n".join([*lines, ""]).encode("latin-1")
        self._free: list[_Connection] = []
        self._open: set[_Connection] = set()

    async def post(self, body: bytes, headers: bytes = b"", *, fresh: bool = False) -> Answered:
        """The answer; raises NoConnection or Broken. Cancelling it closes the connection. `headers` are whole lines;
        `fresh` takes a new connection, for what a kept one has broken: the others may have ended with it."""
        while self._free and not fresh:
            connection = self._free.pop()
            if connection.usable:
                break
        else:
            connection = await self._connect()
        try:
            length = b"Content-Length: %d\r\n\r\n" % len(body)
            answer = await connection.send(b"".join((self._head, headers, length, body)))
        except BaseException:
            connection.close()
            raise
        if connection.usable:
            self._free.append(connection)
        return answer

    def close(self) -> None:
        """Close every connection."""
        for connection in list(self._open):
            connection.close()

    async def _connect(self) -> _Connection:
        secure = ssl.create_default_context() if self._secure else None
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: _Connection(self._open), self._host, self._port, ssl=secure
            )
        except OSError as error:
            raise NoConnection(str(error)) from None
        return connection


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, opened: set[_Connection]) -> None:
        self._opened = opened
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answered] | None = None
        self._replying = False
        self._body = bytearray()
        self.usable = False

    def send(self, request: bytes) -> asyncio.Future[Answered]:
        """Send a request; the future gets its answer, or Broken."""
        self._answer = asyncio.get_running_loop().create_future()
        self._replying, self.usable = False, False
        self._body = bytearray()
        self._parser = httptools.HttpResponseParser(self)
        if self._transport is None:
            self._answer.set_exception(Broken(before_reply=True))
        else:
            self._transport.write(request)
        return self._answer

    def close(self) -> None:
        """Close it, whatever it is doing."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready to send."""
        self._transport, self.usable = cast(asyncio.Transport, transport), True  # uvloop's are of a class of its own
        self._opened.add(self)

    def data_received(self, data: bytes) -> None:
        """A part of the answer; bytes that nobody asked for close the connection."""
        if self._answer is None or self._answer.done():
            return self.close()
        self._replying = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def eof_received(self) -> None:
        """The server has nothing more to say: an answer without a length ends here."""
        if self._answer is not None and not self._answer.done() and self._replying and self._until_end:
            self._deliver()

    def connection_lost(self, error: Exception | None) -> None:
        """Nothing more will come."""
        self._transport, self.usable = None, False
        self._opened.discard(self)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Broken(before_reply=not self._replying))

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._until_end = not self._parser.should_keep_alive()

    def on_body(self, part: bytes) -> None:
        """Called by the parser."""
        self._body += part

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self.usable = self._parser.should_keep_alive()
        self._deliver()

    def _deliver(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Answered(self._parser.get_status_code(), bytes(self._body)))
        if not self.usable:
            self.close()
