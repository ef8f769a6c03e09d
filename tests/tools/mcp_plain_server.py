"""An MCP server of the older kind in nothing but the standard library, for worlds without the `mcp` package."""

from __future__ import annotations

import json
import sys
from typing import Any

TOOLS = [
    {"name": name, "description": f"{name} it", "inputSchema": {"type": "object", "properties": {"text": {}}}}
    for name in ("echo", "fail")
]


def answer(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    if method == "initialize":
        version = params["protocolVersion"]
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": {"name": "p", "version": "1"}}
    if method == "tools/list":
        at = int(params.get("cursor", 0))
        page = {"tools": TOOLS[at : at + 1]}
        return {**page, "nextCursor": str(at + 1)} if at + 1 < len(TOOLS) else page
    if method == "tools/call" and params["name"] == "echo":
        return {"content": [{"type": "text", "text": params["arguments"]["text"]}]}
    if method == "tools/call":
        return {"content": [{"type": "text", "text": "failed"}], "isError": True}
    return None


def serve() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if "id" not in request:
            continue
        result = answer(request["method"], request.get("params") or {})
        outcome = {"result": result} if result is not None else {"error": {"code": -32601, "message": "no such method"}}
        print(json.dumps({"jsonrpc": "2.0", "id": request["id"], **outcome}), flush=True)


if __name__ == "__main__":
    serve()
