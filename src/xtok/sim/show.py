"""Pictures to look at: a contact sheet of expert episodes, and a film of them.

# S pixels a side of a view
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from xtok.atomic import atomic_file
from xtok.data.media.video_write import film_writer
from xtok.sim.workers import EpisodeSpec, environment

if TYPE_CHECKING:
    from xtok.sim.variation import Level, Split

VIEWS = 3  # of an episode: the scene first
MOMENTS = ((0, 0.0), (0, 0.5), (0, 1.0), (1, 0.5), (2, 0.5))  # columns of the sheet: number of the view, when
ROWS_A_PAGE = 20
FILM_STEP = 2  # every other frame: twice as fast as life
LABEL_PIXELS = 14

Pictures = dict[str, np.ndarray]


def show(
    cells: Sequence[tuple[str, str]],
    levels: Sequence[Level],
    out: Path,
    image_size: int = 160,
    seed: int = 0,
    split: Split = "train",
    progress: Callable[[int], Any] = lambda _: None,
) -> list[Path]:
    """One expert episode of each cell and level into sheet-01.jpg, ... and film.mp4 in `out`; returns their paths.

    A row of the sheet: scene at the start, half-way and at the end; front and wrist (with two arms: both wrists) then.

    Raises:
        ValueError: an odd or tiny image size, an unknown cell.
    """
    paths = [out / "film.mp4"]
    rows: list[np.ndarray] = []
    with atomic_file(paths[0]) as draft, film_writer(draft, 20, (image_size, VIEWS * image_size)) as film:
        for spec in (EpisodeSpec(task, arm, level, split, seed) for task, arm in cells for level in levels):
            pictures, title = _episode(spec, image_size)
            for picture in pictures[::FILM_STEP]:
                film.add(np.concatenate(list(picture.values()), axis=1))
            rows.append(_row(pictures, title))
            progress(1)
    for page in range(0, len(rows), ROWS_A_PAGE):
        paths.append(out / f"sheet-{page // ROWS_A_PAGE + 1:02d}.jpg")
        Image.fromarray(np.concatenate(rows[page : page + ROWS_A_PAGE])).save(paths[-1], quality=90)
    return paths


def _episode(spec: EpisodeSpec, image_size: int) -> tuple[list[Pictures], str]:
    """The views at every step of an expert episode, the last included, and what the episode is."""
    env = environment(spec, views=True, image_size=image_size)
    observation, info = env.reset(seed=spec.seed, options={"split": spec.split})
    expert, over, pictures = env.expert(), False, [observation]
    while not over:
        observation, _, terminated, truncated, info = env.step(expert.goal()[None])
        pictures.append(observation)
        over = terminated or truncated
    end = "success" if info["success"] else "failed"
    title = f"{spec.task} {spec.arm} {spec.level}: {env.instruction} ({end}, {len(pictures) - 1} steps)"
    return [{view: picture[view] for view in env.views} for picture in pictures], title


def _row(pictures: Sequence[Pictures], title: str) -> np.ndarray:
    """uint8 [S + label, columns * S, 3]."""
    last = len(pictures) - 1
    strip = np.concatenate([list(pictures[round(when * last)].values())[view] for view, when in MOMENTS], axis=1)
    label = Image.new("RGB", (strip.shape[1], LABEL_PIXELS), "white")
    ImageDraw.Draw(label).text((4, 1), title, fill="black")
    return np.concatenate([np.asarray(label), strip])
