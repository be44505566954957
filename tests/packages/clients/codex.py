"""Which servers Codex knows, what it starts for each, and whether that works: `NAME: COMMAND ARG… - STATE`.

    codex.py CODEX

Its command line only repeats its file. The program behind its windows starts the servers, and needs no account for it.
"""

import json
import subprocess
import sys


def main(codex: str) -> None:
    listed = subprocess.run([codex, "mcp", "list", "--json"], stdout=subprocess.PIPE, check=True, timeout=30)
    started = statuses(codex)
    for server in json.loads(listed.stdout):
        name, transport = server["name"], server["transport"]
        command = [transport["command"], *transport["args"]] if transport["type"] == "stdio" else [transport["url"]]
        print(f"{name}: {' '.join(command)} - {state(started.pop(name, None))}")
    if started:
        sys.exit(f"Codex starts what it does not list: {started}")


def state(status: dict | None) -> str:
    if status is None:
        # What is in the file of a project is started with a conversation there, which needs an account.
        return "Not started"
    if status["authStatus"] == "notLoggedIn":
        return "Needs authentication"
    return status["toolsError"] or ("Connected" if status["tools"] else "No tools")


def statuses(codex: str) -> dict[str, dict]:
    server = subprocess.Popen([codex, "app-server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    requests = [
        {"id": 1, "method": "initialize", "params": {"clientInfo": {"name": "tests", "version": "1"}}},
        {"method": "initialized"},
        {"id": 2, "method": "mcpServerStatus/list", "params": {}},
    ]
    for request in requests:
        server.stdin.write(json.dumps(request).encode() + b"\n")
    server.stdin.flush()
    for line in server.stdout:
        message = json.loads(line)
        if message.get("id") == 2:
            server.stdin.close()
            server.wait(30)
            return {status["name"]: status for status in message["result"]["data"]}
    sys.exit(f"Codex ends without an answer: {server.wait()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
