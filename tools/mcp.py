"""`mcp`: the tools of an MCP server, over stdio or streamable HTTP, as tools of the agent."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import importlib.util
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self
from weakref import WeakKeyDictionary, WeakSet

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from trellis.environments.environment import Environment, EnvironmentFault
from trellis.models.messages import Image
from trellis.models.model import ToolSpec
from trellis.tools.clip import clip, plain, presentable
from trellis.tools.images import add
from trellis.tools.mcp_connection import Connection, HostProcess, Open, ServerError, ServerGone, by_url, over_stdio
from trellis.tools.tool import Output, ToolError

if TYPE_CHECKING:
    from mcp_types import CallToolResult

NAME_CHARS = 64
"""What providers accept as the name of a tool at most."""
IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")


class McpServer(BaseModel):
    """A server whose tools an agent gets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """What its tools' names begin with."""
    command: tuple[str, ...] = ()
    """Program and arguments; it speaks the protocol over its standard input and output."""
    env: dict[str, str] = {}
    """Variables of the command."""
    where: Literal["world", "host"] | None = None
    """Where the command is started: inside each world, unless this says on the host, which is for servers you trust."""
    url: str = ""
    """Instead of a command: a server that runs already and speaks streamable HTTP; it is reached from this machine."""
    timeout_s: float = Field(default=120, gt=0)
    """Deadline of each call."""
    start_timeout_s: float = Field(default=60, gt=0)
    """Deadline for it to start and to list its tools."""

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", name):
            raise ValueError(f"{name!r} is no name: letters, digits, _ and -, 32 at most, and no _ or - in front")
        return name

    @field_validator("url")
    @classmethod
    def _is_a_url(cls, url: str) -> str:
        if url and not re.match(r"https?://[^/]", url):
            raise ValueError(f"{url!r} is no URL: it begins with http:// or https:// and names a host")
        return url

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.command) == bool(self.url):
            raise ValueError(f"server {self.name!r} needs a command or a url, one of the two")
        if self.url and (self.env or self.where == "world"):
            raise ValueError(f"server {self.name!r} has a url, so nothing is started: leave out `env` and `where`")
        return self

    @property
    def in_world(self) -> bool:
        return not self.url and self.where != "host"


@dataclass
class _Session:
    connection: Connection | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class McpTools:
    """The tools of one server. It is started in each world that uses it, when that first does, or once on this machine;
    a server that ended is started again by the next call."""

    def __init__(self, server: McpServer) -> None:
        self.name = server.name
        self.in_world = server.in_world
        self._server = server
        self._in_worlds: WeakKeyDictionary[Environment, _Session] = WeakKeyDictionary()
        self._outside = _Session()
        self._opened: WeakSet[Connection] = WeakSet()

    async def discover(self, environment: Environment) -> Sequence[ToolSpec]:
        """See `Toolset.discover`."""
        try:
            connection = await self._connection(environment)
        except (ServerGone, ToolError) as error:
            raise EnvironmentFault(f"the MCP server {self.name} cannot be used: {error}") from None
        shown = [self._shown(tool.name) for tool in connection.tools]
        if twice := [name for name, count in Counter(shown).items() if count > 1]:
            raise EnvironmentFault(f"the MCP server {self.name} has several tools that would be called {twice[0]}")
        return [
            ToolSpec(name, (tool.description or tool.title or "").strip(), tool.input_schema)
            for name, tool in zip(shown, connection.tools, strict=True)
        ]

    async def call(self, environment: Environment, tool: str, arguments: Mapping[str, Any]) -> Output:
        """See `Toolset.call`."""
        try:
            connection = await self._connection(environment)
            name = next((each.name for each in connection.tools if self._shown(each.name) == tool), None)
            if name is None:
                raise ToolError(f"the server {self.name} no longer offers {tool}")
            result = await connection.call(name, arguments, timeout_s=self._server.timeout_s)
        except ServerError as error:
            raise ToolError(f"{tool}: the server {self.name} {_verb(error)}") from None
        except ServerGone as error:
            raise ToolError(
                f"{tool}: the server {self.name} {error}. "
                "The next call begins anew with it; what it held in memory is gone"
            ) from None
        return await _output(environment, result)

    async def close(self) -> None:
        await asyncio.gather(*(connection.close() for connection in list(self._opened)))

    async def _connection(self, environment: Environment) -> Connection:
        in_worlds = self._in_worlds
        session = in_worlds.setdefault(environment, _Session()) if self.in_world else self._outside
        async with session.lock:
            if session.connection is None or not session.connection.alive:
                if importlib.util.find_spec("mcp") is None:
                    raise ServerGone("needs the extra mcp: pip install 'trellis-agents[mcp]'")
                session.connection = None
                session.connection = await Connection.open(
                    self._transport(environment), timeout_s=self._server.start_timeout_s
                )
                self._opened.add(session.connection)
            return session.connection

    def _transport(self, environment: Environment) -> Open:
        server = self._server
        if server.url:
            return by_url(server.url)
        if not server.in_world:
            return over_stdio(partial(HostProcess.start, server.command, server.env))
        return over_stdio(partial(environment.open_process, server.command, env=server.env))

    def _shown(self, tool: str) -> str:
        """What a tool is called before models: letters, digits, _ and -, and not too long."""
        name = re.sub(r"[^A-Za-z0-9_-]", "_", f"{self.name}__{tool}")
        if len(name) <= NAME_CHARS:
            return name
        return f"{name[: NAME_CHARS - 9]}-{hashlib.sha256(tool.encode()).hexdigest()[:8]}"


async def _output(environment: Environment, result: CallToolResult) -> Output:
    texts: list[str] = []
    images: list[Image] = []
    for part in result.content:
        match part.type:
            case "text":
                texts.append(part.text)
            case "image" | "audio":
                _add_media(part.data, part.mime_type, texts, images)
            case "resource_link":
                texts.append(f"[{part.name}: {part.uri}]")
            case "resource":
                resource = part.resource
                if hasattr(resource, "text"):
                    texts.append(resource.text)
                else:
                    _add_media(resource.blob, resource.mime_type or "unknown data", texts, images)
    structured = result.structured_content
    if structured is not None and not texts and not images:
        texts.append(json.dumps(structured, ensure_ascii=False, indent=1))
    whole = "\n".join(texts)
    data = {} if structured in (None, {"result": whole}) else {"structured": structured}  # often the text once more
    text = await _presentable(environment, whole)
    return Output(text or ("" if images else "(no output)"), tuple(images), is_error=result.is_error, data=data)


def _add_media(encoded: str, kind: str, texts: list[str], images: list[Image]) -> None:
    try:
        data = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        texts.append(f"[{kind} that is not base64]")
        return
    if kind in IMAGES:
        if left_out := add(images, "an image", data):
            texts.append(left_out)
    else:
        texts.append(f"[{kind}, {len(data):,} bytes, which cannot be shown here]")


async def _presentable(environment: Environment, text: str) -> str:
    try:
        return await presentable(environment, text)
    except ToolError:  # a task without a world has no place to keep the whole
        return clip(plain(text))


def _verb(error: ServerError) -> str:
    text = str(error)
    return text if text.startswith("did not answer") else f"says: {text}"
