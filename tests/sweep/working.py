"""What workers do in tests; it imports little, because every process imports it anew."""

import os
import signal
from multiprocessing.connection import wait

from kd.base.types import UserError


def answer(pipe, *_):
    """Answer each word with the number of the process, its share of the threads, and the word; end as is wanted."""
    while True:
        word = pipe.recv()
        if word == "mistake":
            raise UserError("no such thing")
        if word == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        pipe.send((os.getpid(), os.environ["OMP_NUM_THREADS"], word))


def idle(pipe):
    """Do nothing until all is done."""
    while not pipe.poll(60):
        pass


def asked(worker, word="who"):
    """Return what a worker answers."""
    worker.pipe.send(word)
    assert wait([worker.pipe], 120)
    return worker.pipe.recv()
