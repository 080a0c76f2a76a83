"""The page with Flowise's widget, and a session token for each of its users. Standard library only."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import Request, urlopen

HOST, FLOW, KEY = os.environ["CHAT_HOST"], os.environ["CHAT_FLOW"], os.environ["CHAT_KEY"]


class Site(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/":
            self.answer("text/html", Path(__file__).with_name("index.html").read_bytes())
        elif self.path == "/chat":
            user = "ann"  # whom your own login has found; only that may decide, never the request
            settings = {"apiHost": f"{HOST}/t/{token_of(user)}", "chatflowid": FLOW}
            self.answer("application/json", json.dumps(settings).encode())
        else:
            self.send_error(404)

    def answer(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)


def token_of(user):
    wanted = json.dumps({"caller": user, "routes": [FLOW], "ttl": "15m"}).encode()
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    with urlopen(Request(f"{HOST}/gateway/v1/session-tokens", wanted, headers)) as answer:
        return json.load(answer)["token"]


ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8000"))), Site).serve_forever()
