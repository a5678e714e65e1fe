"""Signals that wait until a database is left whole."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from kdsweep.system.signals import uninterrupted

HANGS = """
import os, signal, sys, time
from kdsweep.system.signals import uninterrupted
signal.signal(signal.SIGTERM, signal.default_int_handler)
with uninterrupted():
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    sys.exit("the second one waited")
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2])
def test_a_signal_waits_and_is_not_lost(sign):
    before, written = signal.signal(sign, signal.default_int_handler), []
    try:
        with pytest.raises(KeyboardInterrupt), uninterrupted():
            os.kill(os.getpid(), sign)
            written.append("whole")
        assert signal.getsignal(sign) is signal.default_int_handler
    finally:
        signal.signal(sign, before)
    assert written == ["whole"]


def test_it_is_not_lost_where_the_write_fails_or_another_is_around_it():
    with pytest.raises(KeyboardInterrupt), uninterrupted(), uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        raise OSError
    with pytest.raises(OSError), uninterrupted():
        raise OSError


def test_a_second_one_does_not_wait():
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True)
    assert "KeyboardInterrupt" in done.stderr and "waited" not in done.stderr


def test_what_nobody_handles_stays_so_and_other_threads_are_left_alone():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with uninterrupted():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    calls = []

    def work() -> None:
        with uninterrupted():
            calls.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert calls == [1]
