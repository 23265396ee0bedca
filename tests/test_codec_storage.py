"""A tokenizer on disk comes back as it was, and anything else is refused with the typed error. Never a pickle."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import codec_kit as kit
from xtok import Tokenizer
from xtok.actions.types import ChunkBatch
from xtok.codec import storage
from xtok.codec.config import CodecConfig, paper, small
from xtok.codec.gaussian import GaussianCodec
from xtok.codec.perceiver import PerceiverCodec
from xtok.codec.quantizer import is_training_state
from xtok.pretrain.precision import round_to_half

WEIGHTS, CONFIG = storage.WEIGHTS, storage.CONFIG
BOOK = "coarse.shared.books_QVC"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer") / "kit"
    kit.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def test_what_is_saved_comes_back(saved: Path) -> None:
    tokenizer, batch = kit.tokenizer(), kit.mixed()
    again = Tokenizer.from_pretrained(saved)
    assert again.digest == tokenizer.digest and again.levels == 4 and again.layout == tokenizer.layout
    assert again.statistics.keys() == tokenizer.statistics.keys()
    codes = again.encode(batch)
    assert torch.equal(codes.grid_BMQ, tokenizer.encode(batch).grid_BMQ)
    here, there = (t.decode(codes, batch.context).absolute_BTD for t in (tokenizer, again))
    assert torch.equal(here, there)


def test_saving_twice_gives_the_same_bytes_and_leaves_no_other_file(saved: Path, tmp_path: Path) -> None:
    Tokenizer.from_pretrained(saved).save_pretrained(tmp_path / "again")
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == [CONFIG, WEIGHTS]
    for name in (CONFIG, WEIGHTS):
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()


def test_training_state_is_not_released_but_there_to_go_on_from(saved: Path) -> None:
    assert not [name for name in load_file(saved / WEIGHTS) if name.endswith(("count_QV", "sum_QVC", "hits_QV"))]
    quantizer = Tokenizer.from_pretrained(saved).codec.coarse.shared
    assert torch.isfinite(quantizer.count_QV).all() and quantizer.hits_QV.sum() == 0
    before = quantizer.books_QVC.clone()
    chosen = torch.arange(len(before[0])).repeat(8)
    quantizer.train()
    quantizer(before[0][chosen])  # vectors that are codes already: nothing is there to learn from them
    torch.testing.assert_close(quantizer.books_QVC, before, atol=1e-6, rtol=1e-5)


def test_a_robot_known_by_its_ranges_comes_back(tmp_path: Path) -> None:
    wider = kit.tokenizer().with_ranges(kit.unseen_statistics())
    wider.save_pretrained(tmp_path)
    again = Tokenizer.from_pretrained(tmp_path)
    unseen = kit.renamed(kit.chunks(), kit.UNSEEN)
    assert again.digest == wider.digest
    assert torch.equal(again.encode(unseen).grid_BMQ, wider.encode(unseen).grid_BMQ)


def test_rounded_weights_take_half_the_bytes_and_give_the_same_codes(tmp_path: Path) -> None:
    codec, batch = kit.fresh_codec(), kit.chunks()
    Tokenizer(codec).save_pretrained(tmp_path / "whole")
    round_to_half(codec)
    rounded = Tokenizer(codec)
    rounded.save_pretrained(tmp_path / "half")
    sizes = [(tmp_path / name / WEIGHTS).stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    again = Tokenizer.from_pretrained(tmp_path / "half")
    assert again.digest == rounded.digest != kit.tokenizer().digest
    codes = again.encode(batch)
    assert torch.equal(codes.grid_BMQ, rounded.encode(batch).grid_BMQ)
    assert all(value.dtype == torch.float32 for value in again.codec.state_dict().values() if value.is_floating_point())
    assert error(again, batch) < 1.05 * error(kit.tokenizer(), batch)


def error(tokenizer: Tokenizer, batch: ChunkBatch) -> float:
    decoded = tokenizer.decode(tokenizer.encode(batch), batch.context).absolute_BTD
    assert decoded is not None
    return float(abs(decoded - batch.target_BTD).mean())


def test_how_errors_count_comes_back_with_a_robot(tmp_path: Path) -> None:
    codec, batch = kit.tokenizer().shared_codec(), kit.chunks(18)
    name = batch.context.embodiment[0]
    emphasis_K = torch.linspace(0.5, 2.0, len(codec.robots[name].scale_K))
    codec.add_robot(replace(codec.robots[name], emphasis_K=emphasis_K))
    tokenizer = Tokenizer(codec)
    assert tokenizer.digest != kit.tokenizer().digest
    tokenizer.save_pretrained(tmp_path)
    again = Tokenizer.from_pretrained(tmp_path)
    found = again.codec.robots[name].emphasis_K
    assert found is not None and torch.equal(found, emphasis_K) and again.digest == tokenizer.digest
    assert torch.equal(again.encode(batch).grid_BMQ, tokenizer.encode(batch).grid_BMQ)
    assert not torch.equal(again.encode(batch).grid_BMQ, kit.tokenizer().encode(batch).grid_BMQ)


def test_the_published_design_is_saved_alike(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = replace(paper(), hidden=32, heads=2, encoder_layers=1, decoder_layers=1, codebook_size=32, code_dim=8)
    codec = PerceiverCodec(config)
    codec.add_statistics(kit.tokenizer().statistics[kit.PANDA])
    with torch.no_grad():
        codec.quantizer.books_QVC.normal_()
    Tokenizer(codec).save_pretrained(tmp_path)
    again, batch = Tokenizer.from_pretrained(tmp_path), kit.chunks()
    assert torch.equal(again.encode(batch).grid_BMQ, Tokenizer(codec).encode(batch).grid_BMQ)


def test_digest_changes_with_whatever_decides_what_codes_mean() -> None:
    digests = {kit.tokenizer().digest}
    for change in (_book, _weight, _prior, _range, _beam):
        codec = kit.fresh_codec()
        change(codec)
        digests.add(storage.digest(codec))
    assert len(digests) == 6


def _book(codec: GaussianCodec) -> None:
    codec.coarse.shared.books_QVC[0, 3, 1] += 1e-4


def _weight(codec: GaussianCodec) -> None:
    assert codec.semantic_encoder is not None
    codec.semantic_encoder.out.bias.data[2] += 1e-6


def _prior(codec: GaussianCodec) -> None:
    codec.robots[kit.PANDA].noise_MK[1, 1] += 1e-4


def _range(codec: GaussianCodec) -> None:
    codec.add_statistics(replace(codec.statistics["none"], count=1))


def _beam(codec: GaussianCodec) -> None:
    codec.config = replace(codec.config, beam=1)


# -- what is absent -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"has no {name}; a tokenizer folder holds"):
        Tokenizer.from_pretrained(copy)


@pytest.mark.parametrize("name", ["no/such/folder", "arms27", "../weights", "/etc/passwd"])
def test_an_unknown_name_is_refused_without_asking_the_hub(name: str) -> None:
    with pytest.raises(
        FileNotFoundError,
        match=r"written by save_pretrained, \['arms26', 'arms26-srq', 'arms26-words', 'joints', 'joints-words'\]",
    ):
        Tokenizer.from_pretrained(name)


# -- weights that were altered --------------------------------------------------------------------------------------

Tensors = dict[str, Tensor]


def edit(change: Callable[[Tensors], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS)

    return apply


def nudge(tensors: Tensors) -> None:
    tensors[BOOK][0, 5, 5] += 1e-5


def to_bfloat16(tensors: Tensors) -> None:
    tensors[BOOK] = tensors[BOOK].bfloat16()


def to_float64(tensors: Tensors) -> None:
    tensors.update({name: tensor.double() for name, tensor in tensors.items()})


def with_nan(tensors: Tensors) -> None:
    tensors[BOOK][0, 0, 0] = torch.nan


def narrower(tensors: Tensors) -> None:
    tensors[BOOK] = tensors[BOOK][..., 1:].contiguous()


def without(name: str) -> Callable[[Path], None]:
    return edit(lambda tensors: tensors.__delitem__(name))


def with_extra(name: str) -> Callable[[Path], None]:
    return edit(lambda tensors: tensors.update({name: torch.zeros(2)}))


def raw(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / WEIGHTS).write_bytes(change((folder / WEIGHTS).read_bytes()))

    return apply


def header(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """Rewrite what the file claims of its first tensor."""

    def rewrite(content: bytes) -> bytes:
        (length,) = struct.unpack("<Q", content[:8])
        claims = json.loads(content[8 : 8 + length])
        change(claims[BOOK])
        text = json.dumps(claims).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + length :]

    return raw(rewrite)


BAD_WEIGHTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "one value": (edit(nudge), r"do not belong together, or one was altered; fetch both again"),
    "bfloat16": (
        edit(to_bfloat16),
        r"coarse.shared.books_QVC is torch.bfloat16; weights and books are kept in",
    ),
    "float64": (edit(to_float64), r"is torch.float64; weights and books are kept in float32"),
    "nan": (edit(with_nan), r"coarse.shared.books_QVC has values that are not finite"),
    "shape": (edit(narrower), r"does not fit its config.json"),
    "tensor missing": (without("semantic_encoder.out.weight"), r"does not fit its config.json"),
    "tensor too many": (with_extra("semantic_encoder.trojan"), r"does not fit its config.json"),
    "part of a robot missing": (without("robot.panda.noise_MK"), r"prior of 'panda' differs in \['noise_MK'\]"),
    "part of a robot too many": (with_extra("robot.panda.trojan"), r"prior of 'panda' differs in \['trojan'\]"),
    "part of the generic prior missing": (without("generic.activity_A"), r"generic prior.*fetch the tokenizer again"),
    "part of the generic prior too many": (with_extra("generic.trojan.x"), r"generic prior.*fetch the tokenizer again"),
    "truncated": (raw(lambda content: content[:-1000]), r"is damaged \(.*\); fetch the tokenizer again"),
    "cut to its header": (raw(lambda content: content[:50]), r"is damaged"),
    "empty": (raw(lambda content: b""), r"is damaged"),
    "a pickle": (raw(lambda content: b"\x80\x04cposix\nsystem\n." + content), r"is damaged"),
    "header longer than the file": (raw(lambda c: struct.pack("<Q", 2**62) + c[8:]), r"is damaged"),
    "shape larger than the data": (header(lambda c: c.update(shape=[10**12])), r"is damaged"),
    "shape that overflows": (header(lambda c: c.update(shape=[2**40, 2**40])), r"is damaged"),
    "negative shape": (header(lambda c: c.update(shape=[-1, 3])), r"is damaged"),
    "data beyond the file": (header(lambda c: c.update(data_offsets=[0, 2**60])), r"is damaged"),
    "data backwards": (header(lambda c: c.update(data_offsets=c["data_offsets"][::-1])), r"is damaged"),
    "unknown type": (header(lambda c: c.update(dtype="PICKLE")), r"is damaged"),
}


@pytest.mark.parametrize("alter, message", BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_altered_weights_are_refused(copy: Path, alter: Callable[[Path], None], message: str) -> None:
    alter(copy)
    with pytest.raises(ValueError, match=message):
        Tokenizer.from_pretrained(copy)


# -- a configuration that was altered ---------------------------------------------------------------------------------


def put(value: Any, *keys: str) -> Callable[[dict[str, Any]], None]:
    def apply(config: dict[str, Any]) -> None:
        for key in keys[:-1]:
            config = config[key]
        config[keys[-1]] = value

    return apply


def rename_robot(name: str) -> Callable[[dict[str, Any]], None]:
    def apply(config: dict[str, Any]) -> None:
        config["robots"][name] = config["robots"].pop("panda")

    return apply


BAD_CONFIGS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "digest": (put("0" * 16, "digest"), r"do not belong together"),
    "beam": (put(4, "codec", "beam"), r"do not belong together"),
    "a later format": (put(3, "format"), r"has format 3, this xtok reads 2: update xtok"),
    "unknown field": (put(1, "trojan"), r"is not a tokenizer's configuration: expected the fields"),
    "unknown codec field": (put(1, "codec", "trojan"), r"differs from the expected fields in \['trojan'\]"),
    "another layout": (put("joints", "codec", "layout"), r"config.json|layout"),
    "changed layout": (put("0" * 16, "layout_digest"), r"layout 'arms26' has changed since these weights were saved"),
    "layout as a path": (put("../../../etc/passwd", "codec", "layout"), r"unknown layout '../../../etc/passwd'"),
    "layout as a list": (put(["arms26"], "codec", "layout"), r"config.json"),
    "robot as a path": (
        rename_robot("../../x"),
        r"lacks the tensors robot.../../x.\*",
    ),
    "robot without tensors": (
        rename_robot("sawyer"),
        r"lacks the tensors robot.sawyer.\*",
    ),
    "robot left out": (lambda c: c["robots"].pop("panda"), r"does not fit its config.json"),
    "robot of nothing": (put(None, "robots", "panda"), r"config.json"),
    "altered range": (
        put([-9.0] * 26, "robots", "panda", "low_D"),
        r"statistics of 'panda' were altered",
    ),
    "rate of nothing": (put(None, "robots", "panda", "control_hz"), r"config.json"),
    "robots as a list": (put([], "robots"), r"config.json"),
    "ranges of nothing": (put(None, "ranges"), r"config.json"),
    "codec as a list": (put([], "codec"), r"kind is None; expected one of"),
    "codec of nothing": (put(None, "codec"), r"kind is None; expected one of"),
    "other sizes": (put(128, "codec", "hidden"), r"does not fit its config.json"),
    "the other kind": (put("perceiver", "codec", "kind"), r"differs from the expected fields"),
    "unknown kind": (put("magic", "codec", "kind"), r"kind is 'magic'; expected one of \['gaussian', 'perceiver'\]"),
    "size as text": (put("128", "codec", "hidden"), r"hidden is '128'; expected a whole number from 1"),
    "size of 0": (put(0, "codec", "heads"), r"heads is 0; expected a whole number from 1"),
    "negative size": (put(-1, "codec", "codebook_size"), r"codebook_size is -1; expected a whole number from 1"),
    "a book of terabytes": (put(10**11, "codec", "codebook_size"), r"codebook_size is 100000000000; expected"),
    "more layers than make sense": (
        put(65, "codec", "encoder_layers"),
        r"encoder_layers is 65; expected a whole number",
    ),
    "a fraction of a level": (put(2.5, "codec", "levels"), r"levels is 2.5; expected a whole number"),
    "one level": (put(1, "codec", "levels"), r"a coarse level and at least one residual level are needed"),
    "noise of nan": (put(float("nan"), "codec", "coarse_noise"), r"coarse_noise is nan; expected"),
}


@pytest.mark.parametrize("alter, message", BAD_CONFIGS.values(), ids=BAD_CONFIGS)
def test_altered_configurations_are_refused(copy: Path, alter: Callable[[dict[str, Any]], Any], message: str) -> None:
    config = json.loads((copy / CONFIG).read_text())
    alter(config)
    (copy / CONFIG).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        Tokenizer.from_pretrained(copy)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe\x00", b"[" * 200_000, b"1" * 5000],
    ids=["empty", "cut", "list", "null", "binary", "deep", "long"],
)
def test_what_is_no_configuration_is_refused(copy: Path, content: bytes) -> None:
    (copy / CONFIG).write_bytes(content)
    with pytest.raises(ValueError, match=r"config.json is not"):
        Tokenizer.from_pretrained(copy)


def test_priors_of_another_shape_are_refused() -> None:
    """Even with a digest to match: whoever wrote the file could compute it."""
    prior = kit.quiet_codec().robots[kit.PANDA]
    for field, wrong in (
        ("factor_SKR", prior.factor_SKR[:, :-1]),
        ("mean_SK", prior.mean_SK[:32]),
        ("noise_MK", prior.noise_MK[:1]),
        ("activity_A", prior.activity_A[:1]),
    ):
        with pytest.raises(ValueError, match=rf"motion prior of 'panda' has {field} .*; expected"):
            replace(prior, **{field: wrong})


def test_presets_ship_under_their_size_and_round_trip() -> None:
    for layout in ("arms26", "joints"):
        with torch.device("meta"):
            tensors = GaussianCodec(small(layout)).state_dict()
        released = {name: value for name, value in tensors.items() if not is_training_state(name)}
        assert sum(4 * value.numel() for value in released.values()) < 14e6  # 20 MB a file, priors included
    assert (paper().hidden, paper().encoder_layers, paper().levels, paper().codebook_size) == (1024, 12, 4, 2048)
    assert CodecConfig.from_dict(json.loads(json.dumps(small().to_dict()))) == small()
