"""What was to come true, and whether it did: the targets of step 3, held against an evaluation's own figures.

Every sentence is made from the figures; a target whose figures are not there is said to be unmeasured, never met.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from xtok.evaluate import word_use
from xtok.evaluate.compare import FAST, Figure
from xtok.evaluate.fit import BINS
from xtok.evaluate.formatting import format_figure, format_percent
from xtok.evaluate.result import Entry, EvaluationResult
from xtok.evaluate.semantics_result import AlignmentJson, DirectionJson, ProbeJson, RetrievalJson
from xtok.evaluate.substitution import FLOOR

# Names that other modules give to what is compared.
NO_HEADS, RVQ, TEACHER = "no-heads", "rvq", "teacher"
FINE_TASKS = frozenset({"Insert", "Press"})  # told apart: millimetres decide there, not directions

L1_TAX_MAX, USE_MIN, USE_Q0_MIN = 1.05, 0.10, 0.76
Q0_FLIP_SHARE_MAX = 1 / 3
PEAK_MIN, CONTRAST_MIN, SUBSTITUTION_MIN = 0.60, 0.30, 0.85
TIMES_CHANCE_MIN, PROBE_LEAD_MIN = 5.0, 0.15
CODES_PER_ENTRY_MIN = 4  # fewer codes than so many times the book say little about its use
SIGMAS = ("0.004", "0.006", "0.008")
JUDGED_AT_EQUAL_BITS: tuple[tuple[Figure, str], ...] = (
    ("position_mm", "position error"),
    ("rotation_deg", "rotation error"),
)


@dataclass(frozen=True)
class Verdict:
    """met: None where it was not measured, and `found` says why."""

    claim: str
    found: str
    met: bool | None


def verdicts(result: EvaluationResult) -> list[Verdict]:
    """All targets in the order of the issue."""
    found = [*_reconstruction(result), *_use(result)]
    meaning = result.get("semantics")
    if meaning:
        within = meaning.get("retrieval", {}).get("within task and arm", {})
        probes = meaning.get("probes")
        found += _alignment(meaning.get("alignment", {}), meaning.get("substitution", {}))
        found += _retrieval(within)
        found += _probes({} if probes is None else probes["slot"], result["subject"])
    else:
        found += [*_alignment({}, {}), *_retrieval({}), *_probes({}, result["subject"])]
    return [*found, *_noise(result)]


def _reconstruction(result: EvaluationResult) -> Iterator[Verdict]:
    subject = result["subject"]
    claim = f"l1 at most {L1_TAX_MAX} times that of the same model without heads"
    taxes = {
        T: entries[subject]["l1"] / entries[NO_HEADS]["l1"]
        for T, entries in result["horizons"].items()
        if NO_HEADS in entries
    }
    if taxes:
        yield Verdict(claim, _by_length(taxes, "times"), all(tax <= L1_TAX_MAX for tax in taxes.values()))
    else:
        yield Verdict(claim, f"no tokenizer called {NO_HEADS} was evaluated beside it", None)
    claim = "l1 at or under FAST's at equal bits"
    ratios = {T: entries[subject]["l1_vs_fast_at_equal_bits"] for T, entries in result["horizons"].items()}
    known = {T: ratio for T, ratio in ratios.items() if ratio is not None}
    if known:
        yield Verdict(claim, _by_length(known, "times FAST's"), all(ratio <= 1 for ratio in known.values()))
    else:
        yield Verdict(claim, "no length at which FAST's bits reach ours", None)
    over = {T: entries[subject].get("at_equal_bits", {}).get(FAST) for T, entries in result["horizons"].items()}
    for figure, word in JUDGED_AT_EQUAL_BITS:
        found = {T: each.get(figure) for T, each in over.items() if each is not None}
        if known := {T: ratio for T, ratio in found.items() if ratio is not None}:
            claim = f"{word} at or under FAST's at equal bits"
            yield Verdict(claim, _by_length(known, "times FAST's"), all(ratio <= 1 for ratio in known.values()))


def _use(result: EvaluationResult) -> Iterator[Verdict]:
    T, entries = max(result["horizons"].items(), key=lambda item: int(item[0]) * result["chunks"][item[0]])
    entry = entries[result["subject"]]
    levels = _seen_by_level(result, T, entry)
    shares = ", ".join(f"q{q} {format_percent(use)}" for q, use in enumerate(entry["usage"]))
    seen = [tokens for tokens, _ in levels]
    counted = f"{seen[0]:,.0f}" if len(set(seen)) == 1 else " / ".join(f"{each:,.0f}" for each in seen)
    found = f"{shares} of the book in {counted} codes a level at T {T}"

    def judged(low: bool, which: Sequence[tuple[float, int | None]]) -> tuple[str, bool | None]:
        wanting = [size for tokens, size in which if size is not None and tokens < CODES_PER_ENTRY_MIN * size]
        few = ""
        if wanting:
            few = f"; too few codes to tell (a book of {wanting[0]:,} wants {CODES_PER_ENTRY_MIN * wanting[0]:,})"
        return found + few, True if low else (None if wanting else False)

    low = all(use >= USE_MIN for use in entry["usage"])
    yield Verdict(f"no level under {format_percent(USE_MIN)} use", *judged(low, levels))
    reached = entry["usage"][0] >= USE_Q0_MIN
    yield Verdict(f"q0 uses {format_percent(USE_Q0_MIN)} of its book or more", *judged(reached, levels[:1]))


def _seen_by_level(result: EvaluationResult, T: str, entry: Entry) -> list[tuple[float, int | None]]:
    """Codes that were looked at and codes of the book, level by level; None where an older result has no size."""
    if books := entry.get("books"):
        return [*word_use.by_level(books)]
    size = result.get("vocab_sizes", {}).get(result["subject"])
    seen = result["chunks"][T] * entry["tokens_mean"] / len(entry["usage"])
    return [(seen, size)] * len(entry["usage"])


def _alignment(rows: Mapping[str, AlignmentJson], substitution: Mapping[str, DirectionJson]) -> Iterator[Verdict]:
    claims = (
        f"centred mid-chunk cosine at least {PEAK_MIN}",
        f"diagonal at least {CONTRAST_MIN} over off-diagonal",
    )
    if not rows:
        yield from (Verdict(claim, "no teacher's features were given", None) for claim in claims)
        return
    row = rows.get("seen", rows["all"])
    peak, shuffled, floor = (format_figure(value) for value in (row["mid_peak"], row["shuffled"], row["floor"]))
    found = f"{peak} (shuffled {shuffled}, floor {floor})"
    yield Verdict(claims[0], found, row["mid_peak"] >= PEAK_MIN)
    if row["contrast"] is None:
        yield Verdict(claims[1], "chunks of one slot have no off-diagonal", None)
    else:
        found = f"{format_figure(row['contrast'])} (the teacher with itself {format_figure(row['teacher_contrast'])})"
        yield Verdict(claims[1], found, row["contrast"] >= CONTRAST_MIN)
    yield from _substitution(substitution)


def _substitution(tasks: Mapping[str, DirectionJson]) -> Iterator[Verdict]:
    claim = f"teacher's features in place of h: cosine at least {SUBSTITUTION_MIN} on coarse tasks, over the floor"
    coarse = {
        task: row["cosines"] for task, row in tasks.items() if task not in FINE_TASKS and TEACHER in row["cosines"]
    }
    if not coarse:
        yield Verdict(claim, "nothing was decoded from a teacher's features", None)
        return
    values = {task: (row[TEACHER]["value"], row[FLOOR]["value"], row[FLOOR]["high"]) for task, row in coarse.items()}
    found = ", ".join(
        f"{task} {format_figure(v)} (floor {format_figure(floor)})" for task, (v, floor, _) in values.items()
    )
    yield Verdict(claim, found, all(v >= SUBSTITUTION_MIN and v > high for v, _, high in values.values()))


def _retrieval(rows: Mapping[str, Mapping[str, RetrievalJson]]) -> Iterator[Verdict]:
    claim = f"retrieval within task and arm at least {TIMES_CHANCE_MIN:g} times chance at R@1, both ways"
    ways = {way: row for way, row in (rows.get("seen") or rows.get("all") or {}).items() if way != "shuffled"}
    if not ways:
        yield Verdict(claim, "no teacher's features were given", None)
        return
    found = ", ".join(
        f"{way} {format_percent(row['r1']['value'])} among {row['candidates']:.0f}, "
        f"{format_figure(row['times_chance'])} times"
        for way, row in ways.items()
    )
    yield Verdict(claim, found, all(row["times_chance"] >= TIMES_CHANCE_MIN for row in ways.values()))


def _probes(slot: Mapping[str, Mapping[str, Mapping[str, ProbeJson]]], subject: str) -> Iterator[Verdict]:
    lead = f"q0 tells the sub-task at least {100 * PROBE_LEAD_MIN:g} points better than plain RVQ's q0"
    below = "q1 to q3 tell it worse than q0"

    def accuracy(name: str, features: str) -> float | None:
        probe = slot.get(name, {}).get(features, {}).get("subtask")
        return None if probe is None else probe["accuracy"]["value"]

    ours, rvq = accuracy(subject, "q0"), accuracy(RVQ, "q0")
    rest = next((f for f in slot.get(subject, {}) if f.startswith("q1")), "q1-q3")
    under = accuracy(subject, rest)
    if ours is None:
        yield from (Verdict(claim, "these data name no sub-tasks", None) for claim in (lead, below))
        return
    if rvq is None:
        yield Verdict(lead, f"no tokenizer called {RVQ} was evaluated beside it", None)
    else:
        found = f"{format_percent(ours)} against {format_percent(rvq)}"
        yield Verdict(lead, found, ours - rvq >= PROBE_LEAD_MIN)
    if under is not None:
        yield Verdict(below, f"{rest} {format_percent(under)}, q0 {format_percent(ours)}", under < ours)


def _noise(result: EvaluationResult) -> Iterator[Verdict]:
    subject = result["subject"]
    rivals = [name for name in (FAST, BINS) if all(name in entries for entries in result["horizons"].values())]
    claim = "fewer tokens change under sensor noise than with FAST and bins"
    if rivals:
        found = [
            said for rival in rivals if (said := _more_errors(result["horizons"].values(), subject, rival)) is not None
        ]
        missing = [f"{name} was not evaluated" for name in (FAST, BINS) if name not in rivals]
        told = found or [f"than {' and '.join(rivals)} at every length and sigma"]
        yield Verdict(claim, "; ".join([*told, *missing]), False if found else (None if missing else True))
    else:
        yield Verdict(claim, "neither FAST nor bins was evaluated", None)
    claim = "q0 flips at most a third as often as the mean of the levels below it"
    worst: dict[str, float] = {}
    for T, entries in result["horizons"].items():
        flips = entries[subject]["flip_per_level"]
        if flips is None:
            continue
        for sigma in SIGMAS:
            below = flips[sigma][1:]
            if below and sum(below):
                worst[T] = max(worst.get(T, 0.0), flips[sigma][0] / (sum(below) / len(below)))
    if worst:
        met = all(share <= Q0_FLIP_SHARE_MAX for share in worst.values())
        yield Verdict(claim, _by_length(worst, "of their rate at the worst sigma"), met)
    else:
        yield Verdict(claim, "the tokenizer has no levels, or none flipped", None)


def _more_errors(lengths: Iterable[Mapping[str, Entry]], subject: str, rival: str) -> str | None:
    """How often, over lengths and sigmas, a rival has fewer tokens change, and from what to what; None: never."""
    pairs = [(entries[subject]["wer"][sigma], entries[rival]["wer"][sigma]) for entries in lengths for sigma in SIGMAS]
    lost = [(own, other) for own, other in pairs if own >= other]
    if not lost:
        return None
    own, other = (f"{format_percent(min(part))} to {format_percent(max(part))}" for part in zip(*lost, strict=True))
    return f"{rival}: fewer in {len(lost)} of {len(pairs)} lengths and sigmas: {other} against {own}"


def _by_length(values: Mapping[str, float], unit: str) -> str:
    return ", ".join(f"T {T}: {value:.2f}" for T, value in values.items()) + f" {unit}"
