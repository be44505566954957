"""What the part `sbom` asks of a document: sbom.py FILE PROGRAM VERSION

It is what the revision that it names asks for, describes the program, and lists what is in it: every crate
with the one name that scanners look for, its licence and its checksum, and none that is not in the program.
"""

import json
import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

# In both programs.
PRESENT = {"rmcp", "tokio", "rustls", "ring", "reqwest", "hyper", "serde_json", "keyring"}
# Only tests and packaging need these; the last two must not be needed at all.
ABSENT = {"assert_cmd", "insta", "proptest", "criterion", "rpm", "xtask", "openssl", "openssl-sys"}


def check(condition, text):
    if not condition:
        sys.exit(f"sbom: {text}")


def main(file, program, version):
    text = Path(file).read_text(encoding="utf-8")
    document = json.loads(text)
    revision = SchemaVersion.from_version(document["specVersion"])
    error = JsonStrictValidator(revision).validate_str(text)
    check(error is None, f"{file} is not valid: {error}")

    described = document["metadata"]["component"]
    check((described["name"], described["version"]) == (program, version), f"{described} is described")
    crates = {component["name"] for component in document["components"]}
    check(PRESENT <= crates, f"not listed: {PRESENT - crates}")
    check(not ABSENT & crates, f"listed, and not in it: {ABSENT & crates}")
    for component in document["components"]:
        name = f"{component['name']} {component['version']}"
        ours = component["name"] == "mcp-calculator"
        check(component["purl"].startswith(f"pkg:cargo/{component['name']}@{component['version']}"), f"{name}: purl")
        check(component.get("licenses"), f"{name} has no licence")
        check(ours or component.get("hashes"), f"{name} has no checksum")
    listed = {component["bom-ref"] for component in document["components"]} | {described["bom-ref"]}
    related = {entry["ref"] for entry in document["dependencies"]}
    check(listed == related, f"without dependencies, or unknown: {listed ^ related}")


main(*sys.argv[1:])
