"""The official Python SDK as a client of the calculator in both eras.

    client.py stdio PROGRAM [ARGUMENT]…
    client.py http URL    (with a bearer token in MCP_TOKEN, if it is set)
    client.py sse URL     (the same over HTTP+SSE, at URL/sse, in the legacy era)

Prints a transcript as JSON; on a mismatch says so on stderr and exits 1.
"""

import os
import sys
from typing import Any

import httpx2
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from transcript import note, run, same

OPERATIONS = ["add", "subtract", "multiply", "divide"]

# Arguments, text, whether it is a tool error.
ANSWERS: list[tuple[dict[str, Any], str, bool]] = [
    ({"operation": "add", "a": 6, "b": 7}, "13", False),
    ({"operation": "add", "a": 0.1, "b": 0.2}, "0.30000000000000004", False),
    ({"operation": "divide", "a": 1, "b": 0}, "Error: Division by zero", True),
]

# How the client chooses an era, and the revision that it must end up with.
MODES = [("legacy", "2025-11-25"), ("2026-07-28", "2026-07-28"), ("auto", "2026-07-28")]


async def refusal(client: Client, name: str, arguments: dict[str, Any]) -> str:
    """The text with which a call is refused: a JSON-RPC error, or a tool's error."""
    try:
        result = await client.call_tool(name, arguments)
    except MCPError as error:
        return error.message
    same(result.is_error, True, f"is_error of {name} {arguments}")
    return "\n".join(part.text for part in result.content)


async def use_calculator(client: Client) -> None:
    # An adopted version has no identity: only a handshake or a discovery tells the server's name.
    if client.server_info is not None:
        same(client.server_info.name, "Calculator", "server name")
    note("connected", version=client.protocol_version, named=client.server_info is not None)

    tools = (await client.list_tools()).tools
    same([tool.name for tool in tools], ["calculator"], "tools")
    schema = tools[0].input_schema
    same(sorted(schema["required"]), ["a", "b", "operation"], "required")
    same(schema["properties"]["operation"]["enum"], OPERATIONS, "operations in the schema")
    note("tools", names=[tool.name for tool in tools])

    for arguments, text, is_error in ANSWERS:
        result = await client.call_tool("calculator", arguments)
        same([part.text for part in result.content], [text], f"text of {arguments}")
        same(bool(result.is_error), is_error, f"is_error of {arguments}")
        note("call", arguments=arguments, text=text, is_error=is_error)

    unknown = await refusal(client, "no-such-tool", {})
    same("no-such-tool" in unknown, True, f"the refusal of an unknown tool names it ({unknown})")
    note("unknown tool", refusal=unknown)

    wrong = await refusal(client, "calculator", {"operation": "power", "a": 1, "b": 2})
    for operation in OPERATIONS:
        same(operation in wrong, True, f"the refusal of a wrong operation names {operation} ({wrong})")
    note("wrong operation", refusal=wrong)


def authorization() -> dict[str, str]:
    token = os.environ.get("MCP_TOKEN")
    return {} if token is None else {"authorization": f"Bearer {token}"}


async def over_http(url: str, mode: str, version: str) -> None:
    exchanges: list[dict[str, Any]] = []

    async def record(response: httpx2.Response) -> None:
        exchanges.append(
            {
                "method": response.request.method,
                "session": "mcp-session-id" in response.request.headers,
                "version": response.request.headers.get("mcp-protocol-version"),
                "status": response.status_code,
            }
        )

    async with httpx2.AsyncClient(headers=authorization(), timeout=30, event_hooks={"response": [record]}) as http:
        async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
            same(client.protocol_version, version, "protocol version")
            await use_calculator(client)

    if mode == "legacy":
        deleted = [exchange for exchange in exchanges if exchange["method"] == "DELETE"]
        same([exchange["session"] for exchange in deleted], [True], "DELETE requests, each with a session")
        same(deleted[0]["status"] in (200, 202, 204), True, f"DELETE was accepted ({deleted[0]['status']})")
    else:
        same({exchange["method"] for exchange in exchanges}, {"POST"}, "methods")
        same({exchange["session"] for exchange in exchanges}, {False}, "sessions")
        same({exchange["version"] for exchange in exchanges}, {version}, "MCP-Protocol-Version")
    note("exchanges", exchanges=exchanges)


async def over_sse(url: str) -> None:
    for mode in ("legacy", "auto"):
        note("mode", mode=mode)
        async with Client(sse_client(f"{url}/sse", headers=authorization()), mode=mode) as client:
            same(client.protocol_version, "2025-11-25", "protocol version")
            await use_calculator(client)
        note("closed")


async def over_stdio(program: str, arguments: list[str], mode: str, version: str) -> None:
    async with Client(StdioServerParameters(command=program, args=arguments), mode=mode) as client:
        same(client.protocol_version, version, "protocol version")
        await use_calculator(client)
    note("closed")


async def main(kind: str, target: str, *arguments: str) -> None:
    if kind == "sse":
        return await over_sse(target)
    for mode, version in MODES:
        note("mode", mode=mode)
        if kind == "stdio":
            await over_stdio(target, list(arguments), mode, version)
        else:
            await over_http(target, mode, version)


run(main, *sys.argv[1:])
