"""An S3 endpoint that dies of SIGKILL in the middle of the next upload, once a file is there that says so.

`python -m benchmarks.chaos.relay PORT STORE_PORT FILE` hands on what it is sent to a store on this machine, which keeps
its objects when this process is killed: moto's server, which keeps them in memory, would forget them.
"""

from __future__ import annotations

import os
import signal
import socket
import socketserver
import sys
import threading
from contextlib import suppress
from pathlib import Path

MIDDLE = 100_000  # bytes of a request, beyond which it is an upload that has begun


class Line(socketserver.BaseRequestHandler):
    """One connection."""

    def handle(self) -> None:
        self.sent = 0  # since the last answer
        with suppress(OSError), socket.create_connection(("127.0.0.1", int(sys.argv[2]))) as store:
            threading.Thread(target=self._answer, args=(store,), daemon=True).start()
            while piece := self.request.recv(1 << 16):
                self.sent += len(piece)
                if self.sent > MIDDLE and Path(sys.argv[3]).exists():
                    os.kill(os.getpid(), signal.SIGKILL)
                store.sendall(piece)

    def _answer(self, store: socket.socket) -> None:
        with suppress(OSError):
            while piece := store.recv(1 << 16):
                self.sent = 0
                self.request.sendall(piece)
            self.request.shutdown(socket.SHUT_WR)


class Endpoint(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    Endpoint(("127.0.0.1", int(sys.argv[1])), Line).serve_forever()
