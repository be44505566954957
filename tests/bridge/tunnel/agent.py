#!/usr/bin/env python3
"""Stands in for the agents of tunnels: cloudflared or ngrok, as it is called.

It speaks what the bridge listens to, and proxies: its edge listens on a port of this machine and
passes requests on with the headers that the real edges add. The folder TUNNEL_TEST (or NGROK_TEST)
says how: `hosts` has a public host name per start, `mode` how it goes wrong. Each start leaves a
line of JSON in `starts`.
"""

import json
import os
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

NAME = os.path.basename(sys.argv[0])
ARGUMENTS = sys.argv[1:]
FOLDER = os.environ["TUNNEL_TEST" if NAME == "cloudflared" else "NGROK_TEST"]


def text(name):
    try:
        with open(os.path.join(FOLDER, name)) as file:
            return file.read()
    except FileNotFoundError:
        return ""


def flag(name):
    return ARGUMENTS[ARGUMENTS.index(name) + 1] if name in ARGUMENTS else None


def page(address, answers):
    """Serves JSON: the agent's own page."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            answer = answers.get(self.path)
            body = json.dumps(answer).encode()
            self.send_response(404 if answer is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(address, Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return "%s:%d" % server.server_address[:2]


def pipe(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def edge(target):
    """Listens where clients of the public URL would arrive."""
    listener = socket.create_server(("127.0.0.1", 0))
    added = b"X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n"
    if NAME == "cloudflared":
        added += b'CF-Connecting-IP: 203.0.113.7\r\nCF-Visitor: {"scheme":"https"}\r\n'

    def connection(client):
        head = b""
        while b"\r\n\r\n" not in head:
            data = client.recv(65536)
            if not data:
                return
            head += data
        line, rest = head.split(b"\r\n", 1)
        server = socket.create_connection((target.hostname, target.port))
        server.sendall(line + b"\r\n" + added + rest)
        threading.Thread(target=pipe, args=(client, server), daemon=True).start()
        pipe(server, client)

    def accept():
        while True:
            client, _ = listener.accept()
            threading.Thread(target=connection, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def say(**event):
    print(json.dumps(event), flush=True)


def main():
    mode = text("mode")
    starts = text("starts").splitlines()
    hosts = text("hosts").split()
    host = hosts[min(len(starts), len(hosts) - 1)] if hosts else ""
    target = urlsplit(flag("--url") if NAME == "cloudflared" else ARGUMENTS[-1])
    port = edge(target) if target.port else None
    token = os.environ.get("NGROK_AUTHTOKEN") or os.environ.get("TUNNEL_TOKEN")
    with open(os.path.join(FOLDER, "starts"), "a") as file:
        print(json.dumps({"id": os.getpid(), "arguments": ARGUMENTS, "edge": port, "token": token}), file=file)
    if mode == "silent":
        time.sleep(600)
    if NAME == "cloudflared":
        address, _, number = flag("--metrics").rpartition(":")
        print("INF Requesting new quick Tunnel on trycloudflare.com...", file=sys.stderr, flush=True)
        if mode == "refused":
            sys.exit("ERR failed to request quick Tunnel: 429 Too Many Requests")
        answers = {"/ready": {"status": 200, "readyConnections": 1, "connectorId": "c"}, "/quicktunnel": {"hostname": host}}
        page((address, int(number)), answers)
    else:
        if mode == "refused":
            error = "authentication failed: Usage of ngrok requires a verified account and authtoken.\n\nERR_NGROK_4018\n"
            say(lvl="eror", msg="failed to reconnect session", obj="csess", err=error)
            sys.exit(1)
        other = {"public_url": "https://other.ngrok.app", "proto": "https", "config": {"addr": "http://localhost:1"}}
        tunnel = {"public_url": "https://" + host, "proto": "https", "config": {"addr": target.geturl()}}
        api = page(("127.0.0.1", 0), {"/api/tunnels": {"tunnels": [other, tunnel], "uri": "/api/tunnels"}})
        say(lvl="info", msg="starting web service", obj="web", addr=api, allow_hosts=[])
        say(lvl="info", msg="started tunnel", obj="tunnels", name="command_line", addr=target.geturl(), url="https://" + host)
    time.sleep(600)


main()
