"""The official Python SDK's own OAuth client against the bridge with its embedded authorization server,
and its user in a real browser.

    NODE=… authserver_flow.py URL FILE

FILE is what the browser is told to allow. This SDK signs in and steps up inside the one request that was
refused, so the recorded statuses tell the story.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

import httpx2
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata

from oauth_flow import CALLBACK, Memory, scopes_of
from transcript import note, run, same

ALL = ["op:add", "op:div", "op:mult", "op:sub"]


class Browser:
    """The user's browser, in a process of its own."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.answer: dict[str, str] = {}

    def tell(self, **consent: object) -> None:
        told = json.loads(self.file.read_text())
        self.file.write_text(json.dumps({"passphrase": told["passphrase"], **consent}))

    async def open(self, url: str) -> None:
        script = str(Path(__file__).with_name("browser-consent.mjs"))
        process = await asyncio.create_subprocess_exec(
            os.environ["NODE"], script, url, str(self.file), CALLBACK, stdout=asyncio.subprocess.PIPE
        )
        printed = json.loads((await process.communicate())[0])
        same(printed["ok"], True, str(printed))
        steps = {step["step"]: step for step in printed["transcript"]}
        same(steps["complaints"]["complaints"], [], "what the browser complains about")
        self.answer = steps.get("allowed", {}).get("answer", {})

    async def callback(self) -> AuthorizationCodeResult:
        return AuthorizationCodeResult(
            code=self.answer["code"], state=self.answer["state"], iss=self.answer.get("iss")
        )


async def main(url: str, file: str) -> None:
    statuses: list[int] = []

    async def record(response: httpx2.Response) -> None:
        if str(response.request.url) == url and response.request.method == "POST":
            statuses.append(response.status_code)

    async def calculate(operation: str, text: str, refusals: list[int]) -> None:
        statuses.clear()
        result = await client.call_tool("calculator", {"operation": operation, "a": 8, "b": 2})
        same([part.text for part in result.content], [text], operation)
        same([status for status in statuses if status != 200], refusals, f"refusals of {operation}")
        note("call", operation=operation, statuses=list(statuses))

    browser, memory = Browser(Path(file)), Memory()
    oauth = OAuthClientProvider(
        server_url=url,
        client_metadata=OAuthClientMetadata(
            client_name="Interop",
            redirect_uris=[CALLBACK],
            grant_types=["authorization_code", "refresh_token"],
            token_endpoint_auth_method="none",
        ),
        storage=memory,
        redirect_handler=browser.open,
        callback_handler=browser.callback,
    )
    browser.tell(scopes=[scope for scope in ALL if scope != "op:div"])
    async with httpx2.AsyncClient(auth=oauth, timeout=60, event_hooks={"response": [record]}) as http:
        async with Client(streamable_http_client(url, http_client=http), mode="auto") as client:
            same(statuses[0], 401, "first status")
            same(scopes_of(memory), ["op:add", "op:mult", "op:sub"], "scopes of the first token")
            await calculate("add", "10", [])
            browser.tell(scopes=ALL)
            await calculate("divide", "4", [403])
            same("op:div" in scopes_of(memory), True, "scopes after the step-up")
            note("stepped up")

            browser.tell(revoke=True)
            await browser.open(url)
            browser.tell(scopes=ALL)
            # The refresh token is void as well, so the SDK has the user sign in again.
            await calculate("add", "10", [401])
            note("signed in again")


if __name__ == "__main__":
    run(main, *sys.argv[1:])
