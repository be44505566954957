"""The official Python SDK's own OAuth client against the bridge and a real authorization server.

    oauth_flow.py URL ISSUER

The bridge must run without a cache. Signs in with consent to `add` alone, steps up when `divide` is
refused with 403, and signs in again when the consent is withdrawn: this SDK does each of them
inside the one request that was refused, so the recorded statuses tell the story.
"""

import sys
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx2
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthToken,
)

from transcript import note, run, same

# Nobody listens there: the browser stops before it opens it.
CALLBACK = "http://127.0.0.1:8/callback"
REDIRECTS_MAX = 20


class Memory:
    """Implements the SDK's `TokenStorage`."""

    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class Browser:
    """The user's browser: follows redirects, keeps cookies, stops at the callback."""

    def __init__(self) -> None:
        self.answer: dict[str, str] = {}
        self.asked: list[list[str]] = []

    async def open(self, url: str) -> None:
        self.asked.append(sorted(parse_qs(urlsplit(url).query)["scope"][0].split()))
        async with httpx2.AsyncClient(timeout=30) as http:
            for _ in range(REDIRECTS_MAX):
                if url.startswith(CALLBACK):
                    self.answer = {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}
                    return
                response = await http.get(url)
                if "location" not in response.headers:
                    raise AssertionError(f"the browser is stuck: {response.status_code} {response.text}")
                url = urljoin(url, response.headers["location"])
        raise AssertionError(f"more than {REDIRECTS_MAX} redirects")

    async def callback(self) -> AuthorizationCodeResult:
        return AuthorizationCodeResult(
            code=self.answer["code"], state=self.answer["state"], iss=self.answer.get("iss")
        )


async def main(url: str, issuer: str) -> None:
    exchanges: list[tuple[int, str]] = []

    async def record(response: httpx2.Response) -> None:
        if str(response.request.url) == url and response.request.method == "POST":
            exchanges.append((response.status_code, response.headers.get("www-authenticate", "")))

    async def post(path: str, body: dict[str, str]) -> None:
        async with httpx2.AsyncClient(timeout=30) as http:
            same((await http.post(issuer + path, json=body)).status_code, 200, path)

    async def calculate(operation: str, a: float, b: float, text: str, refused: int | None = None) -> str:
        """Calls the tool; gives the challenge of the one refusal `refused` that the SDK must meet on the way."""
        exchanges.clear()
        result = await client.call_tool("calculator", {"operation": operation, "a": a, "b": b})
        same([part.text for part in result.content], [text], operation)
        same(exchanges[-1][0], 200, f"last status of {operation}")
        note("call", operation=operation, statuses=[status for status, _ in exchanges])
        refusals = [status for status, _ in exchanges if status != 200]
        same(refusals, [] if refused is None else [refused], f"refusals of {operation}")
        return "".join(challenge for _, challenge in exchanges)

    browser, memory = Browser(), Memory()
    oauth = OAuthClientProvider(
        server_url=url,
        client_metadata=OAuthClientMetadata(
            client_name="Interop",
            redirect_uris=[CALLBACK],
            grant_types=["authorization_code"],
            token_endpoint_auth_method="none",
        ),
        storage=memory,
        redirect_handler=browser.open,
        callback_handler=browser.callback,
    )
    await post("/test/consent", {"scopes": "op:add"})
    async with httpx2.AsyncClient(auth=oauth, timeout=30, event_hooks={"response": [record]}) as http:
        async with Client(streamable_http_client(url, http_client=http), mode="auto") as client:
            same(client.protocol_version, "2026-07-28", "protocol version")
            same(exchanges[0][0], 401, "first status")
            same("error=" in exchanges[0][1], False, f"an error in the first challenge {exchanges[0][1]}")
            same(browser.asked, [["op:add", "op:div", "op:mult", "op:sub"]], "scopes asked for")
            same(scopes_of(memory), ["op:add"], "scope of the first token")
            note("signed in")
            await calculate("add", 6, 7, "13")

            await post("/test/consent", {"scopes": "op:add op:div"})
            challenge = await calculate("divide", 8, 2, "4", refused=403)
            same('error="insufficient_scope"' in challenge and 'scope="op:div"' in challenge, True, challenge)
            same(scopes_of(memory), ["op:add", "op:div"], "scope after the step-up")
            note("stepped up", asked=browser.asked[-1])

            await post("/test/revoke-grants", {})
            challenge = await calculate("add", 6, 7, "13", refused=401)
            same('error="invalid_token"' in challenge, True, challenge)
            same(len(browser.asked), 3, "number of authorizations")
            note("signed in again")


def scopes_of(memory: Memory) -> list[Any]:
    assert memory.tokens is not None and memory.tokens.scope is not None
    return sorted(memory.tokens.scope.split())


if __name__ == "__main__":
    run(main, *sys.argv[1:])
