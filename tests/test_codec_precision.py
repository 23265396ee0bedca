"""Codes are a format: nothing that a host does to the codec, or to torch, changes one without a word.

# B chunks, T frames, D channels
"""

from __future__ import annotations

import copy
import pickle
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import codec_kit as kit
from xtok import Tokenizer
from xtok.actions.types import ChunkBatch
from xtok.codec.base import Codec
from xtok.codec.channels import ChannelCodec
from xtok.codec.config import paper
from xtok.codec.perceiver import PerceiverCodec

LAYOUTS = ("arms26", "joints")


@cache
def batch(layout: str) -> ChunkBatch:
    if layout == "arms26":
        return kit.chunks(18)[:6]
    frames = torch.from_numpy(kit.smooth_joints(18, count=6, seed=0))
    mask = torch.zeros(6, 64, dtype=torch.bool)
    mask[:, :6], mask[:, 60] = True, True
    from xtok.actions.layout import JOINTS
    from xtok.actions.types import Context

    context = Context(JOINTS, frames[:, 0], mask, torch.full((6,), 10.0), ("cr5",) * 6, 18)
    return ChunkBatch(frames[:, 1:], context)


def signature(tokenizer: Tokenizer) -> tuple[Any, ...]:
    """All that is to stay: codes, motion by every level, digest."""
    chunks = batch(tokenizer.layout.name)
    codes = tokenizer.encode(chunks)
    assert codes.grid_BMQ is not None
    out: list[Any] = [tokenizer.digest, codes.grid_BMQ.tolist()]
    for levels in (1, tokenizer.levels):
        actions = tokenizer.decode(codes, chunks.context, levels)
        assert actions.absolute_BTD is not None
        out += [actions.absolute_BTD.tolist(), actions.delta_BTD.tolist(), str(actions.delta_BTD.dtype)]
    generic = kit.renamed(chunks, "none")
    out.append(tokenizer.encode(generic).tokens[0].tolist())  # the prior that serves robots nobody measured
    return tuple(out)


@cache
def shipped(layout: str) -> tuple[Any, ...]:
    return signature(Tokenizer.from_pretrained(layout))


class Policy(nn.Module):
    """A policy that holds the codec among its own layers."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.head = nn.Linear(4, 4)
        self.inner = nn.ModuleDict({"codec": tokenizer.codec})


# -- casts ------------------------------------------------------------------------------------------------------------

CASTS: dict[str, Callable[[nn.Module], object]] = {
    "bfloat16": lambda m: m.bfloat16(),
    "half": lambda m: m.half(),
    "double": lambda m: m.double(),
    "to(dtype)": lambda m: m.to(torch.bfloat16),
    "to(device, dtype)": lambda m: m.to("cpu", torch.float16),
    "to(tensor)": lambda m: m.to(torch.zeros(1, dtype=torch.bfloat16)),
    "type": lambda m: m.type(torch.bfloat16),
    "_apply": lambda m: m._apply(lambda t: t.bfloat16() if t.is_floating_point() else t),
    "twice": lambda m: m.half().float(),
    "share_memory": lambda m: m.share_memory(),
}


@pytest.mark.parametrize("where", ["codec", "parent"])
@pytest.mark.parametrize("cast", CASTS.values(), ids=CASTS)
def test_a_cast_leaves_codes_motion_and_digest_as_they_were(cast: Callable[[nn.Module], object], where: str) -> None:
    tokenizer = Tokenizer(kit.fresh_codec())
    before = signature(tokenizer)
    policy = Policy(tokenizer)
    cast(policy if where == "parent" else tokenizer.codec)
    if where == "parent" and cast is not CASTS["share_memory"] and cast is not CASTS["twice"]:
        assert policy.head.weight.dtype != torch.float32  # the policy itself is cast as it asked
    assert signature(tokenizer) == before


@pytest.mark.parametrize("part", ["coarse", "residual"])
def test_books_keep_their_digits_by_themselves(part: str) -> None:
    tokenizer = Tokenizer(kit.fresh_codec())
    before = signature(tokenizer)
    getattr(tokenizer.codec, part).bfloat16()
    getattr(tokenizer.codec, part).shared.half()
    assert signature(tokenizer) == before


def replace_data(codec: Codec) -> None:
    for tensor in (*codec.parameters(), *codec.buffers()):
        tensor.data = tensor.data.bfloat16()


def lose_and_regain(codec: Codec) -> None:
    for parameter in codec.parameters():
        parameter.data = parameter.data.bfloat16().float()


def cast_linears(codec: Codec) -> None:
    """As mixed-precision set-ups do, layer by layer."""
    for module in codec.modules():
        if isinstance(module, nn.Linear):
            module.bfloat16()


def reinitialise(codec: Codec) -> None:
    """As a host's init_weights does to all that it holds."""
    for module in codec.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)


@torch.no_grad()
def average(codec: Codec) -> None:
    """As a moving average of a policy's weights does."""
    for parameter in codec.parameters():
        parameter.lerp_(torch.ones_like(parameter), 1e-3)


def step(codec: Codec) -> None:
    optimizer = torch.optim.AdamW(codec.parameters(), lr=1e-3)
    sum(p.square().sum() for p in codec.parameters()).backward()
    optimizer.step()


WRITES: dict[str, tuple[Callable[[Codec], object], str]] = {
    "data replaced": (replace_data, r"is torch.bfloat16; books and networks are float32.*from_pretrained"),
    "linears cast": (cast_linears, r"weight is torch.bfloat16"),
    "rounded and back": (lose_and_regain, r"not those that this tokenizer began with"),
    "initialised anew": (reinitialise, r"not those that this tokenizer began with.*Tokenizer\(codec\)"),
    "averaged": (average, r"not those that this tokenizer began with"),
    "trained": (step, r"not those that this tokenizer began with"),
    "meta": (lambda codec: codec.to("meta"), r"on the device 'meta' and has no values any more"),
    "emptied": (lambda codec: codec.to("meta").to_empty(device="cpu"), r"not those that|finite"),
    "a book": (lambda codec: codec.coarse.shared.books_QVC.mul_(1.01), r"not those that this tokenizer began with"),
}


@pytest.mark.parametrize("write, message", WRITES.values(), ids=WRITES)
def test_what_is_written_past_the_module_is_found_before_the_next_code(
    write: Callable[[Codec], object], message: str
) -> None:
    tokenizer, chunks = Tokenizer(kit.fresh_codec()), batch("arms26")
    codes = tokenizer.encode(chunks)
    write(tokenizer.codec)
    for again in (tokenizer, copy.deepcopy(tokenizer)):
        with pytest.raises(ValueError, match=message):
            again.encode(chunks)
        with pytest.raises(ValueError, match=message):
            again.decode(codes, chunks.context)


def test_the_digest_is_of_what_codes_now() -> None:
    tokenizer = Tokenizer(kit.fresh_codec())
    before = tokenizer.digest
    average(tokenizer.codec)
    assert tokenizer.digest != before
    assert Tokenizer(tokenizer.codec).digest == tokenizer.digest
    Tokenizer(tokenizer.codec).encode(batch("arms26"))  # what was meant is coded by a tokenizer of its own
    replace_data(tokenizer.codec)
    with pytest.raises(ValueError, match=r"torch.bfloat16"):
        tokenizer.digest  # noqa: B018 - it computes


# -- state dicts ------------------------------------------------------------------------------------------------------


def in_dtype(state: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_policys_checkpoint_in_another_precision_leaves_the_codec_exact(dtype: torch.dtype, assign: bool) -> None:
    tokenizer = Tokenizer(kit.fresh_codec())
    before, policy = signature(tokenizer), Policy(tokenizer)
    state = in_dtype(policy.state_dict(), dtype)
    exact = dtype == torch.float64
    with nullcontext() if exact else pytest.warns(UserWarning, match="rounded copies of what the codec holds"):
        policy.load_state_dict(state, assign=assign)
    assert signature(tokenizer) == before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_rounded_checkpoint_of_other_weights_is_refused(dtype: torch.dtype) -> None:
    tokenizer, other = Tokenizer(kit.fresh_codec()), kit.fresh_codec()
    average(other)
    with pytest.raises(ValueError, match=r"in the state dict is torch\.b?float16, and not a copy of what is here"):
        tokenizer.codec.load_state_dict(in_dtype(other.state_dict(), dtype))


def test_a_checkpoint_of_a_cast_policy_is_exact() -> None:
    """What the cast policy saves is float32 for the codec, and so comes back whole."""
    tokenizer, again = Tokenizer(kit.fresh_codec()), Tokenizer(kit.fresh_codec())
    state = Policy(tokenizer).bfloat16().state_dict()
    Policy(again).bfloat16().load_state_dict(state)
    assert signature(again) == signature(tokenizer)


# -- copies and wrappers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_copies_and_pickles_code_alike_and_stay_on_guard(layout: str) -> None:
    tokenizer = Tokenizer.from_pretrained(layout)
    tokenizer.encode(batch(layout))
    for other in (copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer)), copy.copy(tokenizer)):
        assert signature(other) == shipped(layout)
    other = pickle.loads(pickle.dumps(tokenizer))
    average(other.codec)
    if layout == "joints":  # closed forms alone: there is no network to average
        other.codec.quantizers[0].books_QVC.mul_(1.01)
    with pytest.raises(ValueError, match="not those that"):
        other.encode(batch(layout))


def test_a_policy_in_ddp_and_accelerate_codes_as_before(tmp_path: Path) -> None:
    import torch.distributed as dist

    tokenizer = Tokenizer(kit.fresh_codec())
    before = signature(tokenizer)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(Policy(tokenizer).bfloat16(), find_unused_parameters=True)
        wrapped.module.head(torch.zeros(1, 4, dtype=torch.bfloat16)).sum().backward()
        torch.optim.AdamW(wrapped.parameters(), weight_decay=0.1).step()  # what has no gradient is not decayed
    finally:
        dist.destroy_process_group()
    assert signature(tokenizer) == before


# -- the state of the process -----------------------------------------------------------------------------------------


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def empty_weights() -> Iterator[None]:
    """What accelerate does while a model is built: parameters that are registered become empty."""
    accelerate = pytest.importorskip("accelerate")
    with accelerate.init_empty_weights():
        yield


@contextmanager
def no_init() -> Iterator[None]:
    """What transformers does while a model is built: initialisers do nothing, everything is on "meta", in bfloat16."""
    initialization = pytest.importorskip("transformers.initialization")
    with default_dtype(torch.bfloat16), torch.device("meta"), initialization.no_init_weights():
        yield


STATES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "float16": lambda: default_dtype(torch.float16),
    "default meta": lambda: default_device("meta"),
    "default cpu": lambda: default_device("cpu"),
    "within meta": lambda: torch.device("meta"),
    "inference": torch.inference_mode,
    "no gradient": torch.no_grad,
    "gradient": torch.enable_grad,
    "autocast bfloat16": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "autocast float16": lambda: torch.autocast("cpu", dtype=torch.float16),
    "deterministic": deterministic,
    "empty weights": empty_weights,
    "transformers": no_init,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_loading_and_coding_are_the_same_under_any_state(
    state: Callable[[], AbstractContextManager[Any]], layout: str
) -> None:
    expected, chunks, old = shipped(layout), batch(layout), Tokenizer.from_pretrained(layout)
    assert len(chunks) == 6
    seed = torch.random.get_rng_state()
    with state():
        cold = Tokenizer.from_pretrained(layout)
        inside, of_old = signature(cold), signature(old)
    assert torch.equal(torch.random.get_rng_state(), seed)  # a host's seed is its own
    assert inside == expected
    assert of_old == expected
    assert signature(cold) == expected  # what was loaded and cached inside serves outside


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_channels_are_coded_the_same_under_any_state(state: Callable[[], AbstractContextManager[Any]]) -> None:
    waves = kit.smooth_joints(17, count=3, seed=1)[:, 1:, :7] / 4
    codes = ChannelCodec.load().encode(waves)
    motion = ChannelCodec.load().decode(codes.reshape(3, -1), 17, 7)
    with state():
        codec = ChannelCodec.load()
        found = codec.encode(waves)
        again = codec.decode(found.reshape(3, -1), 17, 7)
    assert (found == codes).all()
    assert (again == motion).all()


@pytest.mark.parametrize("state", ["float64", "bfloat16", "transformers", "within meta"])
def test_a_codec_without_a_prior_codes_the_same_under_any_state(state: str, tmp_path: Path) -> None:
    from dataclasses import replace

    torch.manual_seed(0)
    config = replace(paper(), hidden=32, heads=2, encoder_layers=1, decoder_layers=1, codebook_size=16, code_dim=8)
    codec = PerceiverCodec(config)
    for quantizer in codec.quantizers:
        quantizer.books_QVC.normal_()
    codec.add_statistics(kit.tokenizer().statistics[kit.PANDA])
    tokenizer = Tokenizer(codec)
    tokenizer.save_pretrained(tmp_path)
    chunks = batch("arms26")
    expected = tokenizer.encode(chunks)
    motion = tokenizer.decode(expected, chunks.context).absolute_BTD
    assert expected.grid_BMQ is not None and motion is not None
    with STATES[state]():
        again = Tokenizer.from_pretrained(tmp_path)
        found = again.encode(chunks)
        back = again.decode(found, chunks.context).absolute_BTD
        assert found.grid_BMQ is not None and back is not None
    assert torch.equal(found.grid_BMQ, expected.grid_BMQ)
    assert torch.equal(back, motion)
    assert again.digest == tokenizer.digest


def test_a_new_codec_is_float32_under_any_default() -> None:
    for dtype in (torch.float64, torch.bfloat16):
        with default_dtype(dtype):
            codec = kit.bare_codec()
        assert {t.dtype for t in (*codec.parameters(), *codec.buffers())} == {torch.float32, torch.int64}


def test_what_is_cached_in_inference_mode_can_be_trained_on() -> None:
    codec, chunks = kit.fresh_codec(), batch("arms26")
    codec.forget_bases()
    with torch.inference_mode():
        Tokenizer(codec).encode(chunks)
    batch_context = codec.batch_context(chunks.context)
    output = codec(codec.motion(chunks, batch_context), batch_context)
    output.z_BMX.square().sum().backward()
    assert codec.semantic_encoder is not None and codec.semantic_encoder.out.weight.grad is not None


def test_no_gradient_comes_out_of_a_tokenizer() -> None:
    tokenizer, chunks = kit.tokenizer(), batch("arms26")
    anchor = chunks.context.anchor_BD
    assert anchor is not None
    state = anchor.clone().requires_grad_()
    codes = tokenizer.encode_from_absolute(
        chunks.target_BTD.clone().requires_grad_(), state, kit.PANDA, chunks.context.mask_BD
    )
    back = tokenizer.decode_to_absolute(codes, 18, state, kit.PANDA, dof_mask=chunks.context.mask_BD)
    assert not back.requires_grad


def test_other_threads_keep_their_default_dtype() -> None:
    """Coding never sets what all threads share, not even for a moment."""
    seen: set[torch.dtype] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            seen.add(torch.get_default_dtype())

    with default_dtype(torch.float64):
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            Tokenizer.from_pretrained("arms26").encode(batch("arms26"))
        finally:
            stop.set()
            watcher.join()
    assert seen == {torch.float64}


# -- inside transformers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kwargs", [{}, {"dtype": torch.bfloat16}, {"dtype": "auto"}], ids=str)
def test_a_transformers_policy_loads_its_tokenizer_in_its_init(kwargs: dict[str, Any], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")

    class Config(transformers.PretrainedConfig):  # type: ignore[misc, name-defined]
        model_type = "xtok_test_policy"

    class Vla(transformers.PreTrainedModel):  # type: ignore[misc, name-defined]
        config_class = Config

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.head = nn.Linear(4, 4)
            self.tokenizer = Tokenizer.from_pretrained("arms26")
            self.post_init()

        def _init_weights(self, module: nn.Module) -> None:
            if isinstance(module, nn.Linear):
                module.weight.data.normal_()

    Vla(Config()).save_pretrained(tmp_path)
    policy = Vla.from_pretrained(tmp_path, **kwargs)
    assert signature(policy.tokenizer) == shipped("arms26")


@pytest.mark.parametrize("saved", ["with the codec", "without it"])
@pytest.mark.parametrize("keep", [True, False])
def test_a_transformers_policy_that_holds_the_codec_codes_right_or_says_so(
    keep: bool, saved: str, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")

    class Config(transformers.PretrainedConfig):  # type: ignore[misc, name-defined]
        model_type = "xtok_test_holder"

    class Holder(transformers.PreTrainedModel):  # type: ignore[misc, name-defined]
        config_class = Config
        _keep_in_fp32_modules_strict = ["codec"] if keep else None

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.head = nn.Linear(4, 4)
            self.tokenizer = Tokenizer.from_pretrained("arms26")
            self.codec = self.tokenizer.codec
            self.post_init()

        def _init_weights(self, module: nn.Module) -> None:
            if isinstance(module, nn.Linear):
                module.weight.data.normal_()

    model = Holder(Config())
    assert signature(model.tokenizer) == shipped("arms26")  # initialising the policy leaves it alone
    if saved == "without it":
        model.codec = None  # so that loading finds no weights for it, and empties it
    model.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = Holder.from_pretrained(tmp_path, dtype=torch.bfloat16)
    if saved == "with the codec":
        assert signature(loaded.tokenizer) == shipped("arms26")
        return
    with pytest.raises(ValueError, match=r"not those that this tokenizer began with|torch.bfloat16"):
        loaded.tokenizer.encode(batch("arms26"))


# -- torch.compile ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_compiled_code_around_the_tokenizer_gives_the_same(backend: str) -> None:
    tokenizer, chunks = kit.tokenizer(), batch("arms26")
    context = chunks.context
    codes = tokenizer.encode(chunks).grid_BMQ
    assert codes is not None and context.anchor_BD is not None

    def decode(grid: Tensor, state: Tensor) -> Tensor:
        scaled = tokenizer.decode_to_absolute(grid + 0, 18, state * 1, kit.PANDA, dof_mask=context.mask_BD) * 2
        return scaled + 1

    def decode_deltas(grid: Tensor, state: Tensor) -> Tensor:
        return tokenizer.decode(grid, target_length=18, robot_type=kit.PANDA, dof_mask=context.mask_BD) + state[:, None]

    def encode(actions: Tensor, state: Tensor) -> Tensor:
        return tokenizer.encode_from_absolute(actions * 1, state, kit.PANDA, context.mask_BD, 20.0) * 2

    def whole(actions: Tensor, state: Tensor) -> Tensor:
        found = tokenizer.encode(ChunkBatch(actions, context))
        back = tokenizer.decode(found, context).absolute_BTD
        assert back is not None
        return back - actions

    for function, given in ((decode, codes), (decode_deltas, codes), (encode, chunks.target_BTD)):
        compiled = torch.compile(function, backend=backend)
        for rows in (6, 6):
            assert torch.equal(compiled(given[:rows], context.anchor_BD), function(given[:rows], context.anchor_BD))
    assert torch.equal(
        torch.compile(whole, backend=backend)(chunks.target_BTD, context.anchor_BD),
        whole(chunks.target_BTD, context.anchor_BD),
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_compiled_codec_is_the_same_codec(layout: str, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_pretrained(layout)
    tokenizer.encode(batch(layout))
    tokenizer.codec = torch.compile(tokenizer.codec, backend="eager")  # type: ignore[assignment]
    assert signature(tokenizer) == shipped(layout)
    tokenizer.save_pretrained(tmp_path)
    assert signature(Tokenizer.from_pretrained(tmp_path)) == shipped(layout)


def test_compiled_setting_lookup_does_not_break_training() -> None:
    codec, chunks = kit.fresh_codec(), batch("arms26")

    def loss(target: Tensor) -> Tensor:
        batch_context = codec.batch_context(chunks.context)
        return (
            codec(codec.motion(ChunkBatch(target, chunks.context), batch_context), batch_context)
            .motion_BTK.square()
            .sum()
        )

    compiled = torch.compile(loss, backend="eager")(chunks.target_BTD)
    torch.testing.assert_close(compiled, loss(chunks.target_BTD))
