"""Files that are written whole or not at all."""

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


def test_a_manifest_tells_whether_files_belong_together(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    checkpoint.write_manifest(tmp_path, ["a", "b"])
    checkpoint.verify(tmp_path, ["a", "b"])
    (tmp_path / "b").write_text("other")
    checkpoint.verify(tmp_path, ["a"])
    with pytest.raises(checkpoint.CorruptFileError, match="SHA-256 differs"):
        checkpoint.verify(tmp_path, ["a", "b"])
