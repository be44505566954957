"""Judges the manifests for winget and Scoop and server.json: their schemas, and the files that they name.

    manifests.py FOLDER

FOLDER has the manifests and the files of the release. The schema of server.json comes with the package `skillsaw`.
No package has newest ones for winget and Scoop: their rules are below, for the keys that are used; another key is an
error.
"""

import hashlib
import json
import re
import sys
import tarfile
import zipfile
from datetime import date
from importlib.resources import files
from pathlib import Path

import jsonschema
from ruamel.yaml import YAML

FOLDER = Path(sys.argv[1])
URL = r"^https://[^\s]+$"
NOT_IN_NAMES = r"\\/:\*\?\"<>\|\x01-\x1f"


def check(good, what):
    if not good:
        sys.exit(f"manifests.py: {what}")


def valid(instance, schema, name):
    validator = jsonschema.validators.validator_for(schema)
    problems = list(validator(schema, format_checker=validator.FORMAT_CHECKER).iter_errors(instance))
    check(not problems, f"{name}: " + "; ".join(f"{problem.json_path}: {problem.message}" for problem in problems))


def text(longest, shortest=1, **more):
    return {"type": "string", "minLength": shortest, "maxLength": longest, **more}


def record(required, **properties):
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": required}


# The rules of schemas/JSON/manifests/v1.10.0 in microsoft/winget-cli.
def winget(kind, required, **properties):
    common = {
        "PackageIdentifier": text(128, pattern=rf"^[^\.\s{NOT_IN_NAMES}]{{1,32}}(\.[^\.\s{NOT_IN_NAMES}]{{1,32}}){{1,7}}$"),
        "PackageVersion": text(128, pattern=rf"^[^{NOT_IN_NAMES}]+$"),
        "ManifestType": {"const": kind},
        "ManifestVersion": {"const": "1.10.0"},
    }
    return record([*common, *required], **common, **properties)


LOCALE = text(20, pattern="^[a-zA-Z]{2,3}(-[a-zA-Z]{1,8})*$")
GUID = {"type": "string", "pattern": "^\\{[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}\\}$"}
NESTED = record(["RelativeFilePath"], RelativeFilePath=text(512), PortableCommandAlias=text(40))
INSTALLER = record(
    ["Architecture", "InstallerUrl", "InstallerSha256", "InstallerType"],
    Architecture={"enum": ["x86", "x64", "arm", "arm64", "neutral"]},
    InstallerType={"enum": ["msi", "wix", "zip"]},
    InstallerUrl=text(2048, pattern=URL),
    InstallerSha256={"type": "string", "pattern": "^[A-Fa-f0-9]{64}$"},
    NestedInstallerType={"const": "portable"},
    NestedInstallerFiles={"type": "array", "items": NESTED, "maxItems": 1024},
    ProductCode=GUID,
    AppsAndFeaturesEntries={"type": "array", "items": record([], ProductCode=GUID, UpgradeCode=GUID), "maxItems": 128},
)
WINGET = {
    "": winget("version", ["DefaultLocale"], DefaultLocale=LOCALE),
    ".installer": winget(
        "installer",
        ["Installers"],
        Platform={"type": "array", "items": {"enum": ["Windows.Desktop", "Windows.Universal"]}, "uniqueItems": True},
        MinimumOSVersion={"type": "string", "pattern": r"^\d{1,5}(\.\d{1,5}){0,3}$"},
        Scope={"enum": ["user", "machine"]},
        UpgradeBehavior={"enum": ["install", "uninstallPrevious", "deny"]},
        Commands={"type": "array", "items": text(40), "maxItems": 16, "uniqueItems": True},
        ReleaseDate={"type": "string", "format": "date"},
        Installers={"type": "array", "items": INSTALLER, "minItems": 1, "maxItems": 1024},
    ),
    ".locale.en-US": winget(
        "defaultLocale",
        ["PackageLocale", "Publisher", "PackageName", "License", "ShortDescription"],
        PackageLocale=LOCALE,
        Publisher=text(256, 2),
        PackageName=text(256, 2),
        License=text(512, 3),
        ShortDescription=text(256, 3),
        Description=text(10000, 3),
        Moniker=text(40),
        Tags={"type": "array", "items": text(40), "maxItems": 16, "uniqueItems": True},
        **{
            name: text(2048, pattern=URL)
            for name in ["PublisherUrl", "PublisherSupportUrl", "PrivacyUrl", "PackageUrl", "LicenseUrl", "ReleaseNotesUrl"]
        },
    ),
}

# The rules of schema.json in ScoopInstaller/Scoop.
ARCHITECTURE = {"url": text(2048, pattern=URL), "extract_dir": text(255)}
HASH = {"type": "string", "pattern": "^[a-fA-F0-9]{64}$"}
SCOOP = record(
    ["version", "description", "homepage", "license", "architecture", "bin", "checkver", "autoupdate"],
    version={"type": "string", "pattern": r"^[\w\.\-+_]+$"},
    description=text(255),
    homepage=text(2048, pattern=URL),
    license=text(255),
    architecture={
        "type": "object",
        "propertyNames": {"enum": ["32bit", "64bit", "arm64"]},
        "additionalProperties": record([*ARCHITECTURE, "hash"], **ARCHITECTURE, hash=HASH),
    },
    bin={"type": "array", "items": text(255), "minItems": 1},
    checkver=record(["github"], github=text(2048, pattern=URL)),
    autoupdate=record(
        ["architecture", "hash"],
        architecture={
            "type": "object",
            "propertyNames": {"enum": ["32bit", "64bit", "arm64"]},
            "additionalProperties": record([*ARCHITECTURE], **ARCHITECTURE),
        },
        hash=record(["url"], url=text(2048, pattern=r"^.*(\$url|\$baseurl).*$")),
    ),
)


def server_schema(address):
    day = re.fullmatch(r"https://static\.modelcontextprotocol\.io/schemas/(\d{4})-(\d\d)-(\d\d)/server\.schema\.json", address)
    check(day, f"$schema is {address}")
    schema = json.loads((files("skillsaw.schemas.mcp_registry") / "v{}_{}_{}".format(*day.groups()) / "server.schema.json").read_text())
    check(schema["$id"] == address, f"the schema calls itself {schema['$id']}")
    return schema


def named(url, sha256, version):
    """The file that `url` is about, which has the checksum `sha256`."""
    place = re.fullmatch(rf"https://github\.com/[^/]+/mcp-bridge/releases/download/v{re.escape(version)}/([^/]+)", url)
    check(place, f"{url} is not where the release {version} is")
    file = FOLDER / place[1]
    check(file.is_file(), f"{url}: no such file was made")
    actual = hashlib.sha256(file.read_bytes()).hexdigest()
    check(actual == sha256.lower(), f"{file.name} has the checksum {actual}, not {sha256}")
    return file


def check_winget(identifier):
    yaml = YAML(typ="safe", pure=True)
    manifests = {}
    for kind, schema in WINGET.items():
        path = FOLDER / f"{identifier}{kind}.yaml"
        manifest = yaml.load(path.read_text())
        if isinstance(manifest.get("ReleaseDate"), date):
            manifest["ReleaseDate"] = manifest["ReleaseDate"].isoformat()
        valid(manifest, schema, path.name)
        check(manifest["PackageIdentifier"] == identifier, f"{path.name} is about {manifest['PackageIdentifier']}")
        manifests[kind] = manifest
    version = manifests[""]["PackageVersion"]
    check(all(manifest["PackageVersion"] == version for manifest in manifests.values()), "winget: several versions")
    check(manifests[""]["DefaultLocale"] == manifests[".locale.en-US"]["PackageLocale"], "winget: another locale")
    installers = {installer["Architecture"]: installer for installer in manifests[".installer"]["Installers"]}
    check(set(installers) == {"x64", "arm64"}, f"winget installs on {set(installers)}")
    for architecture, installer in installers.items():
        file = named(installer["InstallerUrl"], installer["InstallerSha256"], version)
        check(architecture in file.name, f"{file.name} for {architecture}")
        check(file.suffix == f".{installer['InstallerType']}", f"{file.name} is no {installer['InstallerType']}")
        if file.suffix == ".zip":
            inside = zipfile.ZipFile(file).namelist()
            nested = {one["PortableCommandAlias"]: one["RelativeFilePath"] for one in installer["NestedInstallerFiles"]}
            check(sorted(nested) == sorted(manifests[".installer"]["Commands"]), f"{file.name}: commands {sorted(nested)}")
            for path in nested.values():
                check(path.replace("\\", "/") in inside, f"{path} is not in {file.name}")
        else:
            codes = [installer["ProductCode"], installer["AppsAndFeaturesEntries"][0]["ProductCode"]]
            check(codes[0] == codes[1], f"two product codes: {codes}")
            print(codes[0], installer["AppsAndFeaturesEntries"][0]["UpgradeCode"], manifests[".locale.en-US"]["Publisher"])
    return version


def check_scoop(version):
    manifest = json.loads((FOLDER / "mcp-bridge.json").read_text())
    valid(manifest, SCOOP, "mcp-bridge.json")
    check(manifest["version"] == version, f"Scoop has the version {manifest['version']}")
    updates = manifest["autoupdate"]["architecture"]
    check(set(manifest["architecture"]) == set(updates) == {"64bit", "arm64"}, "Scoop: other architectures")
    for architecture, one in manifest["architecture"].items():
        file = named(one["url"], one["hash"], version)
        inside = zipfile.ZipFile(file).namelist()
        for program in manifest["bin"]:
            check(f"{one['extract_dir']}/{program}" in inside, f"{program} is not in {file.name}")
        # What Scoop makes of the next version, tried with this one.
        for key, template in updates[architecture].items():
            check(template.replace("$version", version) == one[key], f"autoupdate makes {template} of {one[key]}")
    check(manifest["autoupdate"]["hash"] == {"url": "$baseurl/SHA256SUMS"}, "autoupdate has another list of checksums")


def check_server(version):
    server = json.loads((FOLDER / "server.json").read_text())
    valid(server, server_schema(server["$schema"]), "server.json")
    check(server["version"] == version, f"server.json has the version {server['version']}")
    owner = re.fullmatch(r"https://github\.com/([^/]+)/mcp-bridge", server["repository"]["url"])[1]
    check(server["name"] == f"io.github.{owner}/mcp-calculator", f"server.json is about {server['name']}")
    kinds = [package["registryType"] for package in server["packages"]]
    check(kinds == ["npm", "pypi"] + 5 * ["mcpb"], f"server.json has {kinds}")
    bundles = {named(package["identifier"], package["fileSha256"], version).name for package in server["packages"][2:]}
    check(len(bundles) == 5, f"server.json names {bundles}")
    # What the registry looks for in the packages, to see whose they are.
    npm, pypi = server["packages"][:2]
    with tarfile.open(FOLDER / f"{npm['identifier']}-{npm['version']}.tgz") as package:
        manifest = json.load(package.extractfile("package/package.json"))
    check(manifest.get("mcpName") == server["name"], f"npm's package belongs to {manifest.get('mcpName')}")
    wheels = list(FOLDER.glob(f"{pypi['identifier'].replace('-', '_')}-{pypi['version']}-*.whl"))
    check(len(wheels) == 1, f"not one wheel, but {wheels}")
    wheel = zipfile.ZipFile(wheels[0])
    metadata = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    names = re.findall(r"mcp-name: ([^\s<]+)(?=\s|<)", wheel.read(metadata).decode())
    check(names == [server["name"]], f"PyPI's package belongs to {names}")


identifier = next(path.name.removesuffix(".installer.yaml") for path in FOLDER.glob("*.installer.yaml"))
version = check_winget(identifier)
check_scoop(version)
check_server(version)
