"""Runs as functions: each returns a frozen `Recipe`; a variation is `base().varied(...)`.

A docstring holds command, hardware, hours and score, or "not yet run".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from difflib import get_close_matches

from xtok.codec.config import PerceiverConfig, paper, small, small_perceiver
from xtok.pretrain.recipe import Alignment, Codebooks, Data, Masking, Optimiser, Recipe

# xtok.sim's robots, but the arms that are held out.
_SIMULATED = tuple(
    f"sim_{name}"
    for name in (
        *("panda", "ur5e", "iiwa", "xarm7", "sawyer", "baxter", "spot_arm", "viperx", "arx5", "z1", "yumi"),
        *("panda_panda", "ur5e_ur5e", "panda_ur5e", "xarm7_iiwa"),
    )
)


def small_arms26() -> Recipe:
    """A codec of poses in closed form and by k-means: what ships, without semantic dimensions. Minutes on two cores.

    `xtok train small_arms26 --data DATA... -o RUN_DIR`. With every other set as DATA it is what a robot left out is
    measured with: `xtok eval --data ITS_SET --tokenizer RUN_DIR --baselines fast --pool EVERY_OTHER_SET...`; for joints
    `small_joints` does the same (docs/cli.md).
    """
    return Recipe(
        "small_arms26",
        small("arms26"),
        steps=0,
        data=Data(batch_size=128, action_sources=("achieved", "commanded")),
        codebooks=Codebooks(iterations=10),
    )


def small_joints() -> Recipe:
    """The codec that ships for joints: closed forms and k-means, no network. Two CPU cores, about ten minutes.

    `xtok train small_joints --data DATA... -o RUN_DIR`
    """
    return small_arms26().varied(name="small_joints", codec=small("joints"), codebooks={"vectors": 300_000})


def small_arms26_semantic() -> Recipe:
    """The codec that ships for poses: 8 dimensions of q0 carry no motion and are taught by a teacher (decision 0009).

    Motion is coded by closed forms and k-means as in RUN_DIR/start, the same model without heads; no decoder is run.
    Simulated robots have detail books of their own and half of the chunks: their frames would crowd the recorded ones
    out. Rounded, its file has half the bytes.

    `xtok train small_arms26_semantic --data DATA... --features STORE -o RUN_DIR` on corpus-s and the real sets.
    """
    sampling_weights = {
        "g1_inspire": 0.32,
        "baxter": 0.04,
        "panda": 0.07,
        "sawyer": 0.07,
        **dict.fromkeys(_SIMULATED, 0.5 / 15),
    }
    return small_arms26().varied(
        name="small_arms26_semantic",
        codec=replace(small("arms26"), semantic_dims=8, semantic_scale=0.6),
        trainable="extra",
        steps=1000,
        data={"sampling_weights": sampling_weights},
        optimiser=Optimiser(learning_rate=2e-3, warmup_steps=50, average_decay=0.98),
        alignment=Alignment(align=True, predict=True, text_alignment=True, unlabelled_l2=True),
        codebooks=Codebooks(vectors=400_000, iterations=6, own=_SIMULATED, half=True),
        validate_every=100,
        checkpoint_every=100,
    )


def heads() -> Recipe:
    """Heads for a tokenizer that is frozen already, beside the features of any teacher: yours, for one (decision 0013).

    They look at all of h, since codes are safe from them. The heads that ship with `arms26` are of this recipe. Motion
    words too (`--tokenizer arms26-words`, decision 0021).

    `xtok train heads --tokenizer arms26 --data DATA... --features STORE -o RUN_DIR`, one core, minutes.
    """
    return small_arms26().varied(
        name="heads",
        trainable="heads",
        steps=600,
        data={"action_sources": ("achieved",)},
        optimiser=Optimiser(learning_rate=2e-3, warmup_steps=50, average_decay=0.98),
        masking=Masking(state_dropout=0.0, embodiment_dropout=0.0),
        alignment=Alignment(
            align=True,
            predict=True,
            cosine=True,
            hard_negative_groups=8,
            ramp=0.0,
            grad_scope="nothing",
            input_dims="latents",
            same_text="keep",
        ),
        validate_every=600,
        checkpoint_every=100,
    )


def heads_masked() -> Recipe:
    """The same heads, and one that foretells hidden codes: of q0, or of whole sequences of motion words.

    `xtok train heads_masked --tokenizer arms26-words --data DATA... --features STORE -o RUN_DIR`.
    """
    return heads().varied(name="heads_masked", masking={"forms": "codes", "start": 0.0})


def small_arms26_grid() -> Recipe:
    """One cell of the 2^3 grid of heads (`experiments/semantics_grid.py`): short, so that 24 of them fit in hours.

    As `small_arms26_semantic`, q0's extra dimensions learn and motion stays, so that each head shows what it does to
    codes. Words by themselves are left out, being no part of the paper's grid. About three minutes of one core each,
    with figures.
    """
    return small_arms26_semantic().varied(
        name="small_arms26_grid",
        steps=400,
        data={"batch_size": 96, "sampling_weights": None},
        optimiser={"warmup_steps": 20, "average_decay": 0.95},
        masking=Masking(forms="codes", start=0.0),
        alignment={"text_alignment": False, "unlabelled_l2": False},
        codebooks=Codebooks(vectors=40_000, iterations=6),
    )


def small_perceiver_arms26() -> Recipe:
    """The published model at a size that a CPU trains, reconstruction alone: the control of the one with heads.

    `xtok train small_perceiver_arms26 --data DATA... --precision bf16 -o RUN_DIR`, about .3 CPU seconds a step. With
    --features, which it does not look at, it draws the same chunks as the one with heads.
    """
    return Recipe(
        "small_perceiver_arms26",
        small_perceiver("arms26"),
        steps=4000,
        data=Data(batch_size=128, action_sources=("achieved", "commanded")),
        optimiser=Optimiser(learning_rate=3e-4, warmup_steps=200),
        codebooks=Codebooks(iterations=10, half=True),
        validate_every=500,
        checkpoint_every=250,
    )


def small_perceiver_arms26_semantic() -> Recipe:
    """The published model at a size that a CPU trains, with all its heads: what ships as `arms26-srq`.

    `xtok train small_perceiver_arms26_semantic --data DATA... --features STORE --precision bf16 -o RUN_DIR`; the model
    card has hours and scores. With `--start-from arms26-srq` it goes on from what ships.
    """
    return small_perceiver_arms26().varied(
        name="small_perceiver_arms26_semantic",
        masking=Masking(forms="codes"),
        alignment=Alignment(align=True, predict=True, grad_scope="latents", input_dims="latents", same_text="keep"),
    )


def paper_arms26() -> Recipe:
    """The published model at full size, with all its heads. Not yet run: needs several GPUs.

    `xtok train paper_arms26 --data DATA... --features STORE -o RUN_DIR`, 100 epochs of 2.4 M trajectories in the paper.
    steps: a stand-in until a corpus is chosen; an epoch of it is frames / (36 * 256) steps.
    """
    return Recipe(
        "paper_arms26",
        paper("arms26"),
        steps=500_000,
        optimiser=Optimiser(warmup_steps=2000, average_decay=0.9999),
        masking=Masking(forms="codes"),
        alignment=Alignment(align=True, predict=True, grad_scope="latents", input_dims="latents", same_text="keep"),
    )


def tiny() -> Recipe:
    """The published model in seconds on one core: for tests and for a first look at the loop, not for use."""
    codec = PerceiverConfig(
        hidden=16,
        heads=2,
        encoder_layers=1,
        decoder_layers=1,
        codebook_size=32,
        code_dim=8,
        codebook_decay=0.8,
    )
    return Recipe(
        "tiny",
        codec,
        steps=4,
        data=Data(batch_size=8),
        optimiser=Optimiser(learning_rate=1e-3, warmup_steps=1),
        masking=Masking(forms="both", start=0.25),
        codebooks=Codebooks(vectors=2000, iterations=3),
        log_every=1,
        validate_every=2,
        validation_horizons=(8, 16),
        checkpoint_every=2,
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "small_arms26": small_arms26,
    "small_joints": small_joints,
    "small_arms26_semantic": small_arms26_semantic,
    "heads": heads,
    "heads_masked": heads_masked,
    "small_arms26_grid": small_arms26_grid,
    "small_perceiver_arms26": small_perceiver_arms26,
    "small_perceiver_arms26_semantic": small_perceiver_arms26_semantic,
    "paper_arms26": paper_arms26,
    "tiny": tiny,
}


DEFAULTS = {"arms26": "small_arms26", "joints": "small_joints"}  # by layout, for who has not chosen


def get_recipe(name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
        ValueError: an unknown name; the message has close ones first, then all with a line on each.
    """
    if name in RECIPES:
        return RECIPES[name]()
    close = get_close_matches(name, RECIPES, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ";"
    rest = [each for each in RECIPES if each not in close]
    lines = "\n".join(described([*close, *rest]))
    raise ValueError(f"unknown recipe {name!r}{hint} `xtok train --list` shows these too:\n{lines}")


def described(names: Iterable[str] = RECIPES) -> list[str]:
    """A line on each recipe: its name, what it reads, and the first line of what it says of itself."""
    names = list(names)
    width = max(map(len, names), default=0)
    recipes = {name: RECIPES[name]() for name in names}
    layouts = {name: "any" if each.trainable == "heads" else each.codec.layout for name, each in recipes.items()}
    return [f"  {name:<{width}}  {layouts[name]:<6}  {_first_line(name)}" for name in names]


def _first_line(name: str) -> str:
    return (RECIPES[name].__doc__ or "").strip().splitlines()[0]
