"""Attacks over the network of a world that has none: every target is a listener of the test's own on the loopback."""

from __future__ import annotations

import contextlib
import secrets
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from trellis.environments.environment import Environment
from trellis.environments.hostile.arena import Attacks, attack, contained

REACH = """
import socket
kind, *where = sys.argv[1:]
try:
    if kind == "tcp":
        with socket.create_connection((where[0], int(where[1])), 3) as stream:
            print(stream.recv(100))
    elif kind == "udp":
        with socket.socket(socket.AF_INET6 if ":" in where[0] else socket.AF_INET, socket.SOCK_DGRAM) as stream:
            stream.settimeout(2)
            stream.sendto(b"ask", (where[0], int(where[1])))
            print(stream.recv(100))
    else:
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(where[0].replace("@", "\\0", 1))
            print(stream.recv(100))
except OSError as error:
    print("refused:", error, file=sys.stderr)
"""
RAW = """
import socket
families = {"AF_INET": [(3, 1), (3, 255)], "AF_INET6": [(3, 58)],
            "AF_PACKET": [(3, 768), (2, 768), (3, 3)]}
for family, kinds in families.items():
    for kind, protocol in kinds:
        try:
            with socket.socket(getattr(socket, family), kind, protocol):
                print("has a socket of", family, kind, protocol)
        except (OSError, AttributeError):
            pass
for number in range(0, 46):
    if number in (1, 2, 10, 16):
        continue
    for kind in (1, 2, 3, 5):
        try:
            socket.socket(number, kind, 0).close()
            print("has a socket of family", number)
        except OSError:
            pass
"""
NETLINK = """
import socket, struct
NEWLINK, NEWADDR, NEWROUTE, REQUEST = 16, 20, 24, 0x605
def ask(kind, body):
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        link.settimeout(3)
        link.bind((0, 0))
        link.send(struct.pack("IHHII", 16 + len(body), kind, REQUEST, 1, 0) + body)
        answer = link.recv(4096)
        return struct.unpack_from("i", answer, 16)[0]
def attribute(number, data):
    return struct.pack("HH", 4 + len(data), number) + data + bytes(-len(data) % 4)
info = attribute(18, attribute(1, b"dummy\\0"))
attempts = {
    "an interface": (NEWLINK, struct.pack("BxHiII", 0, 0, 0, 0, 0) + attribute(3, b"evil0\\0") + info),
    "an address": (NEWADDR, struct.pack("BBBBI", 2, 32, 0, 0, 1) + attribute(2, bytes([169, 254, 169, 254]))),
    "a route": (NEWROUTE, struct.pack("BBBBBBBBI", 2, 0, 0, 0, 254, 3, 0, 1, 0) + attribute(4, struct.pack("I", 1))),
    "a change of the loopback": (NEWLINK, struct.pack("BxHiII", 0, 0, 1, 0, 1)),
}
for name, (kind, body) in attempts.items():
    try:
        if ask(kind, body) == 0:
            print("made", name)
    except OSError:
        pass
"""
NAMES = """
import socket
for name in ("localhost.localdomain.example", "example.invalid", "host.docker.internal", "gateway.docker.internal",
             "metadata.google.internal", "instance-data", socket.gethostname() + ".example"):
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(name, 80)}
        if not all(address.startswith("127.") or address == "::1" for address in found):
            print(name, found)
    except OSError:
        pass
"""
ENGINES = (
    "/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock",
    "/run/crio/crio.sock", "/run/dbus/system_bus_socket", "/run/systemd/private", "/tmp/.X11-unix/X0",
    "/run/snapd.socket", "/run/user/0/bus", "/run/user/1000/bus",
)  # fmt: skip
ROUTES = "tail -n +3 /proc/net/dev | cut -d: -f1; tail -n +2 /proc/net/route; grep -v ' lo$' /proc/net/ipv6_route"


class Network(Attacks):
    @pytest.fixture
    def token(self) -> str:
        return f"reached-{secrets.token_hex(8)}"

    async def test_there_is_no_way_out(self, world: Environment) -> None:
        """An interface or a route besides the loopback; without one nothing can be sent to any address."""
        assert (await world.exec(ROUTES)).stdout.split() == [b"lo"]

    async def test_loopback_of_the_host(self, world: Environment, token: str) -> None:
        """Services on the host's loopback, by TCP."""
        with socket.create_server(("127.0.0.1", 0)) as listener, _answering(listener, token):
            port = str(listener.getsockname()[1])
            for address in ("127.0.0.1", "localhost", "::1", "0.0.0.0"):
                assert token.encode() not in (await attack(world, REACH, "tcp", address, port)).stdout

    async def test_datagrams_to_the_host(self, world: Environment) -> None:
        """A name server on the host's loopback, by UDP, and any other."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
            listener.bind(("127.0.0.1", 0))
            listener.settimeout(0)
            await attack(world, REACH, "udp", "127.0.0.1", str(listener.getsockname()[1]))
            with pytest.raises(BlockingIOError):
                listener.recv(100)

    async def test_name_service(self, world: Environment) -> None:
        """Resolving names, the host's own and those of engines and clouds among them."""
        await contained(world, NAMES)

    async def test_metadata_service(self, world: Environment) -> None:
        """The address at which clouds give their machines' keys; nothing leaves this world, as there is no route."""
        assert (await world.exec(ROUTES)).stdout.split() == [b"lo"]  # else this must not be tried
        result = await attack(world, REACH, "tcp", "169.254.169.254", "80")
        assert result.stdout == b""
        assert b"unreachable" in result.stderr

    async def test_abstract_sockets(self, world: Environment, token: str) -> None:
        """Sockets of the host that have a name but no file."""
        name = f"trellis-{token}"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"\0{name}")
            listener.listen()
            with _answering(listener, token):
                await contained(world, REACH, "unix", f"@{name}")
            assert token.encode() not in (await world.exec("cat /proc/net/unix")).stdout

    async def test_sockets_in_files(self, world: Environment, token: str) -> None:
        """Sockets of the host that are files, which everybody may use."""
        with (
            tempfile.TemporaryDirectory(prefix="trellis-hostile-") as folder,
            socket.socket(socket.AF_UNIX) as listener,
        ):
            Path(folder).chmod(0o777)
            listener.bind(f"{folder}/socket")
            Path(folder, "socket").chmod(0o777)
            listener.listen()
            with _answering(listener, token):
                await contained(world, REACH, "unix", f"{folder}/socket")

    async def test_engine_sockets(self, world: Environment) -> None:
        """The sockets of container engines and of the system's services."""
        assert not (await world.exec(["ls", "-d", *ENGINES])).stdout
        for path in ENGINES[:3]:
            assert b"refused" in (await attack(world, REACH, "unix", path)).stderr

    async def test_raw_sockets(self, world: Environment) -> None:
        """Raw and packet sockets, and families that a world does not need."""
        await contained(world, RAW)

    async def test_changing_the_network(self, world: Environment) -> None:
        """New interfaces, addresses and routes."""
        await contained(world, NETLINK)

    async def test_own_loopback_works(self, world: Environment) -> None:
        """What is no attack must work: a server and its client inside the world."""
        inside = (
            "import socket\ns = socket.create_server(('127.0.0.1', 0))\n"
            "c = socket.create_connection(s.getsockname())\ns.accept()[0].send(b'hi')\nprint(c.recv(2))"
        )
        assert (await attack(world, inside)).stdout == b"b'hi'\n"


@contextlib.contextmanager
def _answering(listener: socket.socket, token: str) -> Iterator[None]:
    """Give the token to whoever connects. That it would be given is tried first: this is what the attack looks for."""
    import threading

    def answer() -> None:
        with contextlib.suppress(OSError):
            while True:
                stream, _ = listener.accept()
                with stream:
                    stream.send(token.encode())

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        with socket.socket(listener.family) as probe:
            probe.settimeout(10)
            probe.connect(listener.getsockname())
            assert probe.recv(100) == token.encode()
        yield
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
