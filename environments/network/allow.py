"""Which places a world without a network may reach all the same: the entries "host:port" of a spec's `allow`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

HOST_BYTES = 253
MAX_ENTRIES, SHOWN_ENTRIES = 250, 8
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_METADATA = {ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("100.100.100.200")}
"""Where clouds serve credentials, apart from link-local addresses."""


@dataclass(frozen=True, slots=True)
class Place:
    """A host and a port, as one entry names them or as a program asks for them."""

    host: str
    """Lower case, without a trailing dot; an IP address in its shortest form; in an entry, "*.example.org" is every
    name below example.org."""
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        return self.host.startswith("*.")

    @property
    def is_name(self) -> bool:
        """One name that the DNS can know?"""
        return not self.is_wildcard and not self.is_explicit

    @property
    def is_explicit(self) -> bool:
        """An address, or localhost: an entry like this may lead to the host itself, as no name does by its address."""
        return self.host == "localhost" or literal(self.host) is not None

    def covers(self, asked: Place) -> bool:
        if self.port != asked.port:
            return False
        if self.is_wildcard:
            return asked.is_name and asked.host.endswith(self.host[1:])
        return self.host == asked.host


@dataclass(frozen=True, slots=True)
class AllowList:
    entries: tuple[Place, ...]

    @classmethod
    def parse(cls, entries: Sequence[str]) -> AllowList:
        """
        Raises:
            ValueError: an entry is malformed; one line says which, what is wrong and what would be right.
        """
        if len(entries) > MAX_ENTRIES:
            raise ValueError(f'allow: {len(entries)} entries; at most {MAX_ENTRIES}, or wildcards, or network = "full"')
        return cls(tuple(dict.fromkeys(_parse(entry) for entry in entries)))

    def entry_for(self, asked: Place) -> Place | None:
        """The entry that allows it; an exact one before a wildcard."""
        return next((entry for entry in sorted(self.entries, key=_breadth) if entry.covers(asked)), None)

    def knows(self, host: str) -> bool:
        """Is there an entry for some port of this host?"""
        return any(entry.covers(Place(host, entry.port)) for entry in self.entries)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that are listed one by one, in their order."""
        return tuple(dict.fromkeys(entry.host for entry in self.entries if entry.is_name))

    def __str__(self) -> str:
        """The first few, for a message."""
        more = len(self.entries) - SHOWN_ENTRIES
        shown = ", ".join(map(str, self.entries[:SHOWN_ENTRIES]))
        return f"{shown} and {more} more" if more > 0 else shown


def check_policy(network: str, allow: Sequence[str], *, setting: str = "") -> None:
    """
    Raises:
        ValueError: an entry is malformed, or the two contradict each other; `setting` ("setup_") begins their names.
    """
    try:
        AllowList.parse(allow)
    except ValueError as error:
        raise ValueError(f"{setting}{error}") from None
    if allow and network == "full":
        raise ValueError(
            f'{setting}allow: {setting}network = "full" reaches everything already; leave {setting}allow out, '
            f'or take {setting}network = "none" to reach these places only'
        )


def asked_for(host: str, port: str) -> Place:
    """What a program asks for, in the form in which entries are compared with it.

    Raises:
        ValueError: that is no host, or no port.
    """
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    if not 0 < number < 65536:
        raise ValueError(f"{port!r} is not a port")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    address = literal(bare)
    if address is not None:
        return Place(str(address), number)
    name = bare.lower().removesuffix(".")
    if not is_host_name(name):
        raise ValueError(f"{host!r} is not the name of a host")
    return Place(name, number)


def literal(host: str) -> IPAddress | None:
    """The IP address that this is, if it is one; an IPv4 address inside an IPv6 one counts as itself."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_host_name(name: str) -> bool:
    """A name in the form of the DNS; what begins like a number may be read as an address, and is none."""
    labels = name.split(".")
    return (
        len(name) <= HOST_BYTES
        and all(_LABEL.fullmatch(label) for label in labels)
        and not re.fullmatch(r"\d+|0x[0-9a-f]*", labels[-1])
    )


def is_reserved(address: IPAddress) -> bool:
    """Does this lead to the host itself, to its link, or to a cloud's metadata?"""
    if isinstance(address, ipaddress.IPv6Address) and (inner := _translated(address)) is not None:
        return is_reserved(inner)
    return (
        address.is_loopback
        or address.is_link_local
        or address.is_unspecified
        or address.is_multicast
        or address in _METADATA
        or address == ipaddress.ip_address("255.255.255.255")
    )


def _translated(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a gateway would make of this one (6to4, NAT64)."""
    return address.sixtofour or (ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None)


def _breadth(entry: Place) -> int:
    return int(entry.is_wildcard)


def _parse(entry: str) -> Place:
    def wrong(what: str, right: str) -> ValueError:
        return ValueError(f'allow: "{entry}" {what}; write {right}')

    host, colon, port = entry.rpartition(":")
    if "/" in entry or "@" in entry:
        raise wrong("is more than a host and a port", 'the two alone, for example "pkg.test:443"')
    if literal(entry.strip("[]")) is not None and ":" in entry:
        raise wrong("has no port", f'"[{entry.strip("[]")}]:443"')
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise wrong("is not host:port", 'an IPv6 address as "[2001:db8::1]:443"')
    if not host:
        raise wrong("has no host" if colon else "has no port", '"host:port", for example "pkg.test:443"')
    if not host.isascii():
        raise wrong("is not ASCII", "the name as the DNS has it (xn--...)")
    wildcard = host.startswith("*.")
    try:
        place = asked_for(host[2:] if wildcard else host, port)
    except ValueError as error:
        below = ', or "*.example.org:443" for every name below a domain' if "*" in host else ""
        raise wrong(f"is not host:port ({error})", f'"host:port", for example "pkg.test:443"{below}') from None
    if not wildcard:
        return place
    if not place.is_name or "." not in place.host:
        raise wrong("is too wide", '"*.example.org:443" for every name below a domain')
    return Place(f"*.{place.host}", place.port)
