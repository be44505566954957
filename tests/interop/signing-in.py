"""The official Python SDK as a client of a server of the same SDK that wants a sign-in, which is
MCP_BRIDGE's business.

    MCP_BRIDGE=… signing-in.py legacy|2026-07-28 URL
"""

import os
import sys

from mcp import Client, StdioServerParameters

from transcript import note, run, same


async def main(mode: str, url: str) -> None:
    progress: list[tuple[float, float | None]] = []

    async def report(value: float, total: float | None, _message: str | None) -> None:
        progress.append((value, total))

    bridge = StdioServerParameters(command=os.environ["MCP_BRIDGE"], args=["connect", url])
    async with Client(bridge, mode=mode) as client:
        same(sorted(tool.name for tool in (await client.list_tools()).tools), ["count", "echo"], "tools")
        result = await client.call_tool("echo", {"message": "Grüße"})
        same(result.content[0].text, "Echo: Grüße", "echo")
        result = await client.call_tool("count", {"steps": 3}, progress_callback=report)
        same(result.content[0].text, "3 steps", "count")
    # The SDK reports from tasks of their own, all of which have ended with the client.
    same(progress, [(step, 3) for step in [1, 2, 3]], "progress")
    note("used")


run(main, *sys.argv[1:])
