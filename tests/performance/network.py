"""What the way out of a world without a network costs, beside a download over plain loopback.

    python tests/performance/network.py [--json] [KIND ...]

One curl fetches the same file from the same server, first on the host, then inside a world through its proxy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable

from trellis.environments import kinds
from trellis.environments.environment import EnvironmentSpec

SIZE_MB, DOWNLOADS, REQUESTS = 400, 3, 30
DIRECT = "plain loopback"
SERVER = f"""
import http.server, sys

class Files(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        size = {SIZE_MB << 20} if self.path == "/big" else 2
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        while size > 0:
            self.wfile.write(bytes(min(size, 1 << 20)))
            size -= 1 << 20

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
print(server.server_port, flush=True)
server.serve_forever()
"""

Fetch = Callable[[str], Awaitable[float]]
"""Fetch a path; how long curl says that took, in seconds."""


def curl(port: int, path: str) -> list[str]:
    return ["curl", "-sS", "-o", "/dev/null", "-w", "%{time_total}", f"http://127.0.0.1:{port}{path}"]


async def measure(fetch: Fetch) -> dict[str, float]:
    big = [await fetch("/big") for _ in range(DOWNLOADS)]
    small = [await fetch("/small") for _ in range(REQUESTS)]
    return {"MB/s": SIZE_MB / statistics.median(big), "request_ms": statistics.median(small) * 1000}


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("kinds", nargs="*", default=["sandbox", "docker"])
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    available = {facts.kind: facts for facts in await kinds.doctor()}
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    port = int(server.stdout.readline())

    async def on_the_host(path: str) -> float:
        return float(await asyncio.to_thread(subprocess.check_output, curl(port, path), env={"PATH": os.defpath}))

    results = {DIRECT: await measure(on_the_host)}
    for kind in chosen.kinds:
        if not available[kind].available:
            print(f"{kind} is not to be had here: {available[kind].reason}", file=sys.stderr)
            continue
        spec = EnvironmentSpec(kind=kind, allow=(f"127.0.0.1:{port}",))
        world = await spec.start(label=f"performance-{os.getpid()}")

        async def inside(path: str) -> float:
            return float((await world.exec(curl(port, path))).stdout)  # noqa: B023

        results[kind] = await measure(inside)
        await world.close()
    server.kill()
    server.wait()
    server.stdout.close()
    if chosen.json:
        print(json.dumps(results))
        return
    base = results[DIRECT]
    for name, found in results.items():
        ratio = base["MB/s"] / found["MB/s"]
        print(
            f"{name:16} {found['MB/s']:8.0f} MB/s ({ratio:5.1f} times slower)   "
            f"a small request {found['request_ms']:6.2f} ms ({found['request_ms'] - base['request_ms']:+.2f} ms)"
        )


if __name__ == "__main__":
    asyncio.run(main())
