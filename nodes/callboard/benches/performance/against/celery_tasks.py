"""The same `echo` on Celery, set up to lose nothing: late acknowledgements, confirmed and persistent messages, results
in Redis.

    python celery_tasks.py TASKS    submits them from four threads, and prints how long until the last result is there
"""

import json
import os
import sys
import threading
import time

import redis
from celery import Celery

app = Celery("bench", broker=os.environ["BENCH_BROKER"], backend=os.environ["BENCH_BACKEND"])
app.conf.update(
    broker_transport_options={"confirm_publish": True},
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_send_sent_event=False,
    worker_send_task_events=False,
)

CONNECTIONS = 4
TEXT = "x" * 245


@app.task(name="echo")
def echo(text):
    return text


def main():
    count = int(sys.argv[1])
    # Only when a task has come back is there a worker.
    echo.delay(TEXT).get(timeout=60)
    results = redis.Redis.from_url(os.environ["BENCH_BACKEND"])
    results.flushdb()

    def submit(part):
        for _ in range(part):
            echo.delay(TEXT)

    began = time.monotonic()
    threads = [threading.Thread(target=submit, args=(count // CONNECTIONS,)) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while results.dbsize() < count // CONNECTIONS * CONNECTIONS:
        time.sleep(0.05)
    print(json.dumps({"tasks": count // CONNECTIONS * CONNECTIONS, "seconds": time.monotonic() - began}))


if __name__ == "__main__":
    main()
