"""Options that were renamed: both spellings mean the same, and the help shows the new one alone."""

from __future__ import annotations

import pytest

from xtok.cli.main import build_parser, main

EVAL = ["eval", "--data", "set"]
REPLAY = ["sim", "eval", "--policy", "replay"]


@pytest.mark.parametrize(
    ("command", "old", "new", "value"),
    [
        (EVAL, "--beside", "--compare", ["a=x", "b=y"]),
        (EVAL, "--meaning", "--semantics", ["no"]),
        (EVAL, "--meaning-chunks", "--semantics-chunks", ["7"]),
        (REPLAY, "--through", "--tokenizers", ["xtok,bins"]),
    ],
)
def test_both_spellings_mean_the_same(
    command: list[str], old: str, new: str, value: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    parser = build_parser()
    given = vars(parser.parse_args([*command, new, *value]))
    assert vars(parser.parse_args([*command, old, *value])) == given != vars(parser.parse_args(command))
    with pytest.raises(SystemExit):
        main([*(part for part in command if part in ("eval", "sim")), "--help"])
    shown = capsys.readouterr().out
    assert new in shown and old not in shown
