"""Tokenizers of format 1, written by the xtok of before the two codecs had a class each, mean what they meant.

format1/: a Gaussian codec with semantic dimensions and a perceiver, tiny, and what they made of `codec_kit.chunks`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import codec_kit as kit
from xtok import Tokenizer
from xtok.actions.statistics import Statistics
from xtok.codec import storage
from xtok.codec.gaussian import GaussianCodec
from xtok.codec.hashes import hashed
from xtok.codec.perceiver import PerceiverCodec

FORMAT1 = Path(__file__).parent / "format1"
EXPECTED = json.loads((FORMAT1 / "codes.json").read_text(encoding="utf-8"))
KINDS = {"gaussian": GaussianCodec, "perceiver": PerceiverCodec}
of_both = pytest.mark.parametrize("kind", list(KINDS))


@of_both
def test_codes_and_motion_stay_what_they_were(kind: str) -> None:
    tokenizer = Tokenizer.from_pretrained(FORMAT1 / kind)
    assert isinstance(tokenizer.codec, KINDS[kind])
    batch = kit.chunks(18)[:4]
    codes = tokenizer.encode(batch)
    assert codes.grid_BMQ is not None and codes.grid_BMQ.tolist() == EXPECTED[kind]["codes"]
    decoded = torch.nan_to_num(tokenizer.decode(codes, batch.context).delta_BTD).double().flatten()[::97].numpy()
    np.testing.assert_allclose(decoded, EXPECTED[kind]["decoded"], atol=1e-6)


@of_both
def test_what_was_written_under_the_old_digest_is_accepted_by_the_new_file_too(kind: str, tmp_path: Path) -> None:
    old = Tokenizer.from_pretrained(FORMAT1 / kind)
    old.save_pretrained(tmp_path / "new")
    assert json.loads((tmp_path / "new" / storage.CONFIG).read_text())["format"] == storage.FORMAT
    new = Tokenizer.from_pretrained(tmp_path / "new")
    assert new.digest == old.digest != EXPECTED[kind]["digest"]
    for each in (old, new):
        assert each.answers_to(EXPECTED[kind]["digest"]) and each.answers_to(each.digest)
        assert not each.answers_to("0123456789abcdef")
        assert EXPECTED[kind]["foundation"] in each.codec.formerly.foundations
    batch = kit.chunks(18)[:4]
    assert torch.equal(new.encode(batch).grid_BMQ, old.encode(batch).grid_BMQ)


@of_both
def test_an_altered_old_file_is_refused(kind: str, tmp_path: Path) -> None:
    folder = shutil.copytree(FORMAT1 / kind, tmp_path / "old")
    tensors = load_file(folder / storage.WEIGHTS)
    name = next(name for name in sorted(tensors) if "books_QVC" in name)
    tensors[name] = tensors[name] + 0.5
    save_file(tensors, folder / storage.WEIGHTS)
    with pytest.raises(ValueError, match="do not belong together"):
        Tokenizer.from_pretrained(folder)


def test_networks_that_correct_the_gaussian_codec_are_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(FORMAT1 / "gaussian", tmp_path / "old")
    config = json.loads((folder / storage.CONFIG).read_text())
    tensors = {name: tensor.float() for name, tensor in load_file(folder / storage.WEIGHTS).items()}
    tensors["decoder.out.bias"] = torch.ones_like(tensors["decoder.out.bias"])
    statistics = {name: Statistics.from_dict(part) for name, part in (config["ranges"] | config["robots"]).items()}
    config["digest"] = hashed(config["codec"], tensors, statistics)
    save_file(tensors, folder / storage.WEIGHTS)
    (folder / storage.CONFIG).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"decoder\.out\.bias corrects the motion codec"):
        Tokenizer.from_pretrained(folder)
