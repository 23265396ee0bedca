"""TFRecord files of tf.train.Example without TensorFlow: the framing, its checksums, and the protobuf inside.

A record is u64 length, u32 checksum of the length, payload, u32 checksum of the payload, little-endian; a checksum is
CRC-32C rotated and offset (tensorflow/core/lib/io/record_writer.h, core/lib/hash/crc32c.h). The payload is the
protobuf of tensorflow/core/example/{example,feature}.proto: Example.features(1).feature(1) is a map from name(1) to
Feature(2), which is bytes_list(1), float_list(2) or int64_list(3), each a repeated value(1).

Nothing here trusts a length: each is held against the bytes that are there before anything is read or allocated.

# L lanes of a checksum
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

_POLYNOMIAL = 0x82F63B78  # CRC-32C, reflected
_MASK_DELTA = 0xA282EAD8
_LANE_BYTES = 256
_HEADER, _FOOTER = struct.Struct("<QI"), struct.Struct("<I")
_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5  # protobuf wire types
_VARINT_BYTES_MAX = 10

Value = np.ndarray | list[bytes]  # float32 or int64 [count], or byte strings


@dataclass(frozen=True)
class Record:
    """Where a record's payload stands in its file."""

    path: Path
    offset: int
    size: int


def list_records(path: Path) -> list[Record]:
    """All records of a file; only the frames are read, not the payloads.

    Raises:
        ValueError: a file that is missing, cut off within a record, or whose lengths do not match their checksums.
    """
    records, damage = list_whole_records(path)
    if damage:
        raise ValueError(damage)
    return records


def list_whole_records(path: Path) -> tuple[list[Record], str]:
    """The records of a file up to where it is damaged, and what is wrong there, "" where nothing is."""
    records: list[Record] = []
    try:
        total = path.stat().st_size
        with path.open("rb") as file:
            at = 0
            while at < total:
                file.seek(at)
                head = file.read(_HEADER.size)
                if len(head) < _HEADER.size:
                    return records, f"{path} ends within the frame of record {len(records)}; {_AGAIN}"
                size, checksum = _HEADER.unpack(head)
                if masked_crc32c(head[:8]) != checksum:
                    if head.startswith(b"\x1f\x8b") and not at:
                        return records, f"{path} is compressed (gzip): unpack it (gunzip), and open what comes of it"
                    return records, f"{path}, byte {at}: no TFRecord frame (its checksum is wrong); {_AGAIN}"
                if size > total - at - _HEADER.size - _FOOTER.size:
                    return records, f"{path} ends within record {len(records)} of {size} bytes; {_AGAIN}"
                records.append(Record(path, at + _HEADER.size, size))
                at += _HEADER.size + size + _FOOTER.size
    except OSError as error:
        return [], f"cannot read {path}: {error}; {_AGAIN}"
    return records, ""


_AGAIN = "it looks truncated or damaged, download it again"


def read_example(record: Record) -> dict[str, Value]:
    """The features of one tf.train.Example, its checksum checked.

    Raises:
        ValueError: a payload that is cut off, does not match its checksum, or is no tf.train.Example.
    """
    try:
        with record.path.open("rb") as file:
            file.seek(record.offset)
            payload = file.read(record.size)
            foot = file.read(_FOOTER.size)
    except OSError as error:
        raise ValueError(f"cannot read {record.path}: {error}; {_AGAIN}") from error
    if len(payload) < record.size or len(foot) < _FOOTER.size:
        raise ValueError(f"{record.path} ends within a record; {_AGAIN}")
    if masked_crc32c(payload) != _FOOTER.unpack(foot)[0]:
        raise ValueError(f"{record.path}, byte {record.offset}: a record does not match its checksum; {_AGAIN}")
    try:
        return parse_example(payload)
    except ValueError as error:
        raise ValueError(f"{record.path}, byte {record.offset}: {error}; expected a tf.train.Example") from error


def parse_example(payload: bytes) -> dict[str, Value]:
    """Feature name -> values. Arrays are float32 or int64; strings and pictures are lists of bytes.

    Raises:
        ValueError: bytes that are no tf.train.Example, or a feature named twice.
    """
    out: dict[str, Value] = {}
    for features in _messages(memoryview(payload), 1):
        for entry in _messages(features, 1):
            name, value = "", memoryview(b"")
            for number, wire, body in _fields(entry):
                if wire == _LENGTH_DELIMITED and number == 1:
                    name = bytes(body).decode("utf-8")  # UnicodeDecodeError is a ValueError
                elif wire == _LENGTH_DELIMITED and number == 2:
                    value = body
            if name in out:
                raise ValueError(f"feature {name!r} stands there twice")
            out[name] = _feature(value)
    return out


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli). Long data run in lanes side by side, whose checksums are then chained: some 100 MB a
    second.
    """
    whole = len(data) // _LANE_BYTES
    crc = 0xFFFFFFFF
    if whole > 1:
        lanes_LB = np.frombuffer(data, dtype=np.uint8, count=whole * _LANE_BYTES).reshape(whole, _LANE_BYTES)
        table = _table()
        crc_L = np.zeros(whole, dtype=np.uint32)
        for column in lanes_LB.T.copy():
            crc_L = (crc_L >> np.uint32(8)) ^ table[(crc_L ^ column) & np.uint32(0xFF)]
        t0, t1, t2, t3 = _skip_lane()
        for lane in crc_L.tolist():
            crc = t0[crc & 0xFF] ^ t1[crc >> 8 & 0xFF] ^ t2[crc >> 16 & 0xFF] ^ t3[crc >> 24] ^ lane
        data = data[whole * _LANE_BYTES :]
    plain = _plain_table()
    for byte in data:
        crc = crc >> 8 ^ plain[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def masked_crc32c(data: bytes) -> int:
    """The checksum as TFRecord stores it."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


@cache
def _table() -> np.ndarray:
    crc = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        crc = np.where(crc & np.uint32(1), (crc >> np.uint32(1)) ^ np.uint32(_POLYNOMIAL), crc >> np.uint32(1))
    return crc.astype(np.uint32)


@cache
def _plain_table() -> list[int]:
    return _table().tolist()


@cache
def _skip_lane() -> list[list[int]]:
    """What _LANE_BYTES of zeros do to a checksum, for each of its four bytes: the map is linear over bits."""
    crc = (np.arange(256, dtype=np.uint32)[None, :] << (8 * np.arange(4, dtype=np.uint32))[:, None]).ravel()
    for _ in range(_LANE_BYTES):
        crc = (crc >> np.uint32(8)) ^ _table()[crc & np.uint32(0xFF)]
    return crc.reshape(4, 256).tolist()


def _feature(message: memoryview) -> Value:
    out: Value = np.zeros(0, dtype=np.float32)
    for number, wire, body in _fields(message):
        if wire != _LENGTH_DELIMITED:
            continue
        if number == 1:
            out = [bytes(value) for value in _messages(body, 1)]
        elif number == 2:
            out = _floats(body)
        elif number == 3:
            out = _integers(body)
    return out


def _floats(message: memoryview) -> np.ndarray:
    pieces = []
    for number, wire, body in _fields(message):
        if number == 1 and wire in (_LENGTH_DELIMITED, _FIXED32):  # packed, or one by one
            if len(body) % 4:
                raise ValueError(f"a list of floats is {len(body)} bytes long, no multiple of 4")
            pieces.append(np.frombuffer(body, dtype="<f4"))
    return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.float32)


def _integers(message: memoryview) -> np.ndarray:
    pieces = []
    for number, wire, body in _fields(message):
        if number == 1 and wire in (_LENGTH_DELIMITED, _VARINT):
            pieces.append(_varints(body))
    return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int64)


def _varints(body: memoryview) -> np.ndarray:
    """int64 of back-to-back varints."""
    raw = np.frombuffer(body, dtype=np.uint8)
    if not len(raw):
        return np.zeros(0, dtype=np.int64)
    ends = np.flatnonzero(raw < 0x80)
    if not len(ends) or ends[-1] != len(raw) - 1:
        raise ValueError("a list of integers ends within a number")
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() >= _VARINT_BYTES_MAX:
        raise ValueError(f"an integer has more than {_VARINT_BYTES_MAX} bytes")
    place = np.arange(len(raw)) - np.repeat(starts, ends - starts + 1)
    bits = (raw & np.uint8(0x7F)).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.bitwise_or.reduceat(bits, starts).view(np.int64)


def _messages(message: memoryview, wanted: int) -> Iterator[memoryview]:
    for number, wire, body in _fields(message):
        if number == wanted and wire == _LENGTH_DELIMITED:
            yield body


def _fields(message: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """(number, wire type, bytes) of each field; of a varint, the bytes that encode it."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == _LENGTH_DELIMITED:
            size, at = _varint(message, at)
        elif wire == _VARINT:
            size = _varint(message, at)[1] - at
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire} is none that protobuf has")
        if not number or size > end - at:
            raise ValueError(f"field {number} of {size} bytes does not fit into the {end - at} that are left")
        yield number, wire, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """(value, where it ends)"""
    value = 0
    for place, byte in enumerate(message[at : at + _VARINT_BYTES_MAX]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("a number is cut off or has more than ten bytes")
