"""A shop that starts a thread when it is imported, which holds a lock while gunicorn forks its workers."""

import threading
import time

log = threading.Lock()


def send_metrics():
    with log:
        time.sleep(3600)


threading.Thread(target=send_metrics, name="metrics", daemon=True).start()
time.sleep(0.2)


def application(environ, start_response):
    with log:
        start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok\n"]
