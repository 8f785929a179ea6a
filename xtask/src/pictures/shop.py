"""A small server as it should not be: it forks its workers while a thread writes to the log."""

import os
import signal
import socket
import threading
import time

log = threading.Lock()


def send_metrics():
    with log:
        time.sleep(3600)


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=send_metrics, name="metrics", daemon=True).start()
time.sleep(0.3)


def serve(request):
    if request > 0:
        with log:
            pass
    listener.accept()


workers = []
for number in range(4):
    worker = os.fork()
    if worker == 0:
        serve(number % 2)
    workers.append(worker)


def end(*_):
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    os._exit(0)


signal.signal(signal.SIGTERM, end)
while True:
    signal.pause()
