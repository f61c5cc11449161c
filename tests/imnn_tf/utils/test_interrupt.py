"""Ctrl-C that ends work where nothing is lost."""

import os
import signal
import threading

import pytest

from imnn_tf.utils.interrupt import deferred_interrupt


def test_the_first_interrupt_waits_and_the_second_does_not():
    before = signal.getsignal(signal.SIGINT)
    with deferred_interrupt() as requested:
        assert not requested.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        assert requested.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_block_inside_another_stops_together_with_it():
    with deferred_interrupt() as outer:
        with deferred_interrupt() as inner:
            os.kill(os.getpid(), signal.SIGINT)
            assert inner.is_set()
            assert outer.is_set()
        with deferred_interrupt() as later:
            assert later.is_set()


def test_other_threads_are_left_alone():
    seen = []

    def work():
        with deferred_interrupt() as requested:
            seen.append(requested.is_set())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
