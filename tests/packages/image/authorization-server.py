"""An authorization server for tests/packages/parts/image, and the name service that knows it.

Answers at https://auth.example.test with the certificate and the key of the two arguments: metadata, and
introspection, where the token `good` is one for https://mcp.example.test/mcp. Listens in the network
namespace that it is started in, on loopback only.
"""

import json
import socketserver
import ssl
import sys
import threading
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

NAME = "auth.example.test"
ISSUER = f"https://{NAME}"
CREDENTIALS = "Basic " + b64encode(b"bridge:the-secret").decode()


class Names(socketserver.BaseRequestHandler):
    def handle(self):
        question, socket = self.request
        name, kind = self.parse(question[12:])
        found = name == NAME and kind == 1
        answer = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x7f\x00\x00\x01" if found else b""
        # An answer from who knows; a name that is not ours does not exist.
        flags = b"\x85\x80" if name == NAME else b"\x85\x83"
        end = 12 + len(name) + 2 + 4
        counts = b"\x00\x01" + (b"\x00\x01" if found else b"\x00\x00") + b"\x00\x00\x00\x00"
        socket.sendto(question[:2] + flags + counts + question[12:end] + answer, self.client_address)

    @staticmethod
    def parse(question):
        labels, at = [], 0
        while question[at]:
            labels.append(question[at + 1 : at + 1 + question[at]].decode())
            at += 1 + question[at]
        return ".".join(labels), int.from_bytes(question[at + 1 : at + 3], "big")


class Issuer(BaseHTTPRequestHandler):
    def do_GET(self):
        metadata = {"issuer": ISSUER, "introspection_endpoint": f"{ISSUER}/introspect"}
        self.answer(200 if self.path == "/.well-known/oauth-authorization-server" else 404, metadata)

    def do_POST(self):
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if self.headers["Authorization"] != CREDENTIALS:
            self.answer(401, {"error": "invalid_client"})
        elif form["token"] == ["good"]:
            resource = "https://mcp.example.test/mcp"
            self.answer(200, {"active": True, "sub": "alice", "client_id": "c", "aud": resource, "scope": "op:mult"})
        else:
            self.answer(200, {"active": False})

    def answer(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(certificate, key):
    names = socketserver.ThreadingUDPServer(("127.0.0.1", 53), Names)
    threading.Thread(target=names.serve_forever, daemon=True).start()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    issuer = ThreadingHTTPServer(("127.0.0.1", 443), Issuer)
    issuer.socket = context.wrap_socket(issuer.socket, server_side=True)
    print("serving", flush=True)
    issuer.serve_forever()


main(*sys.argv[1:])
