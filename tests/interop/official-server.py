"""The official Python SDK as a client of @modelcontextprotocol/server-everything, of the legacy era.

    official_server.py legacy|2026-07-28 URL

The argument is the client's mode. With MCP_BRIDGE in the environment, the client speaks stdio to that
program, which connects to the URL.
"""

import os
import sys

from mcp import Client, StdioServerParameters

from transcript import note, run, same


async def main(mode: str, url: str) -> None:
    progress: list[tuple[float, float | None]] = []

    async def report(value: float, total: float | None, _message: str | None) -> None:
        progress.append((value, total))

    bridge = os.environ.get("MCP_BRIDGE")
    server = url if bridge is None else StdioServerParameters(command=bridge, args=["connect", url])
    async with Client(server, mode=mode) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        for name in ["echo", "get-sum", "trigger-long-running-operation"]:
            same(name in tools, True, f"whether there is {name}")
        result = await client.call_tool("echo", {"message": "Grüße"})
        same(result.content[0].text, "Echo: Grüße", "echo")
        note("echo")
        arguments = {"duration": 0.2, "steps": 4}
        result = await client.call_tool("trigger-long-running-operation", arguments, progress_callback=report)
        text = "Long running operation completed. Duration: 0.2 seconds, Steps: 4."
        same(result.content[0].text, text, "result")
    # The SDK reports from tasks of their own, all of which have ended with the client.
    same(progress, [(step, 4) for step in [1, 2, 3, 4]], "progress")
    note("progress")


run(main, *sys.argv[1:])
