"""Compose files: the strict part of them that can be had without loosening the isolation of a world.

A key that is not known, or would open a way to the host, is refused by name; none is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

from trellis.environments.docker.dockerfile import Build
from trellis.environments.environment import EnvironmentFault, EnvironmentUnavailable

AGENT = "agent"
MAX_SERVICES = 50

Condition = Literal["service_started", "service_healthy", "service_completed_successfully"]

HOST = "would give it something of the host's"
NAMESPACE = "would share a namespace with the host or another container"
ROUTE = "would change how it reaches others; services share one private network and find each other by name"
LIMITS = "limits are those of the task's resources, for every service"
READS = "reads files or variables of the host; write the values into `environment`"
MANAGED = "is decided by Trellis"
REFUSED = {
    "privileged": "would lift the isolation", "cap_add": "would lift the isolation", "cap_drop": MANAGED,
    "security_opt": "would change the isolation", "sysctls": "would change the isolation",
    "userns_mode": NAMESPACE, "pid": NAMESPACE, "ipc": NAMESPACE, "uts": NAMESPACE, "cgroup": NAMESPACE,
    "network_mode": NAMESPACE, "cgroup_parent": HOST, "devices": HOST, "device_cgroup_rules": HOST, "gpus": HOST,
    "volumes": f"{HOST}; copy files into the image, what it writes travels with snapshots",
    "volumes_from": NAMESPACE, "tmpfs": "would not travel with snapshots", "use_api_socket": HOST,
    "group_add": HOST, "credential_spec": HOST, "secrets": HOST, "configs": HOST,
    "ports": "would publish a port on the host; services reach each other by name without it",
    "networks": ROUTE, "links": ROUTE, "external_links": ROUTE, "extra_hosts": ROUTE, "dns": ROUTE,
    "dns_search": ROUTE, "dns_opt": ROUTE, "mac_address": ROUTE, "hostname": ROUTE, "domainname": ROUTE,
    "env_file": READS, "extends": READS, "include": READS,
    "mem_limit": LIMITS, "memswap_limit": LIMITS, "mem_reservation": LIMITS, "cpus": LIMITS, "cpu_shares": LIMITS,
    "cpu_quota": LIMITS, "cpu_period": LIMITS, "cpuset": LIMITS, "pids_limit": LIMITS, "shm_size": LIMITS,
    "ulimits": LIMITS, "oom_kill_disable": LIMITS, "oom_score_adj": LIMITS, "deploy": LIMITS, "storage_opt": LIMITS,
    "restart": MANAGED, "container_name": MANAGED, "labels": MANAGED, "logging": MANAGED, "runtime": MANAGED,
    "pull_policy": MANAGED, "profiles": MANAGED, "scale": MANAGED,
}  # fmt: skip
"""Why a key of a service, or of the file, is not taken."""
NOT_OF_THE_AGENT = ("command", "entrypoint", "healthcheck", "user", "working_dir", "init")
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")
_INTERPOLATED = re.compile(r"\$\$|\$(\{|[A-Za-z_])")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Service:
    name: str
    image: str = ""
    build: Build | None = None
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    working_dir: str = ""
    init: bool = False
    depends_on: Mapping[str, Condition] = field(default_factory=dict)
    healthcheck: Mapping[str, Any] | None = None
    """As the engine takes it: durations in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Project:
    """What a Compose file says."""

    file: str
    agent: Service
    """The one that is the world."""
    beside: tuple[Service, ...]
    """The others, in an order in which they can be started."""


def read(file: str, agent: str = "") -> Project:
    """Read a Compose file; `agent` is the service that is the world, "" means the only one or the one called "agent".

    Raises:
        EnvironmentUnavailable: there is no YAML reader.
        EnvironmentFault: with one line that names file, service and key.
    """
    return _Reader(Path(file)).project(agent)


class _Reader:
    def __init__(self, file: Path) -> None:
        self._file = file

    def refuse(self, *where: str, why: str) -> NoReturn:
        raise EnvironmentFault(": ".join((str(self._file), *where, why)))

    def project(self, agent: str) -> Project:
        document = self._mapping(self._load())
        known = ("services", "name", "version")
        for key in document:
            if key not in known and not key.startswith("x-"):
                self.refuse(key, why=self._why(key, known))
        services = self._mapping(document.get("services"), "services")
        if not 1 <= len(services) <= MAX_SERVICES:
            self.refuse("services", why=f"expected 1 to {MAX_SERVICES} services")
        chosen = agent or (next(iter(services)) if len(services) == 1 else AGENT)
        if chosen not in services:
            which = "no such service" if agent else 'say which service is the world (`service`), or call it "agent"'
            self.refuse("services", why=f"{which}; there are: {', '.join(services)}")
        found = {name: self._service(name, content, name == chosen) for name, content in services.items()}
        for service in found.values():
            for other in service.depends_on:
                if other not in found or other == chosen:
                    why = "the world's own service starts last" if other == chosen else "no such service"
                    self.refuse(f"service {service.name}", f"depends_on {other}", why=why)
        return Project(str(self._file), found.pop(chosen), self._ordered(found))

    def _load(self) -> Any:
        try:
            import yaml
        except ImportError:
            raise EnvironmentUnavailable(
                "Compose files need the Python package PyYAML: pip install 'trellis-agents[compose]'"
            ) from None

        class Loader(yaml.SafeLoader):
            """Texts stay as they are written (no `on` becomes true and no 22:22 a number), and a key that is given
            twice, of which YAML would take the last, is refused."""

            def construct_mapping(self, node: Any, deep: bool = False) -> Any:
                seen = set()
                for key, _ in node.value:
                    if not isinstance(key, yaml.ScalarNode):
                        raise yaml.constructor.ConstructorError(None, None, "expected a text as key", key.start_mark)
                    if key.value in seen:
                        raise yaml.constructor.ConstructorError(None, None, f"{key.value} twice", key.start_mark)
                    seen.add(key.value)
                return super().construct_mapping(node, deep)

        Loader.yaml_implicit_resolvers = {
            first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }
        try:
            return yaml.load(self._file.read_text("utf-8"), Loader)
        except (OSError, UnicodeError) as error:
            self.refuse(why=f"cannot be read: {error}")
        except yaml.YAMLError as error:
            self.refuse(why=f"not YAML: {' '.join(str(error).split())}")

    def _service(self, name: str, content: Any, is_agent: bool) -> Service:
        where = f"service {name}"
        if not _NAME.fullmatch(name):
            self.refuse(where, why="expected a name of letters, digits, `-`, `_` and `.`")
        parts: dict[str, Callable[[str, Any], Any]] = {
            "image": self._text,
            "build": self._build,
            "command": self._command,
            "entrypoint": self._command,
            "environment": self._environment,
            "user": self._text,
            "working_dir": self._text,
            "init": self._flag,
            "depends_on": self._depends_on,
            "healthcheck": self._healthcheck,
            "expose": self._nothing,
        }
        given = {}
        for key, value in self._mapping(content, where).items():
            if key.startswith("x-"):
                continue
            if key not in parts:
                self.refuse(where, key, why=self._why(key, tuple(parts)))
            if is_agent and key in NOT_OF_THE_AGENT:
                self.refuse(where, key, why="the world's own service runs Trellis' guest; set this up in its image")
            given[key] = parts[key](f"{where}: {key}", value)
        given.pop("expose", None)
        if ("image" in given) == ("build" in given):
            self.refuse(where, why="expected an image or a build, one of them")
        return Service(name, **given)

    @staticmethod
    def _why(key: str, known: Sequence[str]) -> str:
        return REFUSED.get(key) or f"not known; there are: {', '.join(known)}"

    # --- values ---

    def _mapping(self, value: Any, *where: str) -> Mapping[str, Any]:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            self.refuse(*where, why="expected a mapping")
        return value

    def _text(self, where: str, value: Any) -> str:
        if not isinstance(value, str) or not value:
            self.refuse(where, why="expected a text")
        if any(found[1] for found in _INTERPOLATED.finditer(value)):
            self.refuse(where, why="variables of the host are not read; write the value, or $$ for a $")
        return value.replace("$$", "$")

    def _flag(self, where: str, value: Any) -> bool:
        if value not in ("true", "false"):
            self.refuse(where, why="expected true or false")
        return bool(value == "true")

    def _nothing(self, where: str, value: Any) -> None:
        """`expose` only documents: on a private network every port is reachable."""

    def _texts(self, where: str, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list):
            self.refuse(where, why="expected a text or a list of texts")
        return tuple(self._text(where, part) for part in value)

    def _command(self, where: str, value: Any) -> tuple[str, ...]:
        import shlex

        if not isinstance(value, str):
            return self._texts(where, value)
        try:
            return tuple(shlex.split(self._text(where, value)))
        except ValueError as error:
            self.refuse(where, why=f"cannot be split into words: {error}")

    def _environment(self, where: str, value: Any) -> Mapping[str, str]:
        if isinstance(value, list):
            pairs = [self._text(where, entry).partition("=") for entry in value]
            value = {name: text if equals else None for name, equals, text in pairs}
        else:
            value = {name: self._value(f"{where}: {name}", text) for name, text in self._mapping(value, where).items()}
        for name, text in value.items():
            if text is None:
                self.refuse(where, name, why="variables of the host are not read; give it a value")
        return value  # type: ignore[no-any-return]

    def _value(self, where: str, value: Any) -> str | None:
        return value if value in (None, "") else self._text(where, value)

    def _build(self, where: str, value: Any) -> Build:
        table = {"context": value} if isinstance(value, str) else self._mapping(value, where)
        known = ("context", "dockerfile", "args", "target")
        for key in table:
            if key not in known:
                self.refuse(where, key, why=self._why(key, known))
        root = self._file.parent.resolve()
        context = (root / self._text(f"{where}: context", table.get("context", "."))).resolve()
        dockerfile = self._text(f"{where}: dockerfile", table.get("dockerfile", "Dockerfile"))
        if not context.is_relative_to(root) or not (context / dockerfile).resolve().is_relative_to(context):
            self.refuse(where, why="what is built must lie in the folder of the Compose file")
        target = self._text(f"{where}: target", table["target"]) if "target" in table else ""
        return Build(str(context), dockerfile, self._environment(f"{where}: args", table.get("args", {})), target)

    def _depends_on(self, where: str, value: Any) -> Mapping[str, Condition]:
        if isinstance(value, list):
            return dict.fromkeys(self._texts(where, value), "service_started")
        found: dict[str, Condition] = {}
        for name, content in self._mapping(value, where).items():
            table = self._mapping(content, where, name)
            for key in table:
                if key != "condition":
                    self.refuse(where, name, key, why=self._why(key, ("condition",)))
            condition = table.get("condition", "service_started")
            if condition not in ("service_started", "service_healthy", "service_completed_successfully"):
                self.refuse(where, name, why=f"no such condition: {condition}")
            found[name] = condition
        return found

    def _healthcheck(self, where: str, value: Any) -> Mapping[str, Any]:
        table = self._mapping(value, where)
        known = ("test", "interval", "timeout", "retries", "start_period", "disable")
        for key in table:
            if key not in known:
                self.refuse(where, key, why=self._why(key, known))
        if "disable" in table and self._flag(f"{where}: disable", table["disable"]):
            return {"test": ["NONE"]}
        check: dict[str, Any] = {}
        if "test" in table:
            test = table["test"]
            words = ("CMD-SHELL", self._text(where, test)) if isinstance(test, str) else self._texts(where, test)
            if not words or words[0] not in ("NONE", "CMD", "CMD-SHELL"):
                self.refuse(f"{where}: test", why="expected a text, or a list that begins with CMD, CMD-SHELL or NONE")
            check["test"] = list(words)
        for key in ("interval", "timeout", "start_period"):
            if key in table:
                check[key] = self._nanoseconds(f"{where}: {key}", table[key])
        if "retries" in table:
            if not str(table["retries"]).isdecimal() or int(table["retries"]) < 1:
                self.refuse(f"{where}: retries", why="expected a number from 1 on")
            check["retries"] = int(table["retries"])
        return check

    def _nanoseconds(self, where: str, value: Any) -> int:
        text = str(value)
        found = _DURATION.fullmatch(text)
        if not text or found is None:
            self.refuse(where, why=f"expected a duration such as 1m30s, not {text}")
        hours, minutes, seconds, milliseconds = (float(part or 0) for part in found.groups())
        return int((hours * 3600 + minutes * 60 + seconds) * 1e9 + milliseconds * 1e6)

    def _ordered(self, services: Mapping[str, Service]) -> tuple[Service, ...]:
        ordered: list[Service] = []
        while len(ordered) < len(services):
            started = {service.name for service in ordered}
            ready = [s for s in services.values() if s.name not in started and set(s.depends_on) <= started]
            if not ready:
                names = ", ".join(sorted(set(services) - started))
                self.refuse("services", why=f"these depend on each other in a circle: {names}")
            ordered += ready
        return tuple(ordered)
