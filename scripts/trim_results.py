"""Make the JSON in docs/results small: keep what tables show, with its command, versions and revision; say what goes.

    python scripts/trim_results.py                  every file of docs/results, in place
    python scripts/trim_results.py NEW.json ...     these; --check changes nothing and fails where something would

Run it after a new result was put there. A second run changes nothing. What goes can be made again by the command that
each file holds:

- points and heat maps that a report draws, and curves of the fits that were not chosen (`DROPPED`);
- of a simulation's tasks, arms and cells (task, arm, level) all but "successes/episodes", and single episodes;
- of measures of meaning: what single arms and tasks do in alignment and retrieval, intervals of groups of robots;
- digits beyond the fifth, and line breaks within what fits on one line;
- folders of the machine that measured: a path that is absolute or leads out of the project keeps its last part.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "docs/results"
DIGITS = 5
WIDTH = 480
# Keys from the root down, "*" for any of them, and what is under them.
DROPPED: tuple[tuple[tuple[str, ...], str], ...] = (
    (("semantics", "plane"), "points of a drawn plane"),
    (("semantics", "families", "*", "matrix"), "heat maps"),
    (("semantics", "alignment", "*", "matrix"), "heat maps"),
    (("semantics", "probes", "chunk"), "probes of whole chunks"),
    *(
        (("semantics", *where, single), "measures of single arms and tasks")
        for where in (("alignment",), ("retrieval", "*"))
        for single in ("arm *", "task *")
    ),
    (("fast_fit", "*", "chosen_on_train", "curves"), "curves of FAST's forms on train episodes"),
    *(
        (("horizons", "*", rival, "curve"), "rivals over rivals at our numbers of tokens")
        for rival in ("bins", "fast", "fast-pooled", "rvq")
    ),
    *(
        (
            ("horizons", "*", "*", "curve", "*", each),
            "errors that `rate_distortion` and ratios tell",
        )
        for each in ("own", "rivals")
    ),
    (("corruption", "tokenizers", "*", "*", "*", "decoded"), "chunks that neither failed nor were repaired"),
    (("corruption", "tokenizers", "*", "*", "*", "l1"), "l1 under corruption, beside millimetres or joints"),
    *((("against_raw", "*", each), "ratios to raw by task, arm and cell") for each in ("tasks", "arms", "cells")),
)
COUNTED = tuple(("policies", "*", each, "*") for each in ("tasks", "arms", "cells"))  # of these, counts alone stay
VALUED = (("semantics", "probes", "*", "*", "*", "*", "by_group", "*"),)  # of these, the value without its interval
# An absolute path, one from somebody's home, or one that leads out of the project: all before its last part.
MACHINE = re.compile(r"(?<![\w.:/~-])(?:~?/|(?:\.\./)+)(?:[\w.@+-]+/)*(?=[\w.@+-])")


def trimmed(content: Any, gone: Counter[str] | None = None) -> Any:
    """The same JSON with less in it. gone: receives how often each kind of thing was left out."""
    return _trimmed(content, (), Counter() if gone is None else gone)


def dumped(content: Any) -> str:
    """JSON with one line for whatever fits on one."""
    return _dumped(content, 0) + "\n"


def machine_paths(content: Any) -> Iterator[str]:
    """Strings that name a folder of some machine."""
    if isinstance(content, str) and MACHINE.search(content):
        yield content
    for part in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        yield from machine_paths(part)


def _trimmed(value: Any, path: tuple[str, ...], gone: Counter[str]) -> Any:
    if isinstance(value, dict):
        if "successes" in value and any(_is_at(path, keys) for keys in COUNTED):
            gone["intervals, progress and steps of tasks, arms and cells"] += 1
            return f"{value['successes']}/{value['episodes']}"
        if "value" in value and any(_is_at(path, keys) for keys in VALUED):
            gone["intervals of groups of robots"] += 1
            return _trimmed(value["value"], path, gone)
        out = {}
        for key, part in value.items():
            why = next((why for keys, why in DROPPED if _is_at((*path, key), keys)), None)
            if not path and key == "episodes" and isinstance(part, list):
                why = "lists of single episodes"
            if why is None:
                out[key] = _trimmed(part, (*path, key), gone)
            else:
                gone[why] += 1
        return out
    if isinstance(value, list):
        return [_trimmed(part, (*path, "*"), gone) for part in value]
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, str):
        short = MACHINE.sub("", value)
        gone["folders of some machine"] += short != value
        return short
    return value


def _is_at(path: tuple[str, ...], keys: tuple[str, ...]) -> bool:
    return len(path) == len(keys) and all(map(fnmatchcase, path, keys))


def _dumped(value: Any, depth: int) -> str:
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or not value or (depth and depth + len(flat) <= WIDTH):
        return flat
    if isinstance(value, dict):
        parts = [f"{json.dumps(key, ensure_ascii=False)}: {_dumped(part, depth + 1)}" for key, part in value.items()]
    else:
        parts = [_dumped(part, depth + 1) for part in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    lines = [parts[0]]
    for part in parts[1:]:  # short ones share a line, but at the top, where each key has its own
        if depth and "\n" not in lines[-1] + part and depth + len(lines[-1]) + len(part) + 4 <= WIDTH:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    inner = "\n" + " " * (depth + 1)
    return f"{opening}{inner}{f',{inner}'.join(lines)}\n{' ' * depth}{closing}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, metavar="F.json", help="instead of all of docs/results")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where something would change")
    args = parser.parse_args()
    before_all, after_all, would = 0, 0, 0
    for path in args.files or sorted(RESULTS.glob("*.json")):
        before = path.read_text(encoding="utf-8")
        gone: Counter[str] = Counter()
        after = dumped(trimmed(json.loads(before), gone))
        before_all, after_all, would = before_all + len(before), after_all + len(after), would + (before != after)
        if before == after:
            continue
        what = "; ".join(f"{count} x {why}" for why, count in gone.items() if count) or "digits and line breaks alone"
        print(f"{path.name}: {len(before):,} -> {len(after):,} bytes; {what}")
        if not args.check:
            path.write_text(after, encoding="utf-8")
    print(f"in all {before_all:,} -> {after_all:,} bytes")
    return int(args.check and would > 0)


if __name__ == "__main__":
    sys.exit(main())
