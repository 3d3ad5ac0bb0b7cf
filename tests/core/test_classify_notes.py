"""What a verdict keeps of an answer: the wait asked for, the request id, one line without keys."""

from email.utils import formatdate

import pytest

from outlast.core.classify import classify, retry_after
from outlast.core.classify.note import one_line
from tests.core.error_bodies import NOW, answered, anthropic, completion, gemini, openai


@pytest.mark.parametrize(
    ("headers", "payload", "seconds"),
    [
        ({"retry-after-ms": "1500", "retry-after": "9"}, None, 1.5),
        ({"retry-after": "2.5"}, None, 2.5),
        ({"retry-after": formatdate(NOW + 30, usegmt=True)}, None, 30.0),
        # Azure says -1 and 0
        ({"retry-after": "-1"}, None, None),
        ({"retry-after-ms": "0", "retry-after": "3"}, None, 3.0),
        ({"retry-after": "nan"}, None, None),
        ({"retry-after": "inf"}, None, None),
        ({"retry-after": "soon"}, None, None),
        ({"retry-after": formatdate(NOW - 30, usegmt=True)}, None, None),
        ({"retry-after": "Mon, 99 Foo 99999999999 99:99:99 GMT"}, None, None),
        ({}, gemini(429, "RESOURCE_EXHAUSTED", retryDelay="12.3s"), 12.3),
        ({"retry-after": "1e300"}, None, 31 * 86_400.0),
        ({}, {"error": "text"}, None),
    ],
)
def test_the_wait_a_provider_asks_for_is_read_in_the_order_of_its_own_client(
    headers: dict[str, str], payload: object, seconds: float | None
) -> None:
    assert retry_after(headers, payload, NOW) == seconds


def test_the_wait_stands_in_the_verdict() -> None:
    throttled = answered(429, openai("…", None, "rate_limit_exceeded"), {"retry-after": "7"})

    assert classify("openai", throttled, NOW).retry_after == 7.0


@pytest.mark.parametrize(
    ("headers", "body", "request_id"),
    [
        ({"x-request-id": "req_1"}, openai("…"), "req_1"),
        ({"request-id": "req_2"}, openai("…"), "req_2"),
        ({}, anthropic("api_error"), "req_011"),
        ({}, openai("…"), None),
    ],
)
def test_the_request_id_is_kept_for_whoever_asks_the_provider(
    headers: dict[str, str], body: object, request_id: str | None
) -> None:
    assert classify("openai", answered(500, body, headers), NOW).request_id == request_id


@pytest.mark.parametrize(
    ("status", "body", "note"),
    [
        (429, openai("Slow", "requests", "slow_down"), "HTTP 429 slow_down: Slow"),
        (418, {}, "HTTP 418"),
        (502, "<html><title>502 Bad\nGateway</title><p>10.1.2.3</p>", "HTTP 502: 502 Bad Gateway"),
        (502, "<html><p>sorry</p><script>x()</script>", "HTTP 502: sorry"),
        (500, {"detail": [{"msg": "field required"}]}, "HTTP 500: field required"),
        (200, "", "HTTP 200: empty body"),
    ],
)
def test_the_note_is_one_line_that_names_status_code_and_text(
    status: int, body: object, note: str
) -> None:
    assert classify("openai", answered(status, body), NOW).note == note


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Incorrect API key provided: sk-proj-abcDEF123456", "Incorrect API key provided: []"),
        ("Incorrect API key provided: sk-ab***********3456.", "Incorrect API key provided: []"),
        ("got 'Authorization: Bearer abc.def'", "got 'Authorization: []"),
        ("key AIzaSyD-1234567890abcdefghijklmnop is bad", "key [] is bad"),
        ("token 0123456789abcdef0123456789abcdef!", "token []!"),
        # long, but a word
        ("x" * 40, "x" * 40),
        ("a\r\n\tb\x00c", "a bc"),
    ],
)
def test_a_note_holds_no_key(text: str, line: str) -> None:
    assert one_line(text) == line.replace("[]", "[removed]")


def test_a_note_is_short_and_its_keys_go_before_the_cut() -> None:
    line = one_line("y " * 95 + "sk-" + "Z1" * 30)

    assert len(line) <= 200
    assert "Z1" not in line


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Bad request", "Bad request"),
        ("Request req_8f31 failed after 12 ms", "Request req_77aa failed after 9 ms"),
        ("Invalid value: 'cats and dogs'.", "Invalid value: 'birds'."),
        ("Can't parse \"a prompt of which only the beg", "Can't parse \"another prompt"),
        ("The  server\nis unwell", "the server is unwell"),
    ],
)
def test_rejections_of_one_cause_have_the_same_words(one: str, other: str) -> None:
    words = {classify("openai", answered(400, openai(each)), NOW).words for each in (one, other)}

    assert len(words) == 1
    assert None not in words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (openai("Bad request"), openai("Upstream is unwell")),
        (openai("…", "invalid_request_error"), openai("…", "server_error")),
        ({"error": "Can't do that"}, {"error": "Can't do this"}),  # an apostrophe quotes nothing
    ],
)
def test_rejections_of_different_causes_have_different_words(one: object, other: object) -> None:
    words = [classify("openai", answered(400, each), NOW).words for each in (one, other)]

    assert words[0] != words[1]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, openai("…", None, "unsupported_parameter")),  # a rule knows it
        (400, openai("…", None, "context_length_exceeded")),
        (400, openai("…", None, "invalid_api_key")),
        (400, "<html><title>400 Bad Request</title></html>"),  # it was never reached
        (422, openai("Bad request")),
        (413, openai("Bad request")),
        (503, openai("Bad request")),
        (200, completion("stop", content="Hi")),
        (200, openai("Bad request", None, 400)),
    ],
)
def test_only_a_400_that_no_rule_knows_has_words(status: int, body: object) -> None:
    assert classify("openai", answered(status, body), NOW).words is None
