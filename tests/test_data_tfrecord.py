"""TFRecord framing, CRC-32C and tf.train.Example, against known values and a writer of our own."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reader_kit import example, frame, message, varint
from xtok.data.readers.tfrecord import crc32c, list_records, masked_crc32c, parse_example, read_example

POLYNOMIAL = 0x82F63B78


def crc_bit_by_bit(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (POLYNOMIAL if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize(  # RFC 3720, B.4
    ("data", "crc"),
    [(b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)],
)
def test_known_checksums(data: bytes, crc: int) -> None:
    assert crc32c(data) == crc


@pytest.mark.parametrize("size", [0, 1, 255, 256, 511, 512, 513, 768, 1024, 3333])
def test_lanes_give_the_checksum_of_the_plain_rule(size: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8).tobytes()
    assert crc32c(data) == crc_bit_by_bit(data)


NAMES = st.text(min_size=1, max_size=12)
FLOATS = st.lists(st.floats(width=32, allow_nan=False), max_size=20).map(lambda v: np.array(v, dtype=np.float32))
INTEGERS = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20).map(lambda v: np.array(v, dtype=np.int64))
STRINGS = st.lists(st.binary(max_size=40), max_size=6)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(NAMES, FLOATS | INTEGERS | STRINGS, max_size=6), st.booleans())
def test_what_was_written_is_read(features: dict, packed: bool) -> None:
    read = parse_example(example(features, packed))
    assert read.keys() == features.keys()
    for name, values in features.items():
        if len(values):
            np.testing.assert_array_equal(read[name], values)
            assert not isinstance(values, np.ndarray) or read[name].dtype == values.dtype
        else:
            assert len(read[name]) == 0


def test_records_are_found_by_their_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    payloads = [example({"a": np.arange(k)}) for k in (1, 5, 300)]
    path.write_bytes(b"".join(map(frame, payloads)))
    records = list_records(path)
    assert [record.size for record in records] == list(map(len, payloads))
    assert [len(read_example(record)["a"]) for record in records] == [1, 5, 300]


def test_files_that_are_cut_or_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    whole = frame(example({"a": np.arange(50)})) * 2
    one = len(whole) // 2
    for cut in (one + 5, one + 20, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"ends within .*record 1.*truncated"):
            list_records(path)
    changed = bytearray(whole)
    changed[one + 3] ^= 1  # in the second length
    path.write_bytes(changed)
    with pytest.raises(ValueError, match=rf"byte {one}: no TFRecord frame"):
        list_records(path)
    changed = bytearray(whole)
    changed[one + 40] ^= 1  # in the second payload
    path.write_bytes(changed)
    with pytest.raises(ValueError, match="does not match its checksum"):
        read_example(list_records(path)[1])
    with pytest.raises(ValueError, match="cannot read"):
        list_records(tmp_path / "absent.tfrecord")


def test_a_lying_length_reads_nothing(tmp_path: Path) -> None:
    head = struct.pack("<Q", 1 << 62)
    path = tmp_path / "a.tfrecord"
    path.write_bytes(head + struct.pack("<I", masked_crc32c(head)) + bytes(100))
    tracemalloc.start()
    with pytest.raises(ValueError, match="ends within record 0 of 4611686018427387904 bytes"):
        list_records(path)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def of_a(feature: bytes) -> bytes:
    """An example whose feature "a" is these bytes."""
    return message(1, message(1, message(1, b"a") + message(2, feature)))


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (message(1, b"\x0a\xff\xff\xff\xff\x0f"), "does not fit"),
        (b"\x0a" + b"\xff" * 11, "more than ten bytes"),
        (b"\x0f", "wire type 7"),
        (of_a(message(2, message(1, b"abc"))), "no multiple of 4"),
        (of_a(message(3, message(1, b"\x80"))), "ends within a number"),
        (of_a(message(3, message(1, b"\x80" * 11 + b"\1"))), "more than 10"),
        (example({"a": np.arange(3)})[:-1], "does not fit"),
        (message(1, message(1, message(1, b"a")) * 2), "twice"),
        (message(1, message(1, message(1, b"\xff"))), "utf-8"),
    ],
)  # fmt: skip
def test_payloads_that_are_no_example(payload: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_example(payload)


def test_fields_of_later_versions_are_passed_over() -> None:
    extra = varint(15 << 3) + varint(7) + varint(14 << 3 | 1) + bytes(8) + varint(13 << 3 | 5) + bytes(4)
    assert len(parse_example(extra + example({"a": np.arange(3)}) + extra)["a"]) == 3
