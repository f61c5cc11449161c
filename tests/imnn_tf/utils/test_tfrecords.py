"""The TFRecord format, its writer and its reader."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from imnn_tf.utils import TFRecords
from imnn_tf.utils.checkpoint import CorruptFileError
from imnn_tf.utils.tfrecords import read_records

SIMULATIONS = np.random.default_rng(0).normal(size=(12, 2, 3, 4, 5)).astype("float32")


def simulation(*label):
    return SIMULATIONS[label] if len(label) == 3 else SIMULATIONS[label[0], 0, 0]


def write(folder, n=12, fiducial=True, get=simulation, size=0.0005, **settings):
    part = settings.pop("part", (0, 1))
    writer = TFRecords(record_size=size, verbose=False, **settings)
    n_params = None if fiducial else 3
    return writer.write_record(n, get, fiducial, n_params, directory=folder, part=part)


def read(files, derivative=False, shape=None):
    records = read_records(files, derivative=derivative, input_shape=shape)
    return {record.label: record.data for record in records}


@pytest.mark.parametrize("compression", [None, "GZIP"])
@pytest.mark.parametrize("fiducial", [True, False])
def test_what_is_written_is_read(tmp_path, fiducial, compression):
    files = write(tmp_path / "new" / "folder", fiducial=fiducial, compression=compression)
    assert len(files) > 1
    back = read(files, derivative=not fiducial)
    assert len(back) == (12 if fiducial else 72)
    for label, data in back.items():
        np.testing.assert_array_equal(data, simulation(*label))


def test_records_are_those_of_the_predecessor(tmp_path):
    files = write(tmp_path, fiducial=False, size=1)
    assert [path.name for path in files] == ["derivative_00000.tfrecords"]
    records = list(tf.data.TFRecordDataset([str(path) for path in files]).as_numpy_iterator())
    # Seed, then side, then parameter.
    for at, record in enumerate(records):
        feature = tf.train.Example.FromString(record).features.feature
        label = tuple(
            feature[key].int64_list.value[0] for key in ("seed", "derivative", "parameter")
        )
        assert label == np.unravel_index(at, (12, 2, 3))
        assert feature["data"].bytes_list.value[0] == SIMULATIONS[label].tobytes()


def test_names_of_files(tmp_path):
    writer = TFRecords(record_size=1, padding=2, verbose=False)
    names = [
        writer.write_record(2, simulation, directory=tmp_path, **settings)[0].name
        for settings in ({}, {"validation": True}, {"filename": "mine", "validation": True})
    ]
    assert names == [
        "fiducial_00.tfrecords",
        "validation_fiducial_00.tfrecords",
        "mine_00.tfrecords",
    ]
    # A pattern such as fiducial* must match the records only.
    visible = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert visible == set(names)


def test_files_are_of_the_size_asked_for(tmp_path):
    files = write(tmp_path, size=0.0005)
    one = len(tf.io.read_file(str(write(tmp_path / "one", n=1)[0])).numpy())
    for path in files[:-1]:
        assert 500 <= path.stat().st_size < 500 + 2 * one


def test_a_manifest_says_what_is_in_a_file(tmp_path):
    files = write(tmp_path)
    about = json.loads((tmp_path / ".manifest" / f"{files[1].name}.json").read_text())
    assert about["shape"] == [4, 5]
    assert about["dtype"] == "float32"
    assert about["counts"] == [12]
    assert about["labels"][1] > about["labels"][0] > 0
    assert len(about["sha256"]) == 64


class Stopping:
    """A simulator that is interrupted after a number of calls."""

    def __init__(self, calls, add=0):
        self.calls, self.add = calls, add

    def __call__(self, seed):
        self.calls -= 1
        if self.calls < 0:
            raise KeyboardInterrupt
        return simulation(seed) + self.add


def test_an_interrupted_run_keeps_its_finished_files(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, get=Stopping(8))
    finished = sorted(tmp_path.glob("*.tfrecords"))
    assert 1 <= len(finished) < len(write(tmp_path / "whole"))
    written = {path: path.stat().st_mtime_ns for path in finished}
    files = write(tmp_path)
    assert len(read(files)) == 12
    for path, time in written.items():
        assert path.stat().st_mtime_ns == time


def test_other_simulations_replace_the_old(tmp_path):
    write(tmp_path)
    files = write(tmp_path, get=lambda seed: simulation(seed) + 1)
    np.testing.assert_array_equal(read(files)[3,], simulation(3) + 1)


def test_simulations_may_be_yielded_with_their_labels(tmp_path):
    def yielding(seed):
        yield simulation(seed), seed

    np.testing.assert_array_equal(read(write(tmp_path, get=yielding))[3,], simulation(3))


def test_a_damaged_file_is_written_again(tmp_path):
    files = write(tmp_path)
    files[0].write_bytes(b"damage")
    assert len(read(write(tmp_path))) == 12


def test_several_writers_share_the_files(tmp_path):
    with ThreadPoolExecutor(3) as pool:
        parts = list(pool.map(lambda index: write(tmp_path, part=(index, 3)), range(3)))
    files = [path for part in parts for path in part]
    assert len(set(files)) == len(files) == len(write(tmp_path / "whole"))
    assert len(read(files)) == 12


@pytest.mark.parametrize("manifest", [True, False])
@pytest.mark.parametrize("damage", ["flipped bit", "cut"])
def test_damage_is_found_and_named(tmp_path, damage, manifest):
    files = write(tmp_path)
    content = bytearray(files[1].read_bytes())
    if damage == "flipped bit":
        content[60] ^= 1
    else:
        content = content[:-20]
    files[1].write_bytes(content)
    if not manifest:
        (tmp_path / ".manifest" / f"{files[1].name}.json").unlink()
    with pytest.raises(CorruptFileError, match=r"fiducial_00001\.tfrecords is damaged"):
        read(files, shape=(4, 5))


def test_records_without_a_manifest_need_a_shape(tmp_path):
    files = write(tmp_path, size=1)
    for path in (tmp_path / ".manifest").iterdir():
        path.unlink()
    assert read(files, shape=(4, 5))[0,].shape == (4, 5)
    with pytest.raises(ValueError, match="`input_shape` must be given to read"):
        read(files)
    with pytest.raises(ValueError, match=r"simulations of shape \(3, 5\), 15 numbers, got 20"):
        read(files, shape=(3, 5))
    with pytest.raises(ValueError, match="must hold records with 'derivative'"):
        read(files, derivative=True, shape=(4, 5))
    with pytest.raises(FileNotFoundError):
        read([tmp_path / "none.tfrecords"], shape=(4, 5))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"n_sims": 0}, ValueError, "`n_sims` must be at least 1"),
        ({"n_sims": 2.5}, TypeError, "`n_sims` must be an integer"),
        ({"get_simulation": 3}, TypeError, "`get_simulation` must be callable"),
        ({"fiducial": False}, TypeError, "`n_params` must be an integer, got None"),
        ({"part": (2, 2)}, ValueError, r"`part` must be \(index, count\)"),
        (
            {"get_simulation": lambda seed: np.zeros(seed + 1)},
            ValueError,
            r"simulations of one shape, \(1,\), got \(2,\) at \(1,\)",
        ),
    ],
)
def test_bad_arguments_are_named(tmp_path, settings, error, message):
    given = {"n_sims": 2, "get_simulation": simulation, "directory": tmp_path, **settings}
    with pytest.raises(error, match=message):
        TFRecords(verbose=False).write_record(**given)
    assert not list(tmp_path.glob("*.tfrecords"))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"record_size": 0}, ValueError),
        ({"padding": 0}, ValueError),
        ({"compression": "ZIP"}, ValueError),
    ],
)
def test_bad_settings_are_refused(settings, error):
    with pytest.raises(error):
        TFRecords(**settings)


def test_progress_is_shown_when_asked_for(tmp_path, capfd):
    TFRecords().write_record(3, simulation, directory=tmp_path)
    out, err = capfd.readouterr()
    assert out == ""
    assert "3/3" in err


def on_disk(folder):
    """All the files that a glob finds, those of the manifests included."""
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def test_a_shorter_set_leaves_no_file_of_the_longer_one(tmp_path):
    folder, alone = tmp_path / "both", tmp_path / "alone"
    write(folder, fiducial=False)
    write(folder, 12)
    (folder / "fiducial_mine_00099.tfrecords").write_bytes(b"another name")
    (folder / "fiducial_00099.txt").write_bytes(b"another kind of file")
    files = write(folder, 5, get=lambda seed: simulation(seed) + 1)
    assert sorted(folder.glob("fiducial_[0-9]*.tfrecords")) == files
    write(alone, 5, get=lambda seed: simulation(seed) + 1)
    write(alone, fiducial=False)
    mine = {Path("fiducial_mine_00099.tfrecords"), Path("fiducial_00099.txt")}
    assert on_disk(folder) == on_disk(alone) | mine


def test_a_rewriting_that_was_interrupted_is_noticed(tmp_path):
    write(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, get=Stopping(11, add=1))
    files = sorted(tmp_path.glob("*.tfrecords"))
    with pytest.raises(CorruptFileError, match=r"fiducial_0000\d\.tfrecords is damaged or not of"):
        read(files, shape=(4, 5))
    again = read(write(tmp_path, get=Stopping(100, add=1)))
    np.testing.assert_array_equal(again[11,], simulation(11) + 1)


def test_files_of_different_sets_are_not_read_together(tmp_path):
    files = write(tmp_path / "a")
    others = write(tmp_path / "b", 11)
    with pytest.raises(CorruptFileError, match="not of one set"):
        read([files[0], *others[1:]])


def test_files_are_kept_by_another_process(tmp_path):
    """Python orders the labels of a record differently in every process."""
    program = (
        "import sys, numpy as np\n"
        "from imnn_tf.utils import TFRecords\n"
        "writer = TFRecords(record_size=0.0005, verbose=False)\n"
        "get = lambda *label: np.full((4, 5), sum(label))\n"
        "writer.write_record(3, get, False, 3, directory=sys.argv[1])\n"
    )
    for seed in "0123":
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", program, str(tmp_path)]
        subprocess.run(command, check=True, env=environment)
        times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.tfrecords")}
        if seed == "0":
            first = times
    assert times == first


@pytest.mark.parametrize("damage", ["flipped bits", "cut", "empty", "list", "no digest"])
def test_a_damaged_manifest_is_named(tmp_path, damage):
    files = write(tmp_path)
    manifest = tmp_path / ".manifest" / f"{files[1].name}.json"
    content = manifest.read_bytes()
    bad = {
        "flipped bits": [
            content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
            for at in range(0, len(content), 3)
        ],
        "cut": [content[:-9]],
        "empty": [b""],
        "list": [b"[1]"],
        "no digest": [b"{}"],
    }
    for each in bad[damage]:
        manifest.write_bytes(each)
        try:
            back = read(files)
        except (CorruptFileError, FileNotFoundError) as error:
            assert files[1].name in str(error)  # noqa: PT017 # white space may flip unnoticed
        else:
            assert damage == "flipped bits"
            assert len(back) == 12
    write(tmp_path)  # writes the file again
    assert len(read(files)) == 12


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.nan, r"`get_simulation` must be finite, got 20 .* at \(0,\)"),
        (1j, r"`get_simulation` must hold real numbers, got .* at \(0,\)"),
    ],
)
def test_the_writer_refuses_what_the_reader_refuses(tmp_path, wrong, message):
    with pytest.raises((ValueError, TypeError), match=message):
        write(tmp_path, get=lambda seed: simulation(seed) * wrong)
