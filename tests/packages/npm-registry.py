"""A registry with the packages of a folder, for npm: prints its URL, and then the path of every request.

npm-registry.py FOLDER
"""

import base64
import hashlib
import json
import sys
import tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

tarballs = {path.name: path for path in Path(sys.argv[1]).glob("*.tgz")}
versions = {}
for path in tarballs.values():
    with tarfile.open(path) as archive:
        manifest = json.load(archive.extractfile("package/package.json"))
    versions.setdefault(manifest["name"], []).append((manifest, path))


class Registry(BaseHTTPRequestHandler):
    def do_GET(self):
        print(self.path, flush=True)
        name = unquote(self.path.partition("?")[0]).removeprefix("/")
        if name.startswith("tarballs/") and name.removeprefix("tarballs/") in tarballs:
            self.answer(200, tarballs[name.removeprefix("tarballs/")].read_bytes())
        elif name in versions:
            self.answer(200, json.dumps(self.packument(name)).encode())
        else:
            self.answer(404, b"{}")

    def packument(self, name):
        found = {}
        for manifest, path in versions[name]:
            integrity = "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
            tarball = f"http://{self.headers['host']}/tarballs/{path.name}"
            found[manifest["version"]] = {**manifest, "dist": {"tarball": tarball, "integrity": integrity}}
        return {"name": name, "dist-tags": {"latest": max(found)}, "versions": found}

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
print(f"http://127.0.0.1:{server.server_port}/", flush=True)
server.serve_forever()
