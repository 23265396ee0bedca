"""A page of questions with a model's answers, right and wrong, each with its picture and the place pointed at."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from xtok.semantics.embedded.exam import sureness
from xtok.semantics.embedded.lessons import Lesson

SHOWN = 6  # of a kind: so many right and so many wrong at most
SIDE = 224  # pixels of a picture on the page
_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem; max-width: 1500px }
h2 { margin: 1.6rem 0 .4rem } .row { display: flex; flex-wrap: wrap; gap: 12px }
figure { margin: 0; width: 224px } figure img { display: block; border-radius: 4px }
figcaption { padding: 4px 0 } .right { border-top: 4px solid #2a8a4a } .wrong { border-top: 4px solid #c23b3b }
small { opacity: .7 }
"""


def drawn(picture: np.ndarray, point: tuple[float, float], sure: float, side: int | None = None) -> Image.Image:
    """A copy with a ring around the point: the less sure, the thinner. side: of the copy, or as large as it was."""
    image = Image.fromarray(picture)
    scale = 1.0 if side is None else side / max(image.size)
    if side is not None:
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.NEAREST)
    x, y = ((value + 0.5) * scale for value in point)
    radius = max(image.size) / 22
    pen = ImageDraw.Draw(image)
    for extra, colour in ((2, "black"), (0, "white")):
        width = max(1, round(radius / 3 * sure)) + extra
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour, width=width)
    pen.line((x - radius / 2, y, x + radius / 2, y), fill="white")
    pen.line((x, y - radius / 2, x, y + radius / 2), fill="white")
    return image


def page(rows: Sequence[dict[str, Any]], lessons: Sequence[Lesson], title: str = "Questions and answers") -> str:
    """HTML that needs nothing else. rows: of `exam.answers_of`."""
    kinds = sorted({row["question"].kind for row in rows})
    parts = []
    for kind in kinds:
        mine = [row for row in rows if row["question"].kind == kind]
        share = float(np.mean([row["right"] for row in mine]))
        order = np.random.default_rng(0).permutation(len(mine))
        chosen = [
            row for wanted in (True, False) for row in [mine[i] for i in order if mine[i]["right"] == wanted][:SHOWN]
        ]
        shown = "".join(_figure(row, lessons[row["lesson"]]) for row in chosen)
        parts.append(
            f"<h2>{html.escape(kind)} <small>{share:.2f} of {len(mine)} right</small></h2><div class=row>{shown}</div>"
        )
    right = float(np.mean([row["right"] for row in rows]))
    intro = f"<p>{len(rows)} questions, {right:.2f} right. Green: right, red: wrong; drawn at random among each.</p>"
    head = f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
    return f"{head}<h1>{title}</h1>{intro}{''.join(parts)}"


def _figure(row: dict[str, Any], lesson: Lesson) -> str:
    question, answer = row["question"], row["answer"]
    pointing = question.mask is not None
    image = drawn(lesson.picture, answer.point, answer.point_sure, SIDE) if pointing and answer.point else None
    image = image or Image.fromarray(lesson.picture).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    source = base64.b64encode(buffer.getvalue()).decode()
    said = (
        f"points, sure {sureness(row):.2f}"
        if pointing
        else f"<b>{html.escape(answer.text)}</b>, sure {sureness(row):.2f}"
    )
    wanted = "" if row["right"] or pointing else f"; it is {html.escape(question.answer)}"
    where = html.escape(f"{lesson.task}, {lesson.arm}, {lesson.level}")
    name = "right" if row["right"] else "wrong"
    return (
        f"<figure class={name}><img src='data:image/jpeg;base64,{source}' width={SIDE}>"
        f"<figcaption>{html.escape(question.text)}<br>{said}{wanted}<br><small>{where}</small></figcaption></figure>"
    )
