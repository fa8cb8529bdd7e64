"""Stands between a client and a server, and kills the server at exactly the request that a test names."""

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.services.servers import Server

When = Callable[[str, str], bool]
HOP = ("connection", "keep-alive", "transfer-encoding", "content-length", "host", "date", "server")


class Proxy:
    """Forwards every request until `when(method, path)` is true: then the server dies, and nobody listens any more."""

    def __init__(self, server: Server, when: When) -> None:
        self.killed_at = ""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def forward(self) -> None:
                if not proxy.killed_at and when(self.command, self.path):
                    proxy.killed_at = f"{self.command} {self.path}"
                    server.kill()
                    proxy._listener.shutdown()
                    proxy._listener.server_close()
                if proxy.killed_at:
                    self.connection.close()
                    return
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
                target = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
                target.request(self.command, self.path, body, headers)
                answer = target.getresponse()
                content = answer.read()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in HOP:
                        self.send_header(name, value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward

            def log_message(self, *_: object) -> None:
                pass

        self._listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._listener.handle_error = lambda *_: None  # a client that was cut off
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True)

    @property
    def uri(self) -> str:
        """What clients call it."""
        return f"http://127.0.0.1:{self._listener.server_port}"

    def __enter__(self) -> "Proxy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self.killed_at:
            self._listener.shutdown()
            self._listener.server_close()
