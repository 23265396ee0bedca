"""What a frozen teacher is: pictures and words in, features of one hidden layer out.

docs/method.md#teacher, decision 0008.

A teacher reads views and words apart. `see` knows no words and `read` no picture, so each alone is a control for the
other; how they are mixed is learned later (`xtok.semantics.align`).

# N pictures or frames, V views, P prompts, W width of the hidden layer, h w pixels
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, UInt8

TEMPLATE = "Task: {instruction}. Now: {subtask}."
VIEWS_MAX = 3  # docs/method.md#teacher: head or face, left wrist, right wrist


class Teacher(Protocol):
    """A frozen vision-language model, one hidden layer of it.

    name: as given to `load_teacher`. layer: index into its hidden states, -1 the last. width: W. digest: of all that
    decides a feature (weights, layer, pooling), so that a store knows whose features it holds.
    """

    name: str
    layer: int
    width: int
    digest: str

    def see(self, pictures: Sequence[UInt8[np.ndarray, "h w 3"]]) -> Float[np.ndarray, "N W"]:
        """Mean over the image tokens of each picture, float32."""
        ...

    def read(self, prompts: Sequence[str]) -> Float[np.ndarray, "P W"]:
        """Mean over the text tokens of each prompt, float32."""
        ...


@dataclass(frozen=True)
class Frame:
    """One moment: pictures by view, uint8 RGB [h, w, 3] (some may be absent), and the words that go with it."""

    pictures: Mapping[str, np.ndarray]
    instruction: str
    subtask: str = ""


@dataclass(frozen=True)
class Features:
    """views: float32 [..., V, W], zero where view_mask [..., V] is False. text: float32 [..., W]."""

    views: Float[np.ndarray, "... V W"]
    view_mask: Bool[np.ndarray, "... V"]
    text: Float[np.ndarray, "... W"]


def prompt(template: str, instruction: str, subtask: str) -> str:
    """docs/method.md#teacher: task instruction + current sub-task. What is empty leaves its sentence out.

    Raises:
        ValueError: a template without {instruction}, or with other fields.
    """
    check_template(template)
    if not subtask:
        template = template.split("{subtask}")[0].rsplit(".", 1)[0] + "." if "{subtask}" in template else template
    return template.replace("{instruction}", instruction.strip().rstrip(".")).replace(
        "{subtask}", subtask.strip().rstrip(".")
    )


def check_template(template: str) -> None:
    rest = template.replace("{instruction}", "", 1).replace("{subtask}", "", 1)
    if "{instruction}" not in template or "{" in rest or "}" in rest:
        raise ValueError(
            f"prompt template {template!r}: expected {{instruction}} once, {{subtask}} at most once and no other field"
        )


def look(
    teacher: Teacher, frames: Sequence[Frame], views: Sequence[str], template: str = TEMPLATE, batch_size: int = 64
) -> Features:
    """Features of frames, N of them in each array: pictures batched over frames and views, each distinct prompt once.

    Raises:
        ValueError: more than three views, or a picture that is not uint8 RGB.
    """
    check_views(views)
    prompts = [prompt(template, frame.instruction, frame.subtask) for frame in frames]
    rows = {text: row for row, text in enumerate(dict.fromkeys(prompts))}
    where = [(n, v) for n, frame in enumerate(frames) for v, view in enumerate(views) if view in frame.pictures]
    views_NVW = np.zeros((len(frames), len(views), teacher.width), np.float32)
    mask_NV = np.zeros((len(frames), len(views)), dtype=bool)
    for start in range(0, len(where), batch_size):
        some = where[start : start + batch_size]
        seen = teacher.see([checked(frames[n].pictures[views[v]]) for n, v in some])
        for (n, v), feature_W in zip(some, seen, strict=True):
            views_NVW[n, v], mask_NV[n, v] = feature_W, True
    text_PW = read_all(teacher, list(rows), batch_size)
    return Features(views_NVW, mask_NV, text_PW[[rows[text] for text in prompts]])


def read_all(teacher: Teacher, prompts: Sequence[str], batch_size: int = 64) -> Float[np.ndarray, "P W"]:
    """`read` in batches."""
    parts = [teacher.read(prompts[start : start + batch_size]) for start in range(0, len(prompts), batch_size)]
    return np.concatenate(parts) if parts else np.zeros((0, teacher.width), np.float32)


def check_views(views: Sequence[str]) -> None:
    if not 1 <= len(views) <= VIEWS_MAX or len(set(views)) != len(views):
        raise ValueError(f"views are {list(views)}; expected one to {VIEWS_MAX} different camera names (--views)")


def checked(picture: np.ndarray) -> np.ndarray:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3:
        raise ValueError(f"a picture is {picture.dtype} {list(picture.shape)}; expected uint8 RGB [h, w, 3]")
    return picture
