"""Judges a software bill of materials: valid, complete, about what is shipped alone.

    sbom.py FILE NAMES

NAMES is a file with what cargo compiles into the programs: a line `NAME VERSION` for each crate.
"""

import json
import sys
from urllib.parse import unquote

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from license_expression import get_spdx_licensing
from packageurl import PackageURL


def check(good, what):
    if not good:
        sys.exit(f"sbom.py: {what}")


text = open(sys.argv[1]).read()
validator = JsonStrictValidator(SchemaVersion.V1_6)
problem = validator.validate_str(text)
check(problem is None, f"not valid: {problem}")
# Proof that it refuses something.
check(validator.validate_str(text.replace('"bom-ref"', '"bom-reference"', 1)), "everything is valid to this validator")

bom = json.loads(text)
# Attestations want it, and the schema does not.
check(bom["serialNumber"].startswith("urn:uuid:"), "no serial number")
components = {f"{one['name']} {one['version']}": one for one in bom["components"]}
check(len(components) == len(bom["components"]), "a crate is there twice")
wanted = set(open(sys.argv[2]).read().split("\n")) - {""}
check(set(components) == wanted, f"too much: {set(components) - wanted}; missing: {wanted - set(components)}")
names = {one["name"] for one in components.values()}
for name in ["mcp-bridge", "mcp-calculator", "rmcp", "hyper", "rustls", "ring"]:
    check(name in names, f"{name} is missing")
for name in ["openssl", "openssl-sys", "native-tls", "assert_cmd", "criterion", "insta", "proptest", "xtask"]:
    check(name not in names, f"{name} is there")

spdx = get_spdx_licensing()
for key, one in components.items():
    expressions = [licence["expression"] for licence in one.get("licenses", [])]
    check(len(expressions) == 1 and expressions[0], f"{key} has the licences {expressions}")
    found = spdx.validate(expressions[0])
    check(not found.errors, f"{key}: {found.errors}")
    purl = PackageURL.from_string(one["purl"])
    if one["type"] == "library":
        check((purl.type, purl.name, unquote(purl.version)) == ("cargo", one["name"], one["version"]), f"{key}: {one['purl']}")
        check(one["hashes"][0]["alg"] == "SHA-256", f"{key} has no checksum")
    else:
        check(purl.type == "github" and purl.subpath, f"{key}: {one['purl']}")

# From the release every crate can be reached.
needs = {one["ref"]: one["dependsOn"] for one in bom["dependencies"]}
reached, waiting = set(), [bom["metadata"]["component"]["bom-ref"]]
while waiting:
    reference = waiting.pop()
    if reference not in reached:
        reached.add(reference)
        waiting.extend(needs[reference])
check(reached == set(needs), f"nobody needs {set(needs) - reached}")
check(len(reached) == len(components) + 1, "a component has no place among the dependencies")
