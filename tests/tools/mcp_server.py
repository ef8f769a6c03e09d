"""A real MCP server for the tests: `mcp_server.py` speaks over stdio, `mcp_server.py http PORT` over HTTP."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from pathlib import Path

from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import AudioContent, CallToolResult, EmbeddedResource, ResourceLink, TextContent, TextResourceContents

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
server = MCPServer("tests")
counted = 0


@server.tool()
def echo(text: str, environment: str = "") -> str:
    """Say it again."""
    return text + environment


@server.tool(name="names.with dots/and more")
def odd_name() -> str:
    """Has a name that no provider accepts."""
    return "reached"


@server.tool()
def count() -> int:
    """How often this was called."""
    global counted
    counted += 1
    return counted


@server.tool(structured_output=False)
def picture() -> Image:
    """An image."""
    return Image(data=PNG, format="png")


@server.tool(structured_output=False)
def broken_picture() -> Image:
    """An image that is cut off."""
    return Image(data=PNG[:-9], format="png")


@server.tool()
def parts() -> CallToolResult:
    """Some of everything."""
    return CallToolResult(
        content=[
            TextContent(text="a text"),
            AudioContent(data=base64.b64encode(b"sound").decode(), mime_type="audio/wav"),
            ResourceLink(name="notes", uri="file:///notes.txt"),
            EmbeddedResource(resource=TextResourceContents(uri="file:///a.txt", text="inside")),
        ],
        structured_content={"n": 1},
    )


@server.tool()
def refuse(reason: str) -> str:
    """Fail."""
    raise ToolError(reason)


@server.tool()
async def sleep(seconds: float) -> str:
    """Take time."""
    await asyncio.sleep(seconds)
    return "slept"


@server.tool()
def crash(last_words: str) -> str:
    """End the server."""
    print(last_words, file=sys.stderr, flush=True)
    os._exit(3)


@server.tool()
def pid() -> int:
    """The server's process."""
    return os.getpid()


@server.tool()
def big(size: int) -> str:
    """Much text."""
    return "x" * (size - 4) + "\nend"


@server.tool()
def write(path: str, text: str) -> str:
    """Write a file in the server's folder."""
    Path(path).write_text(text, "utf-8")
    return f"wrote {Path(path).resolve()}"


if __name__ == "__main__":
    if sys.argv[1:2] == ["http"]:
        server.run("streamable-http", port=int(sys.argv[2]))
    else:
        print("this line is no message of the protocol", flush=True)
        server.run("stdio")
