"""Names of the tasks, without loading a simulator."""

from __future__ import annotations

TASK_NAMES = ("Lift", "Stack", "PickPlace", "Press", "Turn", "Insert", "Sort", "Tidy")
HELD_OUT_TASK = "Insert"  # no tokenizer is ever trained on it
