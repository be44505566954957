"""A server of the official Python SDK over streamable HTTP on a free loopback port, as its documentation
writes one: of both eras, with tokens that an authorization server is asked about.

    BRIDGE_SECRET=… sdk-server.py ISSUER INTROSPECTION_URL CLIENT_ID

Prints one JSON line when it accepts connections: {"url"}. It ends when its standard input does.
"""

import json
import os
import socket
import sys

import anyio
import httpx2
import uvicorn
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import Context, MCPServer

SCOPE = "op:add"


class Introspection:
    """Asks the authorization server about each token (RFC 7662)."""

    def __init__(self, url: str, client: tuple[str, str]) -> None:
        self.url, self.client = url, client

    async def verify_token(self, token: str) -> AccessToken | None:
        async with httpx2.AsyncClient(auth=self.client, timeout=10) as http:
            answer = (await http.post(self.url, data={"token": token})).raise_for_status().json()
        if not answer["active"]:
            return None
        return AccessToken(
            token=token,
            client_id=answer["client_id"],
            scopes=answer.get("scope", "").split(),
            expires_at=answer["exp"],
            resource=answer["aud"],
            subject=answer["sub"],
        )


async def until_input_ends(server: uvicorn.Server) -> None:
    await anyio.to_thread.run_sync(sys.stdin.read)
    server.should_exit = True


async def main(issuer: str, introspection_url: str, client_id: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
        auth = AuthSettings(
            issuer_url=issuer,
            resource_server_url=url,
            required_scopes=[SCOPE],
            validate_token_resource=True,
        )
        verifier = Introspection(introspection_url, (client_id, os.environ["BRIDGE_SECRET"]))
        mcp = MCPServer("sdk-server", log_level="WARNING", auth=auth, token_verifier=verifier)

        @mcp.tool()
        def echo(message: str) -> str:
            return f"Echo: {message}"

        @mcp.tool()
        async def count(ctx: Context, steps: int) -> str:
            for step in range(1, steps + 1):
                await ctx.report_progress(step, steps)
            return f"{steps} steps"

        server = uvicorn.Server(uvicorn.Config(mcp.streamable_http_app(), log_level="warning"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(until_input_ends, server)
            # Connections wait in the socket until the server takes them.
            print(json.dumps({"url": url}), flush=True)
            await server.serve(sockets=[listener])


anyio.run(main, *sys.argv[1:])
