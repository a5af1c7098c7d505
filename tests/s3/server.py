"""An S3 server on this machine (moto's, over HTTP) that fails now and then; run as a script.

Argument 1: the port. Argument 2: faults as JSON, what happens to each n-th request for an object:
{"before": 7} answers 500 without doing it, {"after": 11} does it and answers 500, {"slow": 13} answers after
more time than a client waits, {"taken": 17} answers a conditional write with 412 without doing it.
"""

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
SLOW_S = 4.0


class Faulty:
    """A WSGI application that fails as it is told; `/faults` says how often it did."""

    def __init__(self, application: Callable[..., Iterable[bytes]], faults: dict[str, int]) -> None:
        self._application = application
        self._faults = faults
        self._counts = {kind: itertools.count(1) for kind in faults}
        self._num_done = dict.fromkeys(faults, 0)
        self._is_read_only = False  # from a request for `/read-only` on

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path == "/faults":
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(self._num_done).encode()]
        if path == "/read-only":
            self._is_read_only = True
            start_response("200 OK", [])
            return []
        if path.count("/") < 2 or method not in ("GET", "PUT", "DELETE"):
            return self._application(environ, start_response)
        if self._is_read_only and method != "GET":
            return self._refuse(environ, start_response, "403 Forbidden", "AccessDenied")
        is_conditional = "HTTP_IF_NONE_MATCH" in environ
        if is_conditional and self._is_time("taken"):
            return self._refuse(environ, start_response, "412 Precondition Failed", "PreconditionFailed")
        if self._is_time("before"):
            return self._refuse(environ, start_response, "500 Internal Server Error", "InternalError")
        if self._is_time("after"):
            list(self._application(environ, lambda *_: None))
            return self._fail(start_response, "500 Internal Server Error", "InternalError")
        if self._is_time("slow"):
            time.sleep(SLOW_S)
        return self._application(environ, start_response)

    def _is_time(self, kind: str) -> bool:
        if kind not in self._faults or next(self._counts[kind]) % self._faults[kind]:
            return False
        self._num_done[kind] += 1
        return True

    def _refuse(
        self, environ: Environ, start_response: StartResponse, status: str, code: str
    ) -> Iterable[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        return self._fail(start_response, status, code)

    @staticmethod
    def _fail(start_response: StartResponse, status: str, code: str) -> Iterable[bytes]:
        start_response(status, [("Content-Type", "application/xml")])
        return [f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()]


def main() -> None:
    port, faults = int(sys.argv[1]), json.loads(sys.argv[2])
    application = Faulty(DomainDispatcherApplication(create_backend_app), faults)
    make_server("127.0.0.1", port, application, threaded=True).serve_forever()


if __name__ == "__main__":
    main()
