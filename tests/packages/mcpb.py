"""What the part `mcpb` asks of a bundle.

zip BUNDLE      the zip is one for strict readers, with the modes that programs need
run FOLDER      starts the server of an unpacked bundle as Claude Desktop does, in both eras
"""

import json
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
ADD = {"name": "calculator", "arguments": {"operation": "add", "a": 6, "b": 7}}
LEGACY_INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


def check(condition, text):
    if not condition:
        sys.exit(f"mcpb: {text}")


def look(bundle):
    data = Path(bundle).read_bytes()
    with zipfile.ZipFile(bundle) as archive:
        check(archive.testzip() is None, "a checksum in the zip is wrong")
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        check(len(set(names)) == len(names), "a name is there twice")
        check(archive.comment == b"", "the zip has a comment")
        manifest = json.loads(archive.read("manifest.json"))
        program = manifest["server"]["entry_point"]
        for entry in entries:
            is_inside = not entry.filename.startswith("/") and ".." not in entry.filename.split("/")
            check(is_inside and "\\" not in entry.filename, f"{entry.filename} leads out of the folder")
            check(entry.create_system == 3, f"{entry.filename} has no mode")
            mode = oct(entry.external_attr >> 16)
            wanted = oct(0o100755 if entry.filename == program else 0o100644)
            check(mode == wanted, f"{entry.filename} has the mode {mode}, not {wanted}")
        icon = archive.read(manifest["icon"])
        check(icon[:8] == b"\x89PNG\r\n\x1a\n", "the icon is no PNG")
        check(struct.unpack(">II", icon[16:24]) == (512, 512), "the icon is not 512 pixels wide and high")
    # Nothing before the first file and nothing behind the end: a signature would stand there.
    check(data[:4] == b"PK\x03\x04", "something stands before the zip")
    check(data[-22:-18] == b"PK\x05\x06", "something stands behind the zip")
    for needed in ["privacy_policies", "support", "long_description", "tools"]:
        check(manifest.get(needed), f"the manifest has no {needed}")
    check(manifest["long_description"].count("\n- ") >= 3, "the manifest has fewer than three examples")
    options = manifest["user_config"]
    check(all("default" in option for option in options.values()), "a setting has no default")
    print(manifest["version"])


def filled(text, folder, settings):
    """As Claude Desktop fills in a manifest: what it has no value for stays as it stands."""
    text = text.replace("${__dirname}", str(folder))
    for name, value in settings.items():
        text = text.replace("${user_config.%s}" % name, value)
    return text


def ask(folder, settings, requests):
    config = json.loads((folder / "manifest.json").read_text())["server"]["mcp_config"]
    command = [filled(word, folder, settings) for word in [config["command"], *config.get("args", [])]]
    environment = {name: filled(value, folder, settings) for name, value in config.get("env", {}).items()}
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    process = subprocess.run(
        command,
        input="".join(json.dumps({"jsonrpc": "2.0", **request}) + "\n" for request in requests),
        env={"HOME": str(home), "PATH": os.environ["PATH"], **environment},
        cwd="/",
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    check(process.returncode == 0, f"the server ended with {process.returncode}")
    return {answer.get("id"): answer.get("result") for answer in map(json.loads, process.stdout.splitlines())}


def run(folder):
    folder = Path(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    defaults = {
        name: str(option["default"]).lower() if option["type"] == "boolean" else str(option["default"])
        for name, option in manifest["user_config"].items()
    }
    listed = [(tool["name"], tool["description"]) for tool in manifest["tools"]]
    legacy = [
        {"id": 1, "method": "initialize", "params": LEGACY_INITIALIZE},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/list"},
        {"id": 3, "method": "tools/call", "params": ADD},
    ]
    modern = [
        {"id": 1, "method": "server/discover", "params": {"_meta": MODERN}},
        {"id": 2, "method": "tools/list", "params": {"_meta": MODERN}},
        {"id": 3, "method": "tools/call", "params": {**ADD, "_meta": MODERN}},
    ]
    # With the settings as they are at first, and with none of them filled in.
    for settings in [defaults, {}]:
        for era, requests in [("legacy", legacy), ("modern", modern)]:
            answers = ask(folder, settings, requests)
            check(answers[3]["content"][0]["text"] == "13", f"{era}: it does not add: {answers[3]}")
            tools = answers[2]["tools"]
            check([(tool["name"], tool["description"]) for tool in tools] == listed, f"{era}: other tools: {tools}")
    answers = ask(folder, {**defaults, "require_login": "true"}, legacy)
    refusal = answers[3]["content"][0]["text"]
    check(answers[3]["isError"] and "Not signed in" in refusal, f"it calculates for a stranger: {refusal}")


{"zip": look, "run": run}[sys.argv[1]](sys.argv[2])
