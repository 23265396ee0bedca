"""The HTML report: one self-contained file, drawn from an evaluation and nothing else."""

from __future__ import annotations

from pathlib import Path

from xtok.evaluate import comparison, corruption_figures, figures, meaning_figures
from xtok.evaluate.compare import FAST
from xtok.evaluate.dataset import Evaluation
from xtok.evaluate.pages import environment
from xtok.evaluate.robustness import sigma_key
from xtok.evaluate.verdicts import verdicts

SIGMA_SHOWN = 0.004  # the sigma of the table


def write_report(evaluation: Evaluation, path: Path) -> None:
    """Write the report of an evaluation. The same evaluation gives the same bytes."""
    path.write_text(render(evaluation), encoding="utf-8")


def render(evaluation: Evaluation) -> str:
    """The report as one HTML document: styles and drawings inline, no script, nothing fetched."""
    result, drawn = evaluation.result, evaluation.illustration
    colours = figures.styles(result)
    entries = result["horizons"][str(drawn.horizon)]
    meaning = result.get("semantics")
    found = verdicts(result)
    rivals = comparison.rivals_of(result)
    judged = {
        name: [verdict for verdict in found if verdict.met is met]
        for name, met in (("met", True), ("missed", False), ("unmeasured", None))
    }
    shares = [share for channels in result["saturation"].values() for share in channels.values()]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            result=result,
            drawn=drawn,
            styles=colours,
            tone=figures.rate_tone,
            shown=sigma_key(SIGMA_SHOWN),
            noise_unit=figures.noise_unit(result),
            headline=entries[result["subject"]],
            fast=entries.get(FAST),
            beside_fast=comparison.beside_fast(entries[result["subject"]]),
            rivals=rivals,
            compared=comparison.compared(result),
            forms=comparison.forms_in_words(result),
            form_words=comparison.form_words(result),
            pooled_robots=comparison.pooled_robots(result),
            curves=comparison.curves(result, rivals),
            curve_reasons=comparison.curve_reasons(result, rivals),
            prices=comparison.prices(result),
            book_words=comparison.book_words,
            by_tokens=list(figures.by_tokens(result, colours)),
            remedy=comparison.remedy(result),
            motion=list(figures.motion(drawn)),
            rate_distortion=list(figures.rate_distortion(result, colours)),
            noise=list(figures.noise(result, drawn, colours)),
            strips=list(figures.strips(result, drawn)),
            code_use=list(figures.code_use(result, drawn, colours)),
            corrupted=list(corruption_figures.curves(result, colours)),
            one_token=corruption_figures.one_token(result),
            one_token_kinds=corruption_figures.ONE_TOKEN_SHOWN,
            corrupted_unit=corruption_figures.unit(result),
            corrupted_levels=list(corruption_figures.levels(result)),
            **judged,
            probes=[] if not meaning else list(meaning_figures.probes(meaning, colours)),
            novelty=[] if not meaning else meaning_figures.novelty(meaning, result["subject"]),
            errors=None if not meaning else meaning_figures.errors(meaning, colours),
            neighbours=None if not meaning else meaning_figures.neighbours(meaning, colours),
            alignment=[] if not meaning else list(meaning_figures.alignment(meaning, colours, result["subject"])),
            saturated=sorted({channel for channels in result["saturation"].values() for channel in channels}),
            saturation_max=max(shares, default=0.0),
        )
    )
