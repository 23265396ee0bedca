"""Commands that take a packed corpus in place of folders give what they give for the folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import synthetic
import xtok
from pack_kit import recording
from xtok.cli.main import main

Places = tuple[Path, Path, Path]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """Two recordings, and both packed."""
    root = tmp_path_factory.mktemp("cli")
    first, second = recording(root / "panda"), recording(root / "ur5e", "sim_ur5e", 0.2)
    assert main(["pack", str(first), str(second), "-o", str(root / "corpus")]) == 0
    return first, second, root / "corpus"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    xtok.Tokenizer(synthetic.fitted_codec()).save_pretrained(folder)
    return str(folder)


def encode(data: Path, out: Path, tokenizer: str, *more: str) -> Path:
    arguments = ["encode", str(data), "-o", str(out), "--tokenizer", tokenizer, "--horizon", "16"]
    assert main([*arguments, *more]) == 0
    return out


def test_codes_are_those_of_the_folders(places: Places, tokenizer: str, tmp_path: Path) -> None:
    first, second, corpus = places
    folder = encode(first, tmp_path / "folder.parquet", tokenizer)
    assert encode(corpus / "panda", tmp_path / "pack.parquet", tokenizer).read_bytes() == folder.read_bytes()
    for split in ("train", "heldout"):
        both = [
            encode(each, tmp_path / f"{each.name}.{split}", tokenizer, "--split", split) for each in (first, second)
        ]
        rows = [row for path in both for row in pq.read_table(path).to_pylist()]
        whole = encode(corpus, tmp_path / f"corpus.{split}", tokenizer, "--split", split)
        assert pq.read_table(whole).to_pylist() == rows


def test_figures_are_those_of_the_folders(places: Places, tokenizer: str, tmp_path: Path) -> None:
    first, second, corpus = places

    def evaluate(name: str, *data: Path) -> dict[str, Any]:
        out = tmp_path / f"{name}.json"
        arguments = ["eval", "--tokenizer", tokenizer, "--horizons", "16", "--baselines", "bins", "--meaning", "no"]
        assert main([*arguments, "--json", str(out), "--data", *map(str, data)]) == 0
        return json.loads(out.read_text())

    ours, theirs = evaluate("pack", corpus), evaluate("folders", first, second)
    for key in ("dataset", "embodiments", "statistics", "chunks", "saturation", "episodes_used"):
        assert ours[key] == theirs[key], key
    for name, entry in theirs["horizons"]["16"].items():
        timed = {key for key in entry if "ms" in key.split("_") or "per_s" in key or "second" in key}
        same = {key: value for key, value in entry.items() if key not in timed}
        assert {key: value for key, value in ours["horizons"]["16"][name].items() if key not in timed} == same


def test_training_takes_a_corpus(places: Places, tmp_path: Path) -> None:
    from unittest.mock import patch

    from xtok.recipes import tiny

    first, second, corpus = places
    digests = []
    for number, data in enumerate(([first, second], [corpus])):
        with (
            synthetic.small_samples(),
            patch("xtok.pretrain.loop.Trainer.run"),
            patch("xtok.pretrain.loop.Trainer.finish", lambda self: self.out),
        ):
            assert main(["train", "tiny", "-o", str(tmp_path / str(number)), "--data", *map(str, data)]) == 0
        digests.append(json.loads((tmp_path / str(number) / "run.json").read_text())["data_digest"])
    assert digests[0] == digests[1]
    starts = [(tmp_path / str(n) / "start" / "model.safetensors") for n in range(2)]
    assert starts[0].read_bytes() == starts[1].read_bytes()  # priors and books, from the same chunks
    assert tiny().codec.layout == "arms26"
