"""What the Python programs of this folder share: a transcript and checks."""

import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

# No program of this folder may run longer, whatever hangs.
DEADLINE_SECONDS = 60

transcript: list[dict[str, Any]] = []


def note(step: str, **facts: Any) -> None:
    transcript.append({"step": step, **facts})


def same(actual: Any, expected: Any, what: str) -> None:
    if actual != expected:
        raise AssertionError(f"{what}: expected {expected!r}, got {actual!r}")


def run(program: Callable[..., Awaitable[None]], *arguments: str) -> None:
    """Runs `program`, prints the transcript, and exits 0 or, with the reason on stderr, 1."""

    async def bounded() -> None:
        with anyio.fail_after(DEADLINE_SECONDS):
            await program(*arguments)

    failed: BaseException | None = None
    try:
        anyio.run(bounded)
    except BaseException as error:
        # Task groups wrap what happened inside them; the innermost error is the one to read.
        failed = error
        while isinstance(failed, BaseExceptionGroup):
            failed = failed.exceptions[0]
        print(f"failed after {transcript[-1:]}: {type(failed).__name__}: {failed}", file=sys.stderr)
    print(json.dumps({"ok": failed is None, "transcript": transcript}, indent=1))
    sys.exit(0 if failed is None else 1)
