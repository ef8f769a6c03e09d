"""The parts of the network policy on their own: entries, questions for names, requests to a proxy."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trellis.environments.environment import EnvironmentSpec
from trellis.environments.network import dns, http_proxy
from trellis.environments.network.allow import AllowList, Place, asked_for

# --- entries ---


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("pkg.test", '"pkg.test" has no port; write "host:port", for example "pkg.test:443"'),
        (":443", '":443" has no host; write "host:port", for example "pkg.test:443"'),
        ("https://pkg.test:443", 'is more than a host and a port; write the two alone, for example "pkg.test:443"'),
        ("pkg.test:https", "is not host:port ('https' is not a port)"),
        ("pkg.test:0", "('0' is not a port)"),
        ("pkg.test:65536", "('65536' is not a port)"),
        ("pkg.test:+80", "('+80' is not a port)"),
        ("pkg.test:٤٤٣", "is not a port"),
        ("pypi org:443", "('pypi org' is not the name of a host)"),
        ("127.1:80", "('127.1' is not the name of a host)"),
        ("0x7f000001:80", "is not the name of a host"),
        ("::1", '"::1" has no port; write "[::1]:443"'),
        ("[::1]", '"[::1]" has no port; write "[::1]:443"'),
        ("2001:db8::1:x:443", 'is not host:port; write an IPv6 address as "[2001:db8::1]:443"'),
        ("bücher.example:443", '"bücher.example:443" is not ASCII; write the name as the DNS has it (xn--...)'),
        ("*:443", 'or "*.example.org:443" for every name below a domain'),
        ("*.org:443", '"*.org:443" is too wide; write "*.example.org:443" for every name below a domain'),
        ("api.*.org:443", "is not host:port ('api.*.org' is not the name of a host)"),
        ("*.127.0.0.1:443", "is too wide"),
        (f"{'a' * 64}.org:443", "is not the name of a host"),
    ],
)
def test_a_malformed_entry_is_one_clear_line(entry: str, message: str) -> None:
    with pytest.raises(ValueError, match="allow: ") as caught:
        EnvironmentSpec(allow=("good.example:443", entry))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_contradictions_are_one_clear_line() -> None:
    with pytest.raises(ValueError, match=r'^allow: network = "full" reaches everything already; leave allow out, or'):
        EnvironmentSpec(network="full", allow=("pkg.test:443",))
    with pytest.raises(ValueError, match=r'^setup_allow: "pkg.test" has no port'):
        EnvironmentSpec(setup_allow=("pkg.test",))
    with pytest.raises(ValueError, match=r'^setup_allow: setup_network = "full" reaches everything already'):
        EnvironmentSpec(setup_network="full", setup_allow=("pkg.test:443",))
    with pytest.raises(ValueError, match="251 entries; at most 250"):
        EnvironmentSpec(allow=tuple(f"h{number}.example:1" for number in range(251)))
    EnvironmentSpec(setup_network="full", allow=("pkg.test:443",))
    EnvironmentSpec(network="full", setup_network="none", setup_allow=("pkg.test:443",))


@pytest.mark.parametrize(
    ("entry", "asked", "allowed"),
    [
        ("Pkg.Test.:443", "pkg.TEST", True),
        ("pkg.test:443", "pkg.test.", True),
        ("pkg.test:443", "www.pkg.test", False),
        ("*.pkg.test:443", "www.Pkg.Test", True),
        ("*.pkg.test:443", "a.b.pkg.test", True),
        ("*.pkg.test:443", "pkg.test", False),
        ("*.pkg.test:443", "notpkg.test", False),
        ("127.0.0.1:443", "127.0.0.1", True),
        ("127.0.0.1:443", "::ffff:127.0.0.1", True),
        ("127.0.0.1:443", "localhost", False),
        ("localhost:443", "127.0.0.1", False),
        ("[2001:DB8:0::1]:443", "[2001:db8::1]", True),
    ],
)
def test_what_an_entry_allows(entry: str, asked: str, allowed: bool) -> None:
    listed = AllowList.parse([entry])
    assert (listed.entry_for(asked_for(asked, "443")) is not None) == allowed
    assert listed.entry_for(asked_for(asked, "444")) is None


def test_a_list_shows_its_first_entries() -> None:
    assert str(AllowList.parse(["a.example:1", "A.example:1", "[::1]:2", "*.b.example:3"])) == (
        "a.example:1, [::1]:2, *.b.example:3"
    )
    assert str(AllowList.parse([f"h{n}.example:1" for n in range(10)])).endswith("h7.example:1 and 2 more")


# --- questions for names ---

KNOWN = {"files.example.test": IPv4Address("127.66.0.2")}


def query(name: bytes, kind: int = 1, *, flags: int = 0x0100, questions: int = 1) -> bytes:
    labels = b"".join(bytes([len(label)]) + label for label in name.split(b"."))
    return struct.pack(">HHHHHH", 0xABCD, flags, questions, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


def test_a_known_name_has_its_address_in_the_spelling_of_the_question() -> None:
    question = query(b"Files.EXAMPLE.test")
    answer = dns.answer(question, KNOWN)
    assert answer is not None
    assert answer.unknown is None
    assert answer.message[:12] == struct.pack(">HHHHHH", 0xABCD, 0x8180, 1, 1, 0, 0)
    assert answer.message[12:].startswith(question[12:])
    assert answer.message[-4:] == bytes([127, 66, 0, 2])


@pytest.mark.parametrize("kind", [28, 16, 65])
def test_a_known_name_has_nothing_else(kind: int) -> None:
    answer = dns.answer(query(b"files.example.test", kind), KNOWN)
    assert answer is not None
    assert answer.message[:12] == struct.pack(">HHHHHH", 0xABCD, 0x8180, 1, 0, 0, 0)


def test_an_unknown_name_does_not_exist() -> None:
    for name in (b"evil.test", b"files.example.test.evil.test", b"x\xff\n.test", b"a" * 63):
        answer = dns.answer(query(name), KNOWN)
        assert answer is not None
        assert answer.message[2:4] == b"\x81\x83"
        assert answer.unknown == name.decode("ascii", "backslashreplace")


def test_what_is_no_question_gets_no_name() -> None:
    assert dns.answer(b"", KNOWN) is None
    assert dns.answer(query(b"a.test", flags=0x8180), KNOWN) is None
    for broken in (
        query(b"files.example.test", questions=2),
        query(b"files.example.test")[:-3],
        struct.pack(">HHHHHH", 1, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1",
        query(b".".join([b"a" * 60] * 5)),
    ):
        answer = dns.answer(broken, KNOWN)
        assert answer is not None
        assert (answer.message[3] & 15, answer.unknown) == (1, None)


@given(st.binary(max_size=600))
def test_no_datagram_breaks_it(data: bytes) -> None:
    answer = dns.answer(data, KNOWN)
    assert answer is None or len(answer.message) >= 12


# --- requests to a proxy ---


def test_a_tunnel() -> None:
    request = http_proxy.parse(b"CONNECT Files.Example.test:443 HTTP/1.1\r\nHost: other\r\nProxy-Authorization: x")
    assert request == http_proxy.Request(Place("files.example.test", 443), True)
    assert http_proxy.parse(b"CONNECT [::1]:443 HTTP/1.1").place == Place("::1", 443)


def test_a_request_goes_on_as_the_server_must_see_it() -> None:
    head = (
        b"POST http://Files.example.test:8080/a%20b?q=1 HTTP/1.1\r\nHost: innocent.test\r\n"
        b"Proxy-Authorization: secret\r\n"
        b"Connection: Keep-Alive, X-Hop\r\nProxy-Connection: keep-alive\r\nX-Hop: 1\r\nContent-Length: 5\r\nAccept: */*"
    )
    request = http_proxy.parse(head)
    assert request.place == Place("files.example.test", 8080)
    assert not request.is_tunnel
    assert request.onward == (
        b"POST /a%20b?q=1 HTTP/1.1\r\nHost: Files.example.test:8080\r\nConnection: close\r\n"
        b"Content-Length: 5\r\nAccept: */*\r\n\r\n"
    )
    assert http_proxy.parse(b"GET HTTP://h.test?x HTTP/1.0").onward.startswith(b"GET /?x HTTP/1.1\r\nHost: h.test\r\n")
    assert http_proxy.parse(b"GET http://[::1] HTTP/1.1").place == Place("::1", 80)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GET / HTTP/1.1",
        b"GET https://h.test/ HTTP/1.1",
        b"GET ftp://h.test/ HTTP/1.1",
        b"GET http://user@h.test/ HTTP/1.1",
        b"GET http:/// HTTP/1.1",
        b"CONNECT h.test HTTP/1.1",
        b"CONNECT h.test:443/x HTTP/1.1",
        b"CONNECT h.test:443 HTTP/2.0",
        b"CONNECT h.test:443 HTTP/1.1\r\nno header",
        b"GET http://h.test/ HTTP/1.1\r\nA: b\r\n folded",
        b"GET http://h.test/ HTTP/1.1\r\nA: b\nHost: other",
        b"GET http://h.test/\rX HTTP/1.1",
        b"GET http://127.1/ HTTP/1.1",
    ],
)
def test_everything_else_is_refused(head: bytes) -> None:
    with pytest.raises(http_proxy.BadRequest):
        http_proxy.parse(head)


@given(st.binary(max_size=300))
def test_no_head_breaks_it(head: bytes) -> None:
    try:
        http_proxy.parse(b"GET http://" + head)
    except http_proxy.BadRequest as refused:
        answer = http_proxy.refusal(400, str(refused))
        assert answer.count(b"\r\n\r\n") == 1
        assert answer.splitlines()[0].startswith(b"HTTP/1.1 400 ")
