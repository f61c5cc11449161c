"""The TFRecord format, its writer and its reader."""

import json
from concurrent.futures import ThreadPoolExecutor

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

    def __init__(self, calls):
        self.calls = calls

    def __call__(self, seed):
        self.calls -= 1
        if self.calls < 0:
            raise KeyboardInterrupt
        return simulation(seed)


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
