"""The official Python SDK as a client of a server that asks, reports, logs and changes.

    everything.py legacy|2026-07-28 URL

The argument is the client's mode; the server may be of either era. With MCP_BRIDGE in the
environment, the client speaks stdio to that program, which connects to the URL.
"""

import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import httpx2
import mcp_types as types
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from transcript import note, run, same

WATCHED = "test://watched-resource"
PATIENCE_SECONDS = 10
BRIDGE = os.environ.get("MCP_BRIDGE")

asked: list[str] = []
heard: list[str] = []
accepted: list[str] = []


async def record(response: httpx2.Response) -> None:
    if response.request.method == "POST":
        accepted.append(json.loads(response.request.content).get("method", "a response"))


async def elicit(_context: Any, params: Any) -> types.ElicitResult:
    names = list(params.requested_schema["properties"])
    asked.append(",".join(names))
    return types.ElicitResult(action="accept", content={name: f"my {name}" for name in names})


async def sample(_context: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
    asked.append(params.messages[0].content.text)
    return types.CreateMessageResult(role="assistant", model="none", content=types.TextContent(type="text", text="Paris"))


async def roots(_context: Any) -> types.ListRootsResult:
    asked.append("roots")
    return types.ListRootsResult(roots=[types.Root(uri="file:///home", name="home")])


async def log(params: types.LoggingMessageNotificationParams) -> None:
    heard.append(params.data)


async def message(notification: Any) -> None:
    if isinstance(notification, types.ResourceUpdatedNotification):
        heard.append(f"updated {notification.params.uri}")
    if isinstance(notification, types.ToolListChangedNotification):
        heard.append("tools changed")


async def until(happened: Callable[[], Awaitable[bool]]) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while not await happened():
            await anyio.sleep(0.01)


async def main(mode: str, url: str) -> None:
    if BRIDGE is not None:
        return await visit(StdioServerParameters(command=BRIDGE, args=["connect", url]), mode)
    async with httpx2.AsyncClient(timeout=30, event_hooks={"response": [record]}) as http:
        await visit(streamable_http_client(url, http_client=http), mode)


async def visit(transport: Any, mode: str) -> None:
    is_modern = mode != "legacy"
    client = Client(
        transport,
        mode=mode,
        elicitation_callback=elicit,
        sampling_callback=sample,
        list_roots_callback=roots,
        logging_callback=log,
        message_handler=message,
    )
    async with client:
        await use(client, is_modern)


async def use(client: Client, is_modern: bool) -> None:
    async def call(name: str, arguments: dict[str, Any] | None = None, **options: Any) -> str:
        result = await client.call_tool(name, arguments or {}, **options)
        same(bool(result.is_error), False, f"{name}: {result.content}")
        return result.content[0].text

    tools = [tool.name for tool in (await client.list_tools()).tools]
    for name in ["test_sampling", "test_input_required_result_multi_round", "touch"]:
        same(name in tools, True, f"whether there is {name}")

    progress: list[float] = []

    async def report(value: float, _total: float | None, _message: str | None) -> None:
        progress.append(value)

    same(await call("progress_n", {"n": 5}, progress_callback=report), "5", "result")
    # The SDK reports from tasks of their own.
    await until(lambda: is_true(len(progress) == 5))
    same(progress, [1, 2, 3, 4, 5], "progress")
    note("progress")

    form = 'User response: action=accept, content={"email":"my email","username":"my username"}'
    same(await call("test_elicitation", {"message": "Who?"}), form, "the form")
    same(await call("test_sampling", {"prompt": "Capital?"}), "LLM response: Paris", "the model's answer")
    same(await call("test_list_roots"), 'Roots: [{"name":"home","uri":"file:///home"}]', "roots")
    same(await call("test_input_required_result_multi_round"), "Color: my color", "two rounds")
    same(await call("test_input_required_result_multiple_inputs"), "Paris my name", "three questions at once")
    prompt = await client.get_prompt("test_input_required_result_prompt")
    same(prompt.messages[0].content.text, "Use this context: my context", "a prompt that asks")
    same(asked[:5], ["email,username", "Capital?", "roots", "name", "color"], "questions")
    # Those of one round in whichever order they came.
    same(sorted(asked[5:8]), ["Generate a greeting", "name", "roots"], "questions at once")
    same(asked[8:], ["context"], "the question of the prompt")
    note("asked")

    if not is_modern:
        await client.set_logging_level("info")
    meta = {"io.modelcontextprotocol/logLevel": "info"} if is_modern else None
    await call("test_tool_with_logging", meta=meta)
    steps = ["Tool execution started", "Tool processing data", "Tool execution completed"]
    await until(lambda: is_true(len(heard) >= 3))
    same(heard, steps, "log messages")
    note("logged")

    async with AsyncExitStack() as stack:
        if is_modern:
            listening = client.listen(tools_list_changed=True, resource_subscriptions=[WATCHED])
            subscription = await stack.enter_async_context(listening)
            same(subscription.honored.resource_subscriptions, [WATCHED], "what is granted")
        else:
            await client.subscribe_resource(WATCHED)
        await call("touch", {"uri": WATCHED, "lists": True})
        if is_modern:
            events = [type(await anext(subscription)).__name__ for _ in range(2)]
            same(events, ["ResourceUpdated", "ToolsListChanged"], "changes")
        else:
            await until(lambda: is_true({f"updated {WATCHED}", "tools changed"} <= set(heard)))
            await client.unsubscribe_resource(WATCHED)
    note("changes")

    before = int(await call("count"))
    async with anyio.create_task_group() as tasks:
        giving_up = anyio.CancelScope()

        async def sleep() -> None:
            with giving_up:
                await call("sleep", {"ms": 50_000})

        tasks.start_soon(sleep)
        polls = 0

        async def is_running() -> bool:
            nonlocal polls
            polls += 1
            return int(await call("count")) - before > polls

        await until(is_running)
        giving_up.cancel()
    same(giving_up.cancelled_caught, True, "whether the call was given up")
    if not is_modern and BRIDGE is None:
        # A client that closes takes back what it has not sent. In the modern era, the end of the
        # request says it.
        await until(lambda: is_true("notifications/cancelled" in accepted))
    note("cancelled")


async def is_true(condition: bool) -> bool:
    return condition


run(main, *sys.argv[1:])
