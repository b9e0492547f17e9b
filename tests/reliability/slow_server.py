"""A model server of known speed that speaks OpenAI's protocol; to be slowed, stopped and killed.

python -m tests.reliability.slow_server PORT SECONDS_A_WORD
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = 600


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self._begin("application/json")
        self.wfile.write(json.dumps({"data": [{"id": "slow/model", "max_model_len": 4096}]}).encode())

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self._begin("text/event-stream")
        for position in range(WORDS):
            time.sleep(self.server.seconds)
            self._event({"content": f"word{position} "}, None)
        self._event({}, "stop")
        self.wfile.write(b"data: [DONE]\n\n")

    def _begin(self, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()

    def _event(self, delta, reason):
        event = {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        self.wfile.flush()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """Readers go away; that is the point."""


if __name__ == "__main__":
    with Server(("127.0.0.1", int(sys.argv[1])), Handler) as server:
        server.seconds = float(sys.argv[2])
        server.serve_forever()
