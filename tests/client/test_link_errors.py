import httpx
import pytest

from client.link_errors import explain


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [(500, b"", "answered 500"), (400, b'{"code": 2004}', "within a minute"), (502, b"[]", "502")],
)
def test_other_answers_are_named(status, body, said):
    response = httpx.Response(status, content=body, request=httpx.Request("POST", "https://x"))
    assert said in explain(httpx.HTTPStatusError("x", request=response.request, response=response), "x:443")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (httpx.ProxyError("403 Forbidden"), "ask for outbound CONNECT"),
        (httpx.ConnectTimeout("x"), "is a proxy needed"),
        (
            httpx.ConnectError("[SSL: TLSV13_ALERT] alert unknown ca (_ssl.c:1)"),
            "(alert unknown ca); has the coordinator",
        ),
        (httpx.ReadError("\x1b[2Jreset"), "cannot be reached (ReadError"),
    ],
)
def test_what_the_network_says_is_told_in_words_that_can_be_acted_on(error, said):
    told = explain(error, "x:443")
    assert said in told
    assert told.isprintable()
