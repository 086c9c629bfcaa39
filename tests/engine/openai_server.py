"""A small OpenAI-compatible server for tests. Prints its port and serves until it is killed.

`POST /control` sets how it behaves and forgets what was received; `GET /control` tells what was.

reply: the text, sent word by word     fail: status codes of the next requests
hang: seconds before answering         delay: seconds before each word
usage: whether usage is sent           refuse: argument names answered with 400
break_after: words before it hangs up
"""

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DEFAULTS = {
    "reply": "All is well.",
    "fail": [],
    "hang": 0.0,
    "usage": True,
    "refuse": [],
    "break_after": None,
    "delay": 0.0,
}


class State:
    def __init__(self):
        self.lock = threading.Lock()
        self.settings = dict(DEFAULTS)
        self.received = []
        self.running = set()
        self.most_running = 0

    def reset(self, settings):
        with self.lock:
            self.settings = {**DEFAULTS, **settings}
            self.received = []
            self.running = set()
            self.most_running = 0

    def begin(self, request):
        with self.lock:
            self.received.append(request)
            self.running.add(id(request))
            self.most_running = max(self.most_running, len(self.running))
            fail = self.settings["fail"]
            return self.settings, fail.pop(0) if fail else 200

    def end(self, request):
        with self.lock:
            self.running.discard(id(request))


class Handler(BaseHTTPRequestHandler):
    state = State()

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.answer(200, {"requests": self.state.received, "most_running": self.state.most_running})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/control":
            self.state.reset(body)
            self.answer(200, {})
            return
        self.request_now = {"body": body, "key": self.headers["Authorization"]}
        settings, status = self.state.begin(self.request_now)
        try:
            self.complete(body, settings, status)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            self.state.end(self.request_now)

    def complete(self, body, settings, status):
        time.sleep(settings["hang"])
        refused = [name for name in settings["refuse"] if name in body]
        if refused:
            self.answer(400, {"error": {"message": f"Unrecognized request argument: {refused[0]}"}})
        elif status != 200:
            said = f"status {status} for {self.headers['Authorization']}"
            self.answer(status, {"error": {"message": said}}, {"Retry-After": "0.05"})
        else:
            self.stream(body, settings)

    def stream(self, body, settings):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        text, reason = settings["reply"], "stop"
        for stop in body.get("stop") or []:
            text = text.split(stop)[0]
        words = re.findall(r"\s*\S+|\s+$", text)
        limit = body.get("max_tokens") or body.get("max_completion_tokens")
        if len(words) > limit:
            words, reason = words[:limit], "length"
        for index, word in enumerate(words):
            if index == settings["break_after"]:
                self.send({"error": {"message": "the server broke off", "code": 500}})
                return
            time.sleep(settings["delay"])
            self.send({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
        self.send({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        if settings["usage"] and "stream_options" in body:
            counts = {"prompt_tokens": 11, "completion_tokens": len(words), "total_tokens": 11 + len(words)}
            details = {"prompt_tokens_details": {"cached_tokens": 5}}
            self.send({"choices": [], "usage": {**counts, **details}})
        self.state.end(self.request_now)  # before the client can know, and ask for more
        self.wfile.write(b"data: [DONE]\n\n")

    def send(self, data):
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "test", **data}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()

    def answer(self, status, data, headers=None):
        body = json.dumps(data).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    print(httpd.server_address[1], flush=True)  # noqa: T201
    httpd.serve_forever()
