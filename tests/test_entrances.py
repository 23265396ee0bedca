"""Everything that takes numbers takes them exactly, or says what it found and expected. No library's error comes out.

# B chunks, T frames, D channels
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import codec_kit as kit
from xtok.actions.entrance import CoarseInputWarning, floats_of, integers_of, mask_of, number_of, whole_of
from xtok.actions.types import ChunkBatch, Codes
from xtok.adapters.authors import from_episode_dict, to_episode_dict
from xtok.adapters.openpi import CodesTokenizer
from xtok.adapters.wall_x import ActionCodes
from xtok.codec.channels import PLAIN, ChannelCodec, SaturationWarning
from xtok.codec.tokens import CodeMask, CodeStream, CodeVocabulary

B, T, D = 2, 16, 7
RNG = np.random.default_rng(0)
ACTIONS = np.cumsum(RNG.normal(0, 0.04, (B, T, D)), axis=1).clip(-1, 1)


@cache
def codec() -> ChannelCodec:
    return ChannelCodec.load()


@cache
def processor() -> Any:
    return pytest.importorskip("xtok.adapters.huggingface").ActionProcessor(codec())


@cache
def torchrl() -> Any:
    return pytest.importorskip("xtok.adapters.torchrl").ChunkTokenizer(codec(), horizon=T, action_dim=D)


@cache
def openpi() -> CodesTokenizer:
    text = SimpleNamespace(encode=lambda t, add_bos=False, add_eos=False: list(t.encode()), vocab_size=256)
    return CodesTokenizer(400, text_model=text, codec=codec())


@cache
def wall_x() -> ActionCodes:
    codes = ActionCodes()
    codes._tokenizer = codec()
    return codes


def deltas() -> torch.Tensor:
    context = kit.chunks(18)[:B].context
    from xtok.actions.delta import to_delta

    assert context.anchor_BD is not None
    target = kit.chunks(18)[:B].target_BTD
    return to_delta(kit.tokenizer().layout, target.double(), context.anchor_BD.double(), context.mask_BD)


def poses() -> dict[str, Any]:
    context = kit.chunks(18)[:B].context
    return {"robot_type": kit.PANDA, "dof_mask": context.mask_BD, "control_hz": 20.0}


def state() -> torch.Tensor:
    anchor = kit.chunks(18)[:B].context.anchor_BD
    assert anchor is not None
    return anchor


# Name -> (takes actions in any form, a good example of them as float64, its result as something to compare).
ENTRANCES: dict[str, tuple[Callable[[Any], Any], Callable[[], np.ndarray]]] = {
    "ActionProcessor": (lambda x: processor()(x), lambda: ACTIONS),
    "ActionProcessor [T, D]": (lambda x: processor()(x), lambda: ACTIONS[0]),
    "ChannelCodec.encode": (lambda x: codec().encode(x).tolist(), lambda: ACTIONS),
    "ChannelCodec.outside": (lambda x: codec().outside(x), lambda: ACTIONS),
    "torchrl": (lambda x: torchrl().encode(x).tolist(), lambda: ACTIONS),
    "openpi": (lambda x: openpi().tokenize("pick", np.zeros(3), x)[0].tolist(), lambda: ACTIONS[0]),
    "openpi state": (lambda x: openpi().tokenize("pick", x, None)[0].tolist(), lambda: ACTIONS[0, 0]),
    "wall_x": (lambda x: wall_x().encode_to_tokens(x), lambda: ACTIONS),
    "encode": (
        lambda x: (
            kit.tokenizer().encode(x, **poses()).tolist()
            if not isinstance(x, np.ndarray)
            else kit.tokenizer().encode_numpy(x, **poses()).tolist()
        ),
        lambda: deltas().numpy(),
    ),
    "encode_delta": (lambda x: kit.tokenizer().encode_delta(x, **poses()).tolist(), lambda: deltas().numpy()),
    "encode_numpy": (lambda x: kit.tokenizer().encode_numpy(x, **poses()).tolist(), lambda: deltas().numpy()),
    "reconstruct": (lambda x: kit.tokenizer().reconstruct(x, **poses()).tolist(), lambda: deltas().numpy()),
    "reconstruct_numpy": (lambda x: kit.tokenizer().reconstruct_numpy(x, **poses()).tolist(), lambda: deltas().numpy()),
    "encode_from_absolute": (
        lambda x: kit.tokenizer().encode_from_absolute(x, state(), **poses()).tolist(),
        lambda: kit.chunks(18)[:B].target_BTD.double().numpy(),
    ),
    "encode_from_absolute_numpy": (
        lambda x: kit.tokenizer().encode_from_absolute_numpy(x, state(), **poses()).tolist(),
        lambda: kit.chunks(18)[:B].target_BTD.double().numpy(),
    ),
    "obs_state": (
        lambda x: kit.tokenizer().encode_from_absolute(kit.chunks(18)[:B].target_BTD, x, **poses()).tolist(),
        lambda: state().double().numpy(),
    ),
    "chunks": (
        lambda x: kit.tokenizer().encode(ChunkBatch(x, kit.chunks(18)[:B].context)).tokens[0].tolist(),
        lambda: kit.chunks(18)[:B].target_BTD.double().numpy(),
    ),
    "anchor": (
        lambda x: (
            kit.tokenizer()
            .encode(ChunkBatch(kit.chunks(18)[:B].target_BTD, replace(kit.chunks(18)[:B].context, anchor_BD=x)))
            .tokens[0]
            .tolist()
        ),
        lambda: state().double().numpy(),
    ),
    "authors": (
        lambda x: to_episode_dict(x, kit.tokenizer().statistics[kit.PANDA].mask_D)[
            "follow_right_ee_cartesian_pos"
        ].tolist(),
        lambda: kit.chunks(18)[:1].target_BTD[0].double().numpy(),
    ),
    "authors back": (
        lambda x: from_episode_dict({"follow_right_ee_cartesian_pos": x}).absolute_ND.tolist(),
        lambda: kit.chunks(18)[:1].target_BTD[0, :, 10:13].double().numpy(),
    ),
}


class Lies:
    """Claims to be an array."""

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise RuntimeError("no")


def with_gradient(x: np.ndarray) -> torch.Tensor:
    return torch.tensor(x, requires_grad=True)


# Forms that hold the very same numbers as the float64 array that they are made of.
GOOD: dict[str, Callable[[np.ndarray], Any]] = {
    "torch": torch.tensor,
    "gradient": with_gradient,
    "parameter": lambda x: torch.nn.Parameter(torch.tensor(x)),
    "result with gradient": lambda x: with_gradient(x) * 1,
    "conjugate view": lambda x: torch.complex(torch.tensor(x), torch.zeros(x.shape).double()).conj().real,
    "negative view": lambda x: torch._neg_view(torch.tensor(-x)),
    "list": lambda x: x.tolist(),
    "tuple": lambda x: tuple(x.tolist()),
    "list of tensors": lambda x: [torch.tensor(row) for row in x],
    "list of arrays": list,
    "list of gradients": lambda x: [with_gradient(row) for row in x],
    "object": lambda x: np.array(x.tolist(), dtype=object),
    "longdouble": lambda x: x.astype(np.longdouble),
    "big-endian": lambda x: x.astype(">f8"),
    "Fortran order": np.asfortranarray,
    "negative strides": lambda x: x[..., ::-1].copy()[..., ::-1],
    "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "torch strided": lambda x: torch.tensor(np.repeat(x, 2, axis=-1))[..., ::2],
    "torch transposed": lambda x: torch.tensor(np.ascontiguousarray(x.T)).permute(*reversed(range(x.ndim))),
    "read-only": lambda x: np.broadcast_to(x, x.shape),
    "inference tensor": lambda x: _in_inference_mode(x),
    "masked array of nothing": lambda x: np.ma.masked_array(x, mask=False),
}


def _in_inference_mode(x: np.ndarray) -> torch.Tensor:
    with torch.inference_mode():
        return torch.tensor(x) * 1


BAD: dict[str, Callable[[np.ndarray], Any]] = {
    "None": lambda x: None,
    "text": lambda x: "actions",
    "bytes": lambda x: b"actions",
    "dict": lambda x: {"actions": x},
    "a class": lambda x: np.ndarray,
    "an object": lambda x: object(),
    "lies": lambda x: Lies(),
    "generator": lambda x: (row for row in x),
    "texts": lambda x: np.full(x.shape, "a"),
    "text in a list": lambda x: [*x.tolist()[:-1], "a"],
    "None in a list": lambda x: [*x.tolist()[:-1], None],
    "None in an array": lambda x: np.array([*x.ravel().tolist()[:-1], None], dtype=object).reshape(x.shape),
    "dates": lambda x: np.full(x.shape, np.datetime64("2026-01-01")),
    "complex": lambda x: x.astype(complex),
    "torch complex": lambda x: torch.tensor(x).to(torch.complex64),
    "truth values": lambda x: x > 0,
    "torch truth values": lambda x: torch.tensor(x) > 0,
    "nan": lambda x: np.full(x.shape, np.nan),
    "torch nan": lambda x: torch.full(x.shape, torch.nan),
    "bfloat16 nan": lambda x: torch.full(x.shape, torch.nan, dtype=torch.bfloat16),
    "inf": lambda x: np.full(x.shape, np.inf),
    "meta": lambda x: torch.zeros(x.shape, device="meta"),
    "list of meta": lambda x: [torch.zeros(row.shape, device="meta") for row in x],
    "sparse": lambda x: torch.tensor(x).to_sparse(),
    "quantized": lambda x: torch.quantize_per_tensor(torch.tensor(x).float(), 0.1, 0, torch.qint8),
    "nested": lambda x: torch.nested.nested_tensor([torch.tensor(row) for row in x]) if x.ndim > 1 else None,
    "float8": lambda x: torch.tensor(x).to(torch.float8_e4m3fn),
    "ragged": lambda x: [x[0].tolist(), x[:1].tolist()] if x.ndim > 1 else [[1.0], [1.0, 2.0]],
    "ragged tensors": lambda x: [torch.tensor(x[0]), torch.tensor(x[0][:-1])] if x.ndim > 1 else None,
    "0-d": lambda x: np.float64(0.5),
    "torch 0-d": lambda x: torch.tensor(0.5),
    "a number": lambda x: 0.5,
    "one rank more": lambda x: x[None, None],
    "no rows": lambda x: x[:0],
    "no channels": lambda x: x[..., :0],
    "empty list": lambda x: [],
    "masked array": lambda x: np.ma.masked_array(x, mask=x == x),
    "integers beyond": lambda x: np.full(x.shape, 2**63, dtype=np.uint64),
    "huge integers": lambda x: [[2**70]],
}
# What a form means is fine for these, or nothing that they could see.
FINE = {
    ("openpi", "None"),  # no actions: a prompt alone
    ("obs_state", "None"),  # encode_from_absolute says that it needs one
    ("openpi state", "no rows"),  # a state of no channels
    ("openpi state", "no channels"),
    ("openpi state", "empty list"),
    ("wall_x", "no rows"),  # no samples, no tokens
    ("wall_x", "empty list"),
    ("ChannelCodec.outside", "no rows"),
    ("ChannelCodec.outside", "one rank more"),
    ("ChannelCodec.outside", "nan"),
    ("ChannelCodec.outside", "torch nan"),
    ("ChannelCodec.outside", "bfloat16 nan"),
    ("ChannelCodec.outside", "inf"),
    ("torchrl", "one rank more"),
    ("wall_x", "generator"),
    ("wall_x", "ragged tensors"),  # samples may differ in length
    ("wall_x", "nested"),
}


@pytest.mark.parametrize("form", GOOD)
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_the_same_numbers_mean_the_same_in_every_form(entrance: str, form: str) -> None:
    take, example = ENTRANCES[entrance]
    if entrance == "chunks" and form in ("list", "tuple", "list of tensors", "list of arrays", "list of gradients"):
        pytest.skip("a ChunkBatch holds a tensor or an array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert take(GOOD[form](example())) == take(torch.from_numpy(example()))


@pytest.mark.parametrize("form", BAD)
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_what_cannot_be_meant_is_a_value_error_of_ours(entrance: str, form: str) -> None:
    take, example = ENTRANCES[entrance]
    bad = BAD[form](example())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", CoarseInputWarning)
        if (entrance, form) in FINE:
            try:
                take(bad)
            except ValueError as error:
                assert str(error)
            return
        with pytest.raises(ValueError) as caught:
            take(bad)
    # Said by us, in terms of what was given: not by numpy or torch.
    frame = caught.traceback[-1]
    assert "/xtok/" in str(frame.path), str(caught.value)
    assert len(str(caught.value)) > 20


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, np.float16])
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_half_precision_is_widened_exactly_and_said(entrance: str, dtype: Any) -> None:
    take, example = ENTRANCES[entrance]
    coarse = torch.from_numpy(example()).to(dtype if isinstance(dtype, torch.dtype) else torch.float16)
    given = coarse if isinstance(dtype, torch.dtype) else coarse.numpy()
    if entrance == "encode" and not isinstance(given, torch.Tensor):
        pytest.skip("encode takes tensors")
    with pytest.warns(CoarseInputWarning, match=r"float16: values from 0.5 to 1 m stand .* mm apart") as caught:
        found = take(given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found == take(coarse.double())
    assert {warning.filename for warning in caught if warning.category is CoarseInputWarning} == {__file__}


def test_lists_of_half_precision_are_said_too() -> None:
    rows = [torch.tensor(row).bfloat16() for row in ACTIONS]
    with pytest.warns(CoarseInputWarning, match="bfloat16"):
        assert codec().encode(rows).tolist() == codec().encode(torch.stack(rows).double()).tolist()


@settings(max_examples=60, deadline=None)
@given(
    entrance=st.sampled_from(sorted(ENTRANCES)),
    shape=st.lists(st.integers(0, 4), max_size=4),
    dtype=st.sampled_from(["f2", "f4", "f8", "g", "?", "i1", "u2", "i8", "u8", "c8", "U3", "O", "M8[s]", ">i4"]),
    as_list=st.booleans(),
)
def test_any_shape_and_dtype_is_taken_or_refused(entrance: str, shape: list[int], dtype: str, as_list: bool) -> None:
    array = np.zeros(shape, dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ENTRANCES[entrance][0](array.tolist() if as_list else array)
        except ValueError as error:
            assert str(error)


def test_integers_are_numbers() -> None:
    whole = (ACTIONS * 3).round().clip(-1, 1)
    for dtype in (np.int8, np.int32, np.int64, ">i2"):
        assert codec().encode(whole.astype(dtype)).tolist() == codec().encode(whole).tolist()
    unsigned = np.abs(whole)
    for kind in (torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int16):
        given = torch.from_numpy(unsigned).to(torch.int64).to(kind)
        assert codec().encode(given).tolist() == codec().encode(unsigned).tolist()


# -- ids going in -----------------------------------------------------------------------------------------------------


def decoders() -> dict[str, tuple[Callable[[Any], Any], np.ndarray]]:
    grid = codec().encode(ACTIONS)
    flat = grid.reshape(B, -1)
    pose_grid = kit.tokenizer().encode_delta(deltas(), **poses()).numpy()
    rest = {**poses(), "target_length": 18}
    text = CodeVocabulary(256)
    ids = np.array(text.ids(Codes(tuple(flat), 2048)))
    return {
        "ActionProcessor": (lambda x: processor().decode(x, time_horizon=T, action_dim=D).tolist(), flat),
        "ChannelCodec": (lambda x: codec().decode(x, T, D).tolist(), flat),
        "torchrl": (lambda x: torchrl().decode(x).tolist(), grid),
        "decode": (lambda x: kit.tokenizer().decode(x, **rest).tolist(), pose_grid),
        "decode_delta": (lambda x: kit.tokenizer().decode_delta(x, **rest).tolist(), pose_grid),
        "decode_numpy": (lambda x: kit.tokenizer().decode_numpy(x, **rest).tolist(), pose_grid),
        "decode_to_absolute": (
            lambda x: kit.tokenizer().decode_to_absolute(x, obs_state=state(), **rest).tolist(),
            pose_grid,
        ),
        "from_grid": (lambda x: Codes.from_grid(x, 256).tokens[0].tolist(), pose_grid),
        "openpi": (lambda x: openpi().extract_actions(x, T, D).tolist(), ids[0]),
        "vocabulary": (lambda x: text.codes(x).tokens[0].tolist(), ids),
    }


GOOD_IDS: dict[str, Callable[[np.ndarray], Any]] = {
    "torch": torch.tensor,
    "int32": lambda x: x.astype(np.int32),
    "uint16": lambda x: x.astype(np.uint16),
    "torch uint16": lambda x: torch.tensor(x).to(torch.uint16),
    "uint64": lambda x: x.astype(np.uint64),
    "big-endian": lambda x: x.astype(">i4"),
    "list": lambda x: x.tolist(),
    "list of tensors": lambda x: [torch.tensor(row) for row in x],
    "object": lambda x: np.array(x.tolist(), dtype=object),
    "strided": lambda x: np.repeat(x, 2, axis=0)[::2],
}
BAD_IDS: dict[str, Callable[[np.ndarray], Any]] = {
    **{
        name: BAD[name]
        for name in (
            "None",
            "text",
            "dict",
            "an object",
            "lies",
            "texts",
            "None in a list",
            "complex",
            "truth values",
            "torch truth values",
            "meta",
            "sparse",
            "ragged",
            "0-d",
            "torch 0-d",
            "a number",
            "one rank more",
            "no channels",
            "empty list",
            "huge integers",
            "nan",
        )
    },
    "floats": lambda x: x.astype(float),
    "fractions": lambda x: x + 0.5,
    "torch floats": lambda x: torch.tensor(x).float(),
    "bfloat16": lambda x: torch.tensor(x).bfloat16(),
    "gradient": lambda x: torch.tensor(x).double().requires_grad_(),
    "negative": lambda x: -1 - x,
    "beyond the book": lambda x: x + 100_000,
    "beyond int64": lambda x: np.full(x.shape, 2**63, dtype=np.uint64),
}
FINE_IDS = {
    ("from_grid", "negative"),  # looked at when they are decoded
    ("from_grid", "beyond the book"),
    ("from_grid", "no channels"),
    ("from_grid", "empty list"),
    ("torchrl", "one rank more"),
    ("openpi", "one rank more"),
    ("vocabulary", "empty list"),
}


@pytest.mark.parametrize("form", GOOD_IDS)
@pytest.mark.parametrize("entrance", decoders())
def test_the_same_ids_mean_the_same_in_every_form(entrance: str, form: str) -> None:
    take, ids = decoders()[entrance]
    assert take(GOOD_IDS[form](ids)) == take(ids)


@pytest.mark.parametrize("form", BAD_IDS)
@pytest.mark.parametrize("entrance", decoders())
def test_ids_that_cannot_be_are_a_value_error_of_ours(entrance: str, form: str) -> None:
    take, ids = decoders()[entrance]
    bad = BAD_IDS[form](ids)
    if (entrance, form) in FINE_IDS:
        return
    with pytest.raises(ValueError) as caught:
        take(bad)
    assert "/xtok/" in str(caught.traceback[-1].path), str(caught.value)


def test_codes_with_odd_tokens_are_refused() -> None:
    context = kit.chunks(18)[:1].context
    for odd in (
        None,
        "text",
        Lies(),
        torch.zeros(20, dtype=torch.bfloat16),
        [[1], [1, 2]],
        torch.zeros(20, device="meta"),
    ):
        with pytest.raises(ValueError, match=r"sequence 0|expected"):
            kit.tokenizer().decode(Codes((odd,), kit.CODES), context)  # type: ignore[arg-type]


# -- numbers beside the actions ---------------------------------------------------------------------------------------

NOT_WHOLE = [0, -1, 1.5, 7.0, True, "7", None, [7], np.array([7, 7]), torch.tensor(7.0), torch.tensor(True), 10**30, 1j]
WHOLE = [T, np.int32(T), np.uint8(T), np.array(T), torch.tensor(T)]


@pytest.mark.parametrize("bad", NOT_WHOLE, ids=repr)
def test_lengths_and_widths_are_whole_numbers_in_range(bad: Any) -> None:
    flat = codec().encode(ACTIONS).reshape(B, -1)
    grid = kit.tokenizer().encode_delta(deltas(), **poses())
    pair = CodeVocabulary(256)
    calls: dict[str, Callable[[], Any]] = {
        "ChannelCodec.decode T": lambda: codec().decode(flat, bad, D),
        "ChannelCodec.decode D": lambda: codec().decode(flat, T, bad),
        "tokens_per_chunk": lambda: processor().tokens_per_chunk(bad),
        "openpi T": lambda: openpi().extract_actions(np.array(pair.ids(Codes((flat[0],), 2048))[0]), bad, D),
        "wall_x T": lambda: wall_x().decode_action(torch.tensor(flat[:1]), {}, bad, D, "cpu"),
        "wall_x D": lambda: wall_x().decode_action(torch.tensor(flat[:1]), {}, T, bad, "cpu"),
        "target_length": lambda: kit.tokenizer().decode_delta(grid, bad, **poses()),
        "horizon": lambda: kit.tokenizer().encode(
            ChunkBatch(kit.chunks(18)[:B].target_BTD, replace(kit.chunks(18)[:B].context, horizon=bad))
        ),
    }
    if not isinstance(bad, int) or bad < 10**30:  # as many slots as anyone likes
        calls["CodeMask"] = lambda: CodeMask(pair, bad, 0)
    if bad is not None:  # not told
        calls["ActionProcessor.decode T"] = lambda: processor().decode(flat, time_horizon=bad, action_dim=D)
        calls["ActionProcessor.decode D"] = lambda: processor().decode(flat, time_horizon=T, action_dim=bad)
        calls["levels"] = lambda: kit.tokenizer().decode_delta(grid, 18, bad, **poses())
        calls["ChannelCodec levels"] = lambda: codec().decode(flat, T, D, bad)
        calls["fit T"] = lambda: type(processor()).fit(list(ACTIONS), time_horizon=bad)
        calls["fit D"] = lambda: type(processor()).fit(list(ACTIONS), action_dim=bad)
        calls["torchrl D"] = lambda: type(torchrl())(codec(), horizon=T, action_dim=bad)
    calls["torchrl T"] = lambda: type(torchrl())(codec(), horizon=bad, action_dim=D)
    for name, call in calls.items():
        try:
            call()
        except ValueError as error:
            assert "/xtok/" in traceback.extract_tb(error.__traceback__)[-1].filename, (name, str(error))
        else:
            pytest.fail(f"{name} took {bad!r}")


@pytest.mark.parametrize("good", WHOLE, ids=repr)
def test_whole_numbers_of_every_kind_are_taken(good: Any) -> None:
    flat = codec().encode(ACTIONS).reshape(B, -1)
    assert (codec().decode(flat, good, D) == codec().decode(flat, T, D)).all()
    assert processor().decode(flat, time_horizon=good, action_dim=D).shape == (B, T, D)
    assert type(torchrl())(codec(), horizon=good, action_dim=D).horizon == T


@pytest.mark.parametrize("rate", [0, -20.0, float("nan"), float("inf"), "20", None, True, [20.0], 1j, {}], ids=repr)
def test_rates_are_numbers_above_zero(rate: Any) -> None:
    if rate is None:
        return  # the robot's own
    with pytest.raises(ValueError, match="control_hz is"):
        kit.tokenizer().encode_delta(deltas(), kit.PANDA, control_hz=rate)


@pytest.mark.parametrize("rate", [20, 20.0, np.float32(20), np.array(20), torch.tensor(20.0)], ids=repr)
def test_rates_of_every_kind_are_taken(rate: Any) -> None:
    known = {"robot_type": kit.PANDA, "dof_mask": poses()["dof_mask"]}
    found = kit.tokenizer().encode_delta(deltas(), control_hz=rate, **known)
    assert torch.equal(found, kit.tokenizer().encode_delta(deltas(), control_hz=20.0, **known))


@pytest.mark.parametrize("mask", [0.5, 2, "a", "complex", "ragged"])
def test_masks_are_true_or_false(mask: Any) -> None:
    bad = {"a": np.full(26, "a"), "complex": np.ones(26, complex), "ragged": [[1], [1, 0]]}.get(mask)
    with pytest.raises(ValueError, match="dof_mask"):
        kit.tokenizer().encode_delta(deltas(), kit.PANDA, dof_mask=np.full(26, mask) if bad is None else bad)


def test_masks_of_every_kind_are_taken() -> None:
    mask = poses()["dof_mask"]
    expected = kit.tokenizer().encode_delta(deltas(), kit.PANDA, dof_mask=mask)
    for kind in (
        mask.float(),
        mask.int(),
        mask.numpy(),
        mask.tolist(),
        mask[0],
        mask.bfloat16(),
        mask[0].int().tolist(),
    ):
        assert torch.equal(kit.tokenizer().encode_delta(deltas(), kit.PANDA, dof_mask=kind), expected)


BAD_CONTEXTS: dict[str, dict[str, Any]] = {
    "one name for all": {"embodiment": "panda"},
    "no text": {"embodiment": (1, 2)},
    "names too few": {"embodiment": ("panda",)},
    "mask of one chunk": {"mask_BD": torch.ones(26, dtype=torch.bool)},
    "mask of halves": {"mask_BD": torch.full((B, 26), 0.5)},
    "one state": {"anchor_BD": torch.zeros(26)},
    "states as text": {"anchor_BD": "state"},
    "one rate": {"control_hz_B": 20.0},
    "rates too many": {"control_hz_B": torch.full((3,), 20.0)},
    "rates as text": {"control_hz_B": "20"},
    "no rates": {"control_hz_B": None},
    "fraction of a frame": {"horizon": 18.5},
    "layout by name": {"layout": "arms26"},
}


@pytest.mark.parametrize("case", BAD_CONTEXTS)
def test_contexts_that_cannot_be_are_refused(case: str) -> None:
    good = kit.chunks(18)[:B]
    codes = kit.tokenizer().encode(good)
    bad = replace(good.context, **BAD_CONTEXTS[case])
    chunks = object.__new__(ChunkBatch)
    object.__setattr__(chunks, "target_BTD", good.target_BTD)
    object.__setattr__(chunks, "context", bad)
    for call in (
        lambda: kit.tokenizer().encode(chunks),
        lambda: kit.tokenizer().decode(codes, bad),
        lambda: kit.tokenizer().saturation(chunks),
    ):
        with pytest.raises(ValueError) as caught:
            call()
        assert "/xtok/" in str(caught.traceback[-1].path), str(caught.value)


@pytest.mark.parametrize("bad", [None, "context", {}, 3], ids=repr)
def test_what_is_no_context_or_no_batch_is_refused(bad: Any) -> None:
    codes = kit.tokenizer().encode(kit.chunks(18)[:B])
    with pytest.raises(ValueError, match="context"):
        kit.tokenizer().decode(codes, bad)
    with pytest.raises(ValueError, match=r"expect"):
        kit.tokenizer().encode(bad)
    with pytest.raises(ValueError, match="expected"):
        ChunkBatch(kit.chunks(18)[:B].target_BTD, bad)
    with pytest.raises(ValueError, match="expected"):
        ChunkBatch(bad, kit.chunks(18)[:B].context)
    with pytest.raises(ValueError, match="expected"):
        CodeStream(CodeVocabulary(0, 4, kit.CODES), kit.tokenizer(), bad)


def test_the_converters_by_themselves() -> None:
    assert floats_of([1, 2], "x", "[N]").dtype == torch.float64
    assert floats_of(np.float32([1, 2]), "x", "[N]").dtype == torch.float32
    assert integers_of(np.uint8([1]), "x", "[N]").dtype == torch.int64
    assert mask_of([0, 1], "x", "[N]").tolist() == [False, True]
    assert number_of(np.array(3), "x") == 3.0
    assert whole_of(torch.tensor(3), "x", 0, 3) == 3
    with pytest.raises(ValueError, match="x is 4; expected a whole number from 0 to 3"):
        whole_of(4, "x", 0, 3)
    with pytest.raises(ValueError, match=r"x: found integers up to 9007199254740993; expected numbers \[N\]"):
        floats_of([2**53 + 1], "x", "[N]")


# -- the vocabulary ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [1.5, 7.0, -1, True, "7", None, [7], np.float32(7), float("nan"), 1j], ids=repr)
def test_offsets_and_counts_are_whole_numbers(bad: Any) -> None:
    for field in ("offset", "levels", "codebook_size"):
        with pytest.raises(ValueError, match=r"is .*expected"):
            CodeVocabulary(**{"offset": 10, field: bad})
    with pytest.raises(ValueError, match="marker"):
        CodeVocabulary(10, marker=1)  # type: ignore[arg-type]
    words = CodeVocabulary(10)
    calls: list[Callable[[], Any]] = [lambda: words.token(bad), lambda: CodeMask(words, 2, bad)]
    if bad not in (-1, True):  # an id of text; a number to Python
        calls.append(lambda: words.codes([[10, bad]]))
    for call in calls:
        with pytest.raises(ValueError):
            call()


def test_offsets_of_numpy_are_taken_and_are_plain_numbers() -> None:
    words = CodeVocabulary(np.int64(10), np.int32(4), np.uint16(16))  # type: ignore[arg-type]
    assert words == CodeVocabulary(10, 4, 16)
    assert {type(words.offset), type(words.levels), type(words.codebook_size)} == {int}


def test_ids_that_overlap_with_text_are_refused() -> None:
    words = CodeVocabulary(200, codebook_size=8)
    with pytest.raises(ValueError, match=r"text has id 205, and ids of codes are 200 to 231: they overlap"):
        CodeMask(words, 2, 0, end_id=205)
    CodeMask(words, 2, 0, end_id=232)
    with pytest.raises(ValueError, match="end_id is 500; the language model has 300 ids"):
        CodeMask(words, 2, 0, end_id=500)(torch.zeros(1, 8, dtype=torch.long), torch.zeros(1, 300))
    text = SimpleNamespace(encode=lambda t, add_bos=False, add_eos=False: list(t.encode()), vocab_size=100)
    with pytest.raises(ValueError, match="they overlap"):  # a text tokenizer that says too small a size
        CodesTokenizer(400, text_model=text, codec=codec()).tokenize("zap", np.zeros(3), ACTIONS[0])
    with pytest.raises(ValueError, match="get_vocab"):
        CodeVocabulary.append_to({"a": 1})


def test_states_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="state has nan in it"):
        openpi().tokenize("pick", np.array([0.0, np.nan]), None)


# -- values out of range ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 1.3, PLAIN])
def test_values_about_the_range_are_coded_without_a_word(scale: float) -> None:
    given = ACTIONS / np.abs(ACTIONS).max() * scale
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codec().encode(given)
    assert codec().outside(given) is None


@pytest.mark.parametrize("scale", [6.0, 60.0, 1e6, 1e30])
@pytest.mark.parametrize("shape", ["all", "offset"])
def test_values_of_another_unit_are_refused_with_their_share(scale: float, shape: str) -> None:
    given = np.sign(ACTIONS) * scale if shape == "all" else ACTIONS + scale
    with pytest.raises(ValueError, match=r"100.00% of the values lie outside \[-2, 2\].*normalise by quantiles"):
        processor()(given)


@pytest.mark.parametrize("value", [2.1, 3.0, -6.0, 10.0])
def test_outliers_are_coded_and_said_with_their_share(value: float) -> None:
    given = ACTIONS.copy()
    given[1, 3, 4] = value
    with pytest.warns(SaturationWarning, match=rf"0.45% of the values.*largest is {value:g} in channel 4.*quantiles"):
        processor()(given)
    found = codec().outside(given)
    assert found is not None and (found.largest, found.channel) == (value, 4)
    assert found.share == pytest.approx(1 / given.size)


def test_a_lone_value_far_out_is_refused() -> None:
    given = ACTIONS.copy()
    given[0, 0, 0] = 60.0
    with pytest.raises(ValueError, match="the largest is 60 in channel 0"):
        processor()(given)


def test_the_limits_of_the_words_are_where_errors_grow() -> None:
    """In range the error of held motion is a few parts in a hundred of the range; where it is refused, it is not."""
    smooth = 0.8 * np.sin(np.linspace(0, 3, 32))[None, :, None] * np.linspace(0.3, 1, D)

    def error(scale: float) -> float:
        bare = ChannelCodec.load()
        bare._check_range = lambda array: None  # type: ignore[method-assign]
        given = smooth * scale
        back = bare.decode(bare.encode(given).reshape(1, -1), 32, D)
        return float(np.abs(back - given).max() / np.abs(given).max())

    assert error(1.0) < 0.15 and error(PLAIN / 0.8) < 0.25
    assert error(12.0) > 0.3 and error(75.0) > 0.6


@pytest.mark.parametrize("frames", range(1, 65))
def test_tokens_are_as_many_as_the_docs_say(frames: int) -> None:
    proc = processor()
    expected = 4 * (1 + max(2, -(-frames // 4)))
    given = np.resize(ACTIONS, (frames, D))
    assert len(proc(given)[0]) == proc.tokens_per_chunk(frames) == expected
    assert proc.decode(proc(given), time_horizon=frames, action_dim=D).shape == (1, frames, D)
