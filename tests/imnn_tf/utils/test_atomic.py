"""Files that are written by several threads and processes, and by processes that are killed."""

import errno
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from imnn_tf.running.store import Store
from imnn_tf.utils import TFRecords
from imnn_tf.utils.atomic import locked, write_atomically


def test_threads_write_the_same_file(tmp_path):
    path, both = tmp_path / "x.txt", threading.Barrier(4)

    def write(number):
        def slowly(aside):
            both.wait()
            aside.write_text(str(number) * 1000)
            both.wait()
            assert aside.read_text() == str(number) * 1000

        write_atomically(path, slowly)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert len(set(path.read_text())) == 1
    assert list(tmp_path.iterdir()) == [path]


KILLED = """
import os, signal, sys
from pathlib import Path
from imnn_tf.utils.atomic import write_atomically

def write(aside):
    aside.write_text("half")
    print("writing", flush=True)
    if "kill" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()

write_atomically(Path(sys.argv[1]), write)
"""


def test_a_killed_writer_leaves_nothing_that_a_pattern_matches_or_that_stays(tmp_path):
    path = tmp_path / "x.npz"
    command = [sys.executable, "-c", KILLED, str(path)]
    subprocess.run([*command, "kill"], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.glob("*.npz")) == []
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "writing\n"
    write_atomically(path, lambda aside: aside.write_text("whole"))
    assert path.read_text() == "whole"
    assert len(list(tmp_path.iterdir())) == 2  # that of the process that still writes
    other.communicate("")
    assert path.read_text() == "half"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_and_a_missing_folder_are_named(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fail(aside):
        aside.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: .*/x\.txt"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    with pytest.raises(FileNotFoundError, match="/none"):
        write_atomically(tmp_path / "none" / "x.txt", fail)

    def vanish(aside):
        aside.unlink(missing_ok=True)
        aside.parent.rmdir()

    with pytest.raises(FileNotFoundError, match=r"/x\.txt"):
        write_atomically(path, vanish)


def test_a_folder_is_held_by_one_writer_or_several_readers(tmp_path):
    order = []

    def write():
        with locked(tmp_path):
            order.append("write")

    with locked(tmp_path, shared=True), locked(tmp_path, shared=True):
        writer = threading.Thread(target=write)
        writer.start()
        writer.join(0.2)
        order.append("read")
    writer.join()
    assert order == ["read", "write"]


def test_whoever_goes_on_deletes_what_a_killed_writer_left(tmp_path):
    """After a kill at the very end nothing is left to write."""
    left = tmp_path / "store" / ".writing-killed"
    left.mkdir(parents=True)
    Store(left.parent, {}).close()
    assert not left.exists()

    writer = TFRecords(verbose=False)
    writer.write_record(3, lambda seed: np.full(2, seed), directory=tmp_path)
    places = [tmp_path / ".writing-killed", tmp_path / ".manifest" / ".writing-killed"]
    for place in places:
        place.mkdir()
    writer.write_record(3, lambda seed: np.full(2, seed), directory=tmp_path)
    assert not any(place.exists() for place in places)
