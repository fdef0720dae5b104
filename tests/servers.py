"""Servers that several tests talk to on loopback: running one while a block lasts, and a proxy that spoils S3."""

import http.client
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def serving(server):
    """Answers in a thread of its own while the block lasts."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Proxy(ThreadingHTTPServer):
    """Between a client and a server of S3: what `spoil` makes of requests and answers is what goes on."""

    daemon_threads = True

    def __init__(self, upstream, spoil, port=0):
        super().__init__(("127.0.0.1", port), Relay)
        self.upstream, self.spoil, self.seen, self.stop = upstream, spoil, [], threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_):
        """A client that goes away is no error here."""


class Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def relay(self):
        headers = {name: value for name, value in self.headers.items() if name.lower() != "transfer-encoding"}
        body = self.read_body()
        self.server.seen.append((self.command, self.path, headers.get("Range")))
        spoilt = self.server.spoil(self, headers, body)
        if spoilt is None:
            return
        headers, body, cut = spoilt
        headers["Content-Length"] = str(len(body))
        upstream = http.client.HTTPConnection(*self.server.upstream)
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
        self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.close_connection = True
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        upstream.close()

    def read_body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return body

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = relay  # noqa: N815

    def log_message(self, *_):
        pass
