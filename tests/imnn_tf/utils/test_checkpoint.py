"""Files that are written whole or not at all."""

import contextlib
import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from imnn_tf.utils import checkpoint


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    checkpoint.write_atomically(path, lambda aside: aside.write_text("old"))

    def fail(aside):
        aside.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        checkpoint.write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_arrays_come_back(tmp_path):
    arrays = {"a": np.arange(3), "μ": np.ones((2, 2), "float32"), "text": np.array("θ")}
    checkpoint.write_arrays(tmp_path / "x.npz", arrays)
    back = checkpoint.read_arrays(tmp_path / "x.npz")
    assert back.keys() == arrays.keys()
    for name, value in arrays.items():
        np.testing.assert_array_equal(back[name], value)


@pytest.mark.parametrize("damage", ["flipped bit", "cut", "empty", "pickle"])
def test_damage_is_found(tmp_path, damage):
    path = tmp_path / "x.npz"
    checkpoint.write_arrays(path, {"a": np.arange(100)})
    content = bytearray(path.read_bytes())
    if damage == "flipped bit":
        content[200] ^= 1
    elif damage == "cut":
        content = content[:-30]
    elif damage == "empty":
        content = bytearray()
    path.write_bytes(content)
    if damage == "pickle":
        np.savez(path, a=np.array([object()], dtype=object))
    with pytest.raises(checkpoint.CorruptFileError, match=r"x\.npz is damaged"):
        checkpoint.read_arrays(path)


def test_a_missing_file_is_no_damage(tmp_path):
    with pytest.raises(FileNotFoundError):
        checkpoint.read_arrays(tmp_path / "x.npz")


def test_the_previous_file_is_kept(tmp_path):
    path = tmp_path / "x.npz"
    for number in range(3):
        checkpoint.write_fit(path, {"a": number}, {}, keep_previous=True)
    assert checkpoint.read_fit(path).arrays["a"] == 2
    path.write_bytes(b"nonsense")
    assert checkpoint.read_fit(path).arrays["a"] == 1


def test_the_previous_file_is_kept_without_hard_links(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    path = tmp_path / "x.npz"
    for number in range(2):
        checkpoint.write_fit(path, {"a": number}, {}, keep_previous=True)
    path.write_bytes(b"nonsense")
    assert checkpoint.read_fit(path).arrays["a"] == 0


def write_text(text):
    return lambda aside: aside.write_text(text)


def test_a_manifest_tells_whether_files_belong_together(tmp_path):
    checkpoint.write_together(tmp_path, {name: write_text(name) for name in ("a", "b")})
    assert checkpoint.read_together(tmp_path, ["a", "b"]) == {"a": b"a", "b": b"b"}
    (tmp_path / "b").write_text("other")
    checkpoint.read_together(tmp_path, ["a"])
    with pytest.raises(checkpoint.CorruptFileError, match="SHA-256 differs"):
        checkpoint.read_together(tmp_path, ["a", "b"])


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b"{}", b'{"sha256": 3}', b"\xff"])
def test_a_damaged_manifest_is_named(tmp_path, damage):
    checkpoint.write_together(tmp_path, {"a": write_text("a")})
    (tmp_path / "manifest.json").write_bytes(damage)
    with pytest.raises(checkpoint.CorruptFileError, match=r"manifest\.json is damaged"):
        checkpoint.read_together(tmp_path, ["a"])


def test_files_that_belong_together_are_written_all_or_none(tmp_path, monkeypatch):
    """Whichever step of the writing is the last before a kill."""
    names = ("a", "b")
    for steps in range(9):
        folder = tmp_path / str(steps)
        checkpoint.write_together(folder, {name: write_text("old") for name in names})
        with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
            killed_after(steps, patched)
            checkpoint.write_together(folder, {name: write_text("new") for name in names})
        contents = checkpoint.read_together(folder, names)
        assert set(contents.values()) in ({b"old"}, {b"new"})
        assert steps or contents["a"] == b"old"
        checkpoint.write_together(folder, {name: write_text("newer") for name in names})
        assert checkpoint.read_together(folder, names) == {"a": b"newer", "b": b"newer"}
        assert sorted(path.name for path in folder.iterdir()) == ["a", "b", "manifest.json"]
    assert contents["a"] == b"new"


def killed_after(steps, patched):
    """Ends a writer at its renaming number `steps`."""
    count = itertools.count()
    real = os.replace

    def ending(path, target):
        if next(count) == steps:
            raise KeyboardInterrupt
        return real(path, target)

    for method in ("rename", "replace"):
        patched.setattr(Path, method, ending)


@pytest.mark.parametrize("digest", [True, False])
def test_no_damage_of_arrays_is_silent(tmp_path, digest):
    """Without a digest the files are those of version 0.3."""
    path = tmp_path / "x.npz"
    arrays = {"a": np.arange(10), "b": np.ones((2, 3), "float32"), "settings": np.array("{}")}
    if digest:
        checkpoint.write_arrays(path, arrays)
    else:
        np.savez(path, **arrays)
    content = path.read_bytes()
    damaged = [content[:at] for at in range(0, len(content), 7)]
    damaged += [
        content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :]
        for at in range(len(content))
    ]
    unnoticed = 0
    for each in damaged:
        path.write_bytes(each)
        try:
            back = checkpoint.read_arrays(path)
        except checkpoint.CorruptFileError:
            continue
        unnoticed += 1
        assert back.keys() == arrays.keys()
        for name, value in arrays.items():
            np.testing.assert_array_equal(back[name], value)
    assert not (digest and unnoticed)


def test_a_file_that_cannot_be_parsed_gives_way_to_the_previous_one(tmp_path):
    path = tmp_path / "x.npz"
    for number in range(2):
        checkpoint.write_fit(path, {"a": number}, {}, keep_previous=True)
    np.save(tmp_path / "x.npy", np.arange(3))
    (tmp_path / "x.npy").replace(path)
    assert checkpoint.read_fit(path).arrays["a"] == 0
    np.savez(path, settings=np.array("no JSON"))
    assert checkpoint.read_fit(path).arrays["a"] == 0


def test_no_damage_of_an_object_is_silent(tmp_path):
    path = tmp_path / "x.json"
    written = {"name": "θ", "shape": (4, 5), "digests": {"a": 1e-3}}
    checkpoint.write_json(path, written)
    plain = {"name": "θ", "shape": [4, 5], "digests": {"a": 1e-3}}
    assert checkpoint.read_json(path, ["shape"]) == plain
    content = path.read_bytes()
    for at in range(len(content) - 1):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with contextlib.suppress(checkpoint.CorruptFileError):
            back = checkpoint.read_json(path)
            assert {name: back[name] for name in plain} == plain
    path.write_bytes(content)
    with pytest.raises(
        checkpoint.CorruptFileError, match=r"x\.json is damaged: it must hold other"
    ):
        checkpoint.read_json(path, ["other"])
