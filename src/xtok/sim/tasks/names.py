"""Names of the tasks, without loading a simulator."""

from __future__ import annotations

CORPUS_SINGLE_TASKS = ("Lift", "Stack", "PickPlace", "Press", "Turn", "Insert", "Sort", "Tidy")  # of `xtok sim corpus`
SINGLE_TASKS = (*CORPUS_SINGLE_TASKS, "Tower", "PressOrder", "Serve")
PAIR_TASKS = ("TwoArmLift", "Handover", "TwoArmInsert", "Transport", "Share")
TASK_NAMES = SINGLE_TASKS + PAIR_TASKS
HELD_OUT_TASKS = ("Insert", "TwoArmInsert")  # no tokenizer is ever trained on them: nothing it saw is put into a hole
