"""The two pictures of README.md: a chunk before and after with its codes, and our error over FAST's.

    python scripts/make_images.py            writes docs/images/codes.png and docs/images/fast.png

The first is drawn from the packaged demonstration that `make demo` holds out: the chunk whose error is nearest to the
mean of all. The second is drawn from docs/results. Needs Pillow (in the extras `teacher` and `dev`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import xtok
from xtok.actions.types import FRAMES_PER_SLOT
from xtok.data import iter_chunks, open_dataset, sample_path, select

ROOT = Path(__file__).parents[1]
RESULTS, IMAGES = ROOT / "docs/results", ROOT / "docs/images"
WIDE, DEEP = 1640, 2  # pixels of a picture (README shows it at half), and of drawing for one of these
INK, FAINT, GRID, PAPER = "#1f2328", "#6e7781", "#dfe3e8", "#ffffff"
TRUTH = "#bcc3cb"
AXES = {"x": "#0072b2", "y": "#d55e00", "z": "#009e73"}
HORIZON = 32
Point = tuple[float, float]


@dataclass
class Sheet:
    """A white page, drawn larger and shrunk, so that lines are smooth."""

    height: int
    image: Image.Image = field(init=False)
    draw: ImageDraw.ImageDraw = field(init=False)

    def __post_init__(self) -> None:
        self.image = Image.new("RGB", (WIDE * DEEP, self.height * DEEP), PAPER)
        self.draw = ImageDraw.Draw(self.image)

    def line(self, points: Sequence[Point], colour: str, width: float = 2, dash: float = 0) -> None:
        scaled = [(x * DEEP, y * DEEP) for x, y in points]
        if not dash:
            self.draw.line(scaled, fill=colour, width=round(width * DEEP), joint="curve")
            return
        for piece in _dashes(scaled, dash * DEEP):
            self.draw.line(piece, fill=colour, width=round(width * DEEP), joint="curve")

    def dot(self, at: Point, colour: str, radius: float = 5, filled: bool = True) -> None:
        x, y = at[0] * DEEP, at[1] * DEEP
        box = (x - radius * DEEP, y - radius * DEEP, x + radius * DEEP, y + radius * DEEP)
        self.draw.ellipse(box, fill=colour if filled else PAPER, outline=colour, width=2 * DEEP)

    def box(self, left: float, top: float, right: float, bottom: float, colour: str) -> None:
        self.draw.rectangle((left * DEEP, top * DEEP, right * DEEP, bottom * DEEP), fill=colour)

    def text(self, at: Point, text: str, colour: str = INK, size: int = 26, anchor: str = "ls") -> None:
        font = ImageFont.load_default(size * DEEP)
        self.draw.text((at[0] * DEEP, at[1] * DEEP), text, fill=colour, font=font, anchor=anchor)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        small = self.image.resize((WIDE, self.height), Image.Resampling.LANCZOS)
        small.quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
        print(f"{path}: {path.stat().st_size:,} bytes")


def _dashes(points: Sequence[Point], length: float) -> list[list[Point]]:
    pieces: list[list[Point]] = [[points[0]]]
    left, on = length, True
    for (x, y), (to_x, to_y) in pairwise(points):
        whole = math.hypot(to_x - x, to_y - y)
        done = 0.0
        while whole - done > left:
            done += left
            at = (x + (to_x - x) * done / whole, y + (to_y - y) * done / whole)
            if on:
                pieces[-1].append(at)
            else:
                pieces.append([at])
            on, left = not on, length
        left -= whole - done
        if on:
            pieces[-1].append((to_x, to_y))
    return [piece for piece in pieces if len(piece) > 1]


# -- before and after -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """One chunk: positions relative to the anchor in cm, [T + 1, 3] (the anchor first), true and decoded by levels."""

    true: np.ndarray
    decoded: dict[int, np.ndarray]
    codes_MQ: np.ndarray
    error_mm: dict[int, float]


def typical_chunk() -> Shown:
    """Of the held-out demonstration, the chunk whose error through all levels is nearest to the mean."""
    dataset = open_dataset(sample_path())
    tokenizer = xtok.tokenizer_for(dataset)
    (chunks,) = iter_chunks(select(dataset, "heldout"), horizon=HORIZON, stride=HORIZON)
    hand = dataset.layout.slices["right_position"]
    anchor_B13 = chunks.context.anchor_BD[:, None, hand].numpy()
    codes = tokenizer.encode(chunks)
    true = chunks.target_BTD[..., hand].numpy() - anchor_B13
    decoded = {k: tokenizer.decode(codes, chunks.context, levels=k).absolute_BTD for k in range(1, 5)}
    paths = {k: actions[..., hand].numpy() - anchor_B13 for k, actions in decoded.items()}
    error = {k: 1000 * np.linalg.norm(path - true, axis=-1).mean(axis=1) for k, path in paths.items()}
    row = int(np.abs(error[4] - error[4].mean()).argmin())

    def with_anchor(path: np.ndarray) -> np.ndarray:
        return 100 * np.concatenate([np.zeros((1, 3)), path[row]])

    return Shown(
        with_anchor(true),
        {k: with_anchor(path) for k, path in paths.items()},
        codes.grid_BMQ[row].numpy(),
        {k: float(each[row]) for k, each in error.items()},
    )


def draw_codes(shown: Shown, path: Path) -> None:
    sheet = Sheet(1000)
    left, right = 330, WIDE - 40
    slots, levels = shown.codes_MQ.shape
    frame = (right - left) / (slots * FRAMES_PER_SLOT)
    low = min(shown.true.min(), *(each.min() for each in shown.decoded.values())) - 0.6
    high = max(shown.true.max(), *(each.max() for each in shown.decoded.values())) + 0.6

    def curves(
        top: float, bottom: float, path_T3: np.ndarray, width: float, dash: float = 0, faint: bool = False
    ) -> None:
        for axis, (_, colour) in enumerate(AXES.items()):
            points = [
                (left + i * frame, bottom - (value - low) / (high - low) * (bottom - top))
                for i, value in enumerate(path_T3[:, axis])
            ]
            sheet.line(points, TRUTH if faint else colour, width, dash)

    def panel(top: float, bottom: float, title: str, *lines: str) -> None:
        for m in range(slots + 1):
            sheet.line([(left + 4 * m * frame, top), (left + 4 * m * frame, bottom)], GRID, 1.5)
        zero = bottom - (0 - low) / (high - low) * (bottom - top)
        sheet.line([(left, zero), (right, zero)], GRID, 1.5)
        sheet.text((30, top + 40), title, size=34)
        for i, line in enumerate(lines):
            sheet.text((30, top + 80 + 34 * i), line, FAINT, 24)

    panel(20, 330, "before", "32 frames of a hand,", "x y z relative to the", f"anchor ({low:.0f} .. {high:.0f} cm)")
    curves(20, 330, shown.true, 5)
    for axis, (name, colour) in enumerate(AXES.items()):
        sheet.text((30 + 40 * axis, 240), name, colour, 32)

    top, height = 365, 58
    sheet.text((30, top + 40), "32 codes", size=34)
    for i, line in enumerate(("8 slots of 4 frames,", "4 levels, coarse to fine")):
        sheet.text((30, top + 80 + 34 * i), line, FAINT, 24)
    for q in range(levels):
        shade = ("#cfe2f3", "#dfebf7", "#ebf2fa", "#f5f8fc")[q]
        sheet.text((left - 14, top + q * height + 38), f"q{q}", FAINT, 24, "rs")
        for m in range(slots):
            x = left + 4 * m * frame
            sheet.box(x + 4, top + q * height + 3, x + 4 * frame - 4, top + (q + 1) * height - 3, shade)
            at = (x + 2 * frame, top + q * height + height / 2)
            sheet.text(at, str(shown.codes_MQ[m, q]), INK, 27, "mm")

    coarse, whole = shown.error_mm[1], shown.error_mm[levels]
    panel(
        635,
        945,
        "after",
        f"q0 alone (dashed): {coarse:.0f} mm",
        f"all four levels: {whole:.1f} mm",
        "grey: what it was",
    )
    curves(635, 945, shown.true, 9, faint=True)
    curves(635, 945, shown.decoded[1], 2.5, dash=9)
    curves(635, 945, shown.decoded[levels], 4)
    sheet.text((left, 985), "frame 0", FAINT, 24)
    sheet.text((right, 985), "frame 32", FAINT, 24, "rs")
    sheet.save(path)


# -- against FAST -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One set: what it is called, its file, its colour; dashed where codebooks are those of other robots."""

    name: str
    file: str
    colour: str
    borrowed: bool = False


LINES = (
    Line("CR5 left out, measured", "cr5-left-out", "#cc79a7", True),
    Line("SO-101, measured", "so101-measured", "#e69f00", True),
    Line("G1 poses left out, measured", "g1-left-out", "#56b4e9", True),
    Line("SO-101, adapted", "so101-adapted", "#e69f00"),
    Line("G1 joints", "g1-joints", "#009e73"),
    Line("Adroit hand", "adroit-joints", "#6e7781"),
    Line("G1 poses", "g1-arms26", "#0072b2"),
    Line("CR5", "cr5-joints", "#d55e00"),
)


def ratios(file: str) -> list[float]:
    """Our l1 over FAST's at T 32 with as many tokens, at one to four tokens a slot."""
    content = json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8"))
    return [point["over"]["fast"]["l1"] for point in content["horizons"][str(HORIZON)]["xtok"]["curve"]]


def draw_fast(path: Path) -> None:
    sheet = Sheet(860)
    left, right, top, bottom = 120, 1130, 90, 760
    low, high = math.log(0.5), math.log(10)

    def at(tokens: int, ratio: float) -> Point:
        return left + (tokens - 1) / 3 * (right - left), bottom - (math.log(ratio) - low) / (high - low) * (
            bottom - top
        )

    sheet.text((30, 50), "error (l1) over FAST's with as many tokens, T 32: under 1 is better", size=32)
    for ratio in (0.5, 0.7, 1, 1.5, 2, 3, 5, 10):
        y = at(1, ratio)[1]
        sheet.line([(left, y), (right, y)], INK if ratio == 1 else GRID, 3 if ratio == 1 else 1.5)
        sheet.text((left - 16, y), f"{ratio:g}", INK if ratio == 1 else FAINT, 26, "rm")
    for tokens in range(1, 5):
        x = at(tokens, 1)[0]
        sheet.text((x, bottom + 40), f"{8 * tokens}", FAINT, 26, "ms")
    sheet.text(
        ((left + right) / 2, bottom + 80), "tokens for 32 frames: one, two, three, all four levels", FAINT, 26, "ms"
    )
    ends = []
    for line in LINES:
        points = [at(tokens + 1, ratio) for tokens, ratio in enumerate(ratios(line.file))]
        sheet.line(points, line.colour, 4, 10 if line.borrowed else 0)
        for point in points:
            sheet.dot(point, line.colour, filled=not line.borrowed)
        ends.append((points[-1][1], line, ratios(line.file)[-1]))
    label = 0.0
    for y, line, ratio in sorted(ends, key=lambda each: each[0]):
        label = max(y, label + 38)
        sheet.line([(right + 8, y), (right + 40, label)], line.colour, 1.5)
        sheet.text((right + 50, label), f"{line.name}  {ratio:.2f}", line.colour, 26, "lm")
    sheet.text((right + 50, top + 20), "dashed: coded by other", FAINT, 24)
    sheet.text((right + 50, top + 52), "robots' codebooks", FAINT, 24)
    sheet.save(path)


if __name__ == "__main__":
    draw_codes(typical_chunk(), IMAGES / "codes.png")
    draw_fast(IMAGES / "fast.png")
