"""What is a tokenizer worth? One question a file, asked of every tokenizer through the one protocol.

    from xtok.evaluate import evaluate_dataset, to_json, write_report

The questions: reconstruction, rate, robustness, codebook, swap, speed. `run` puts them all, `fit` refits the baselines,
`dataset` does a whole data set, `report` draws it.
"""

from __future__ import annotations

from xtok.evaluate.dataset import Budget, Evaluation, evaluate_dataset
from xtok.evaluate.report import render, write_report
from xtok.evaluate.run import evaluate, to_json

__all__ = ["Budget", "Evaluation", "evaluate", "evaluate_dataset", "render", "to_json", "write_report"]
