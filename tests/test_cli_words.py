"""Code files of motion words: rows of any length, the grammar in the header, and what does not parse is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import evaluate_kit as kit
from word_tokenizer_kit import WordCoder, word_coder
from words_kit import SMALL, random_ids
from xtok.actions.layout import JOINTS
from xtok.cli import decode
from xtok.cli.codefile import HEADER_KEY, Header, codes_of, open_parquet, schema, table_of
from xtok.cli.encode_parts import CodeRow, join, write_part
from xtok.codec.words import Grammar

T = 40
HEADER = Header(
    tokenizer="0123456789abcdef",
    layout="joints",
    layout_digest=JOINTS.digest,
    vocab_size=SMALL.total,
    levels=0,
    horizon=T,
    stride=20,
    split="all",
    dataset="waves",
    statistics={},
    grammar=SMALL,
)
GRID = replace(HEADER, vocab_size=256, levels=4, grammar=None, format=2)


def row(codes: np.ndarray, start: int = 1) -> CodeRow:
    return {
        "dataset": "waves",
        "episode_index": 0,
        "frame_start": start,
        "horizon": T,
        "embodiment": "cr5",
        "control_hz": 20.0,
        "codes": codes,
        "anchor": [0.0] * 64,
        "mask": kit.mask(JOINTS),
    }


def ragged(count: int, grammar: Grammar = SMALL, horizon: int = T) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [np.array(random_ids(grammar, horizon, generator)) for _ in range(count)]


def written(path: Path, header: Header, sequences: list[np.ndarray]) -> Path:
    with pq.ParquetWriter(path, schema(header)) as writer:
        writer.write_table(table_of([row(codes) for codes in sequences], header))
    return path


@pytest.mark.parametrize("total", [SMALL.total, 2048, 32768])
@pytest.mark.parametrize("horizon", [8, 19, 64])
def test_ragged_rows_and_their_grammar_come_back(tmp_path: Path, total: int, horizon: int) -> None:
    grammar = SMALL if total == SMALL.total else Grammar.of_total(total)
    header = replace(HEADER, vocab_size=total, horizon=horizon, grammar=grammar)
    sequences = ragged(40, grammar, horizon)
    if horizon == 64:
        sequences[3] = np.array(
            [0, 0, 0, 0, *(grammar.range_of(4, level)[1] - 1 for level in (1, 2, 3, 4))]
        )  # the last id
    assert len(set(map(len, sequences))) > 3
    with open_parquet(written(tmp_path / "codes.parquet", header, sequences)) as file:
        assert file.schema_arrow.field("codes").type == pa.list_(pa.int16())
        found = Header.of(file, tmp_path / "codes.parquet")
        assert found == header and found.grammar == grammar and found.format == 3
        first, tokens = 0, list[list[int]]()
        for batch in file.iter_batches(16):
            codes = codes_of(batch, found, first)
            assert codes.vocab_size == total and codes.grid_BMQ is None
            tokens += [each.tolist() for each in codes.tokens]
            first += len(batch)
    assert tokens == [each.tolist() for each in sequences]


def test_files_of_slots_are_written_as_before_and_old_ones_open(tmp_path: Path) -> None:
    assert GRID.format == 2 and "grammar" not in json.loads(GRID.to_json())
    for version in (1, 2):
        header = replace(GRID, format=version)
        path = written(tmp_path / f"{version}.parquet", header, [np.arange(40), np.arange(3)])
        with open_parquet(path) as file:
            found = Header.of(file, path)
            assert found == header and found.grammar is None
            (batch,) = file.iter_batches()
            assert [len(each) for each in codes_of(batch, found).tokens] == [40, 3]  # the tokenizer's matter


def test_a_row_that_does_not_parse_is_refused_by_its_number(tmp_path: Path) -> None:
    sequences = ragged(20)
    bad = [*sequences]
    bad[17] = np.array([0, *bad[17]])
    with pytest.raises(ValueError, match=r"row 117 is no chunk of 40 frames: token \d+ is .*; expected"):
        table_of([row(codes) for codes in bad], HEADER, first_row=100)
    table = pa.Table.from_pylist([row(codes) for codes in bad], schema=schema(HEADER))  # past the check
    first, second = table.to_batches(max_chunksize=10)
    codes_of(first, HEADER)
    with pytest.raises(ValueError, match="row 17 is no chunk of 40 frames"):
        codes_of(second, HEADER, first_row=10)
    assert codes_of(second, HEADER, 10, check=False).tokens[7].tolist() == bad[17].tolist()
    with pytest.raises(ValueError, match=r"c\.parquet: row 17 is no chunk"):
        decode.inputs(second, HEADER, JOINTS, Path("c.parquet"), 10, check=True)
    for hole, message in ((None, "row 5 has no codes"), ([0, None], "row 5 has a code that is missing")):
        holed = pa.Table.from_pylist([{**row(sequences[0]), "codes": hole}], schema=schema(HEADER))
        with pytest.raises(ValueError, match=message):
            codes_of(holed.to_batches()[0], HEADER, first_row=5)


def test_headers_that_cannot_be_are_refused(tmp_path: Path) -> None:
    for change, message in (
        ({"vocab_size": 2048}, "says 2048 ids in 0 levels; its grammar has 336 ids"),
        ({"levels": 4}, "motion words have no levels"),
        ({"horizon": 65}, "says 65 frames; expected 8 to 64"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(HEADER, **change)  # type: ignore[arg-type]
    table = table_of([row(codes) for codes in ragged(2)], HEADER)
    good = json.loads(HEADER.to_json())
    books = good["grammar"]["residuals"]
    for number, (fields, message) in enumerate(
        (
            ({"format": 4}, r"code-file format 4, this xtok reads \(1, 2, 3\): update xtok"),
            ({"grammar": None}, "damaged header .format 3 without a grammar"),
            ({"format": 2}, "damaged header .format 2 with a grammar"),
            ({"grammar": {"words": 48}}, "damaged header"),
            (
                {"grammar": {"words": 48, "residuals": books[1:]}},
                "damaged header .residual books",
            ),
            ({"grammar": {"words": 49, "residuals": books}}, "damaged header .*337 ids"),
            ({"more": 1}, "damaged header"),
        )
    ):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(table.replace_schema_metadata({HEADER_KEY: json.dumps({**good, **fields})}), path)
        with open_parquet(path) as file, pytest.raises(ValueError, match=message):
            Header.of(file, path)


def test_episodes_go_into_parts_and_back_to_actions(tmp_path: Path) -> None:
    coder = word_coder()
    header = replace(HEADER, stride=T)
    parts = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for number, part in enumerate(parts):
        write_part(part, header, [kit.episode(JOINTS, 130, number)], Saturated(coder), "report")  # type: ignore[arg-type]
    out = tmp_path / "codes.parquet"
    assert join(parts, out, header).chunks == 6
    with open_parquet(out) as file:
        (batch,) = file.iter_batches()
        found = Header.of(file, out)
    codes, context = decode.inputs(batch, found, JOINTS, out, 0, check=True)
    chunks = kit.chunks(JOINTS, T, stride=T)
    assert len({len(each) for each in codes.tokens}) > 1
    actions = coder.decode(codes, context)
    rows = decode.frames(batch, actions, decode.schema(JOINTS, found))
    assert rows.num_rows == 6 * T and len(chunks) == 4
    expected = coder.decode(coder.encode(chunks), chunks.context).absolute_BTD  # of 120 frames: two chunks an episode
    assert actions.absolute_BTD is not None and expected is not None
    np.testing.assert_array_equal(actions.absolute_BTD[[0, 1, 3, 4]].numpy(), expected.numpy())


class Saturated:
    """The coder, as `encode` asks for it."""

    def __init__(self, coder: WordCoder) -> None:
        self.encode = coder.encode

    @staticmethod
    def saturation(chunks: object) -> dict[str, float]:
        return {}
