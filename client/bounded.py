"""Answers of the federation's server, bounded in bytes and time while they are read."""

import ssl
import time
from collections.abc import Iterator

import httpx

MAX_ANSWER_BYTES = 8 * 2**20  # Flower's largest answer is a piece of 5 MiB
LONGEST_S = 300.0  # for one answer: a piece through the thinnest uplink


class BoundedTransport(httpx.BaseTransport):
    """HTTP over mutual TLS, through the hospital's proxy if it has one."""

    def __init__(self, tls: ssl.SSLContext, proxy: str | None) -> None:
        self._inner = httpx.HTTPTransport(verify=tls, proxy=proxy and httpx.Proxy(proxy), trust_env=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._inner.handle_request(request)
        if "content-encoding" in response.headers:  # unpacked, it could be of any size
            response.close()
            raise httpx.RemoteProtocolError("the answer is compressed, which was not asked for")
        assert isinstance(response.stream, httpx.SyncByteStream)
        response.stream = _Counted(response.stream)
        return response

    def close(self) -> None:
        self._inner.close()


class _Counted(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream, self._until = stream, time.monotonic() + LONGEST_S

    def __iter__(self) -> Iterator[bytes]:
        n = 0
        for part in self._stream:
            n += len(part)
            if n > MAX_ANSWER_BYTES:
                raise httpx.RemoteProtocolError(f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
            if time.monotonic() > self._until:
                raise httpx.ReadTimeout(f"the answer took longer than {LONGEST_S:.0f} s")
            yield part

    def close(self) -> None:
        self._stream.close()
