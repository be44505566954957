"""Stands in for cloudflared or ngrok: the same flags, log lines, answers and refusals, and a proxy on
127.0.0.1 in the place of their service's edge.

    agent.py cloudflared|ngrok FOLDER ARGUMENT…

FOLDER has `plan.json`, an array with what each run does; the last entry is for all later ones:

    url      the URL of the tunnel
    refuse   says so, and ends
    silent   never has a tunnel
    hold     waits until this file is there before it has a tunnel
    move     [FILE, URL]: has another URL as soon as the file is there

Each run adds a line to `runs.jsonl` there: its process, arguments and environment, and where its edge is.
"""

import argparse
import http.server
import json
import os
import pathlib
import socket
import sys
import threading
import time
import urllib.parse

LIFETIME = 120


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def say(text):
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def wait_for(file):
    deadline = time.monotonic() + LIFETIME
    while not os.path.exists(file):
        if time.monotonic() > deadline:
            sys.exit(3)
        time.sleep(0.01)


class Edge:
    """What the service does with each request: adds its headers, and passes everything on."""

    def __init__(self, target, headers):
        self.target, self.headers = target, headers
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.proxy, args=(client,), daemon=True).start()

    def proxy(self, client):
        head = b""
        while b"\r\n\r\n" not in head:
            piece = client.recv(65536)
            if not piece:
                return
            head += piece
        start, rest = head.split(b"\r\n", 1)
        added = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        try:
            origin = socket.create_connection(self.target)
        except OSError:
            client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            client.close()
            return
        origin.sendall(start + b"\r\n" + added.encode() + rest)
        threading.Thread(target=self.pump, args=(client, origin), daemon=True).start()
        self.pump(origin, client)

    @staticmethod
    def pump(source, sink):
        try:
            while piece := source.recv(65536):
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def target_of(text):
    url = urllib.parse.urlsplit(text)
    assert url.scheme == "http", text
    return url.hostname, url.port


def note(folder, **run):
    line = json.dumps({"pid": os.getpid(), "arguments": sys.argv[3:], "environment": dict(os.environ), **run})
    with open(folder / "runs.jsonl", "a", encoding="utf-8") as runs:
        runs.write(line + "\n")


def ngrok(folder, plan, arguments):
    parser = argparse.ArgumentParser(prog="ngrok", allow_abbrev=False)
    parser.add_argument("protocol", choices=["http"])
    parser.add_argument("address")
    parser.add_argument("--log", default="false")
    parser.add_argument("--log-format", default="term")
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--inspect", default="true")
    parser.add_argument("--url")
    options = parser.parse_args(arguments)
    assert (options.log, options.log_format, options.log_level) == ("stderr", "json", "info"), options
    assert options.inspect == "false", "everybody on this machine could read the requests"

    def log(lvl, msg, **fields):
        say(json.dumps({"lvl": lvl, "msg": msg, "t": now(), **fields}, sort_keys=True, separators=(",", ":")))

    forwarded = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}
    edge = Edge(target_of(options.address), forwarded)
    note(folder, target=edge.target[1], edge=edge.port)
    log("info", "open config file", path="/root/.config/ngrok/ngrok.yml", err=None)
    if code := plan.get("refuse"):
        token = os.environ.get("NGROK_AUTHTOKEN", "1aKnownToNobodyButItsFile")
        words = {
            "ERR_NGROK_4018": [
                "authentication failed: Usage of ngrok requires a verified account and authtoken.",
                "",
                "Sign up for an account: https://dashboard.ngrok.com/signup",
                "Install your authtoken: https://dashboard.ngrok.com/get-started/your-authtoken",
            ],
            "ERR_NGROK_105": [
                "authentication failed: The authtoken you specified does not look like a proper ngrok authtoken.",
                f"Your authtoken: {token}",
                "Instructions to install your authtoken are on your ngrok dashboard:",
                "https://dashboard.ngrok.com/get-started/your-authtoken",
            ],
            "ERR_NGROK_8012": ["failed to dial ngrok server with address \"connect.ngrok-agent.com:443\""],
        }[code] + ["", code]
        log("eror", "session closing", obj="tunnels.session", err="\r\n".join(words) + "\r\n")
        for line in words + [f"https://ngrok.com/docs/errors/{code.lower()}", ""]:
            say(f"ERROR:  {line}".rstrip())
        sys.exit(1)
    log("info", "starting web service", obj="web", addr="127.0.0.1:4040", allow_hosts=[])
    log("info", "client session established", obj="tunnels.session")

    def start(url):
        log("info", "started tunnel", obj="tunnels", name="command_line", addr=options.address, url=url)

    if plan.get("silent"):
        return
    if "hold" in plan:
        wait_for(plan["hold"])
    start(plan["url"])
    if "move" in plan:
        file, url = plan["move"]
        wait_for(file)
        start(url)


def cloudflared(folder, plan, arguments):
    parser = argparse.ArgumentParser(prog="cloudflared", allow_abbrev=False)
    parser.add_argument("command", choices=["tunnel"])
    parser.add_argument("--config", default="~/.cloudflared/config.yml")
    parser.add_argument("--no-autoupdate", action="store_true")
    parser.add_argument("--loglevel", default="info")
    parser.add_argument("--metrics", default="127.0.0.1:20241")
    parser.add_argument("--url")
    is_quick = "run" not in arguments
    if not is_quick:
        # Its own flags are behind it, and those of `tunnel` before.
        at = arguments.index("run")
        assert "--url" in arguments[at:] and "--metrics" in arguments[:at], arguments
        arguments = arguments[:at] + arguments[at + 1 :]
    options = parser.parse_args(arguments)
    assert options.no_autoupdate and options.loglevel == "info", options
    # A file for named tunnels would lead a quick one to what it names.
    assert (options.config == os.devnull) == is_quick, options

    def log(level, text):
        say(f"{now()} {level} {text}")

    forwarded = {
        "CF-Connecting-IP": "203.0.113.7",
        "CF-Visitor": '{"scheme":"https"}',
        "X-Forwarded-For": "203.0.113.7",
        "X-Forwarded-Proto": "https",
    }
    edge = Edge(target_of(options.url), forwarded)
    note(folder, target=edge.target[1], edge=edge.port)
    if is_quick:
        log("ERR", f"Configuration file {options.config} was empty")
        log("INF", "Thank you for trying Cloudflare Tunnel. Doing so, without a Cloudflare account, is a quick way to …")
        log("INF", "Requesting new quick Tunnel on trycloudflare.com...")
        if plan.get("refuse"):
            say('failed to request quick Tunnel: Post "https://api.trycloudflare.com/tunnel": dial tcp: lookup '
                "api.trycloudflare.com: no such host")
            sys.exit(1)
    elif "TUNNEL_TOKEN" not in os.environ:
        say('"cloudflared tunnel run" requires the ID or name of the tunnel to run as the last command line argument '
            "or in the configuration file.")
        say("See 'cloudflared tunnel run --help'.")
        sys.exit(255)
    if "hold" in plan:
        wait_for(plan["hold"])
    questions = []

    class Metrics(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            questions.append(self.path)
            hostname = urllib.parse.urlsplit(plan["url"]).netloc if is_quick else ""
            # It answers before it is connected.
            connected = len(questions) > 3 and not plan.get("silent")
            status, answer = {
                "/quicktunnel": (200, {"hostname": hostname}),
                "/ready": (200 if connected else 503, {"status": 200, "readyConnections": int(connected)}),
            }.get(self.path, (404, {}))
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    host, port = options.metrics.rsplit(":", 1)
    metrics = http.server.ThreadingHTTPServer((host, int(port)), Metrics)
    if is_quick:
        log("INF", f"|  {plan['url']}  |")
    log("INF", f"Starting metrics server on {host}:{metrics.server_address[1]}/metrics")
    threading.Thread(target=metrics.serve_forever, daemon=True).start()


def main():
    name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    plan = json.loads((folder / "plan.json").read_text())
    try:
        runs = len((folder / "runs.jsonl").read_text().splitlines())
    except FileNotFoundError:
        runs = 0
    {"ngrok": ngrok, "cloudflared": cloudflared}[name](folder, plan[min(runs, len(plan) - 1)], sys.argv[3:])
    # Whoever has forgotten it is not kept waiting for ever.
    time.sleep(LIFETIME)


main()
