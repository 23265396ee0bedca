"""Pretraining: data to weights. `train(recipe, data_paths, out)` is the one door; recipes are in xtok.recipes."""

from __future__ import annotations

from xtok.pretrain.adapt import adapt, fit_rvq
from xtok.pretrain.loop import train
from xtok.pretrain.measurement import measure, measure_robots, tokenizer_for
from xtok.pretrain.recipe import Recipe
from xtok.pretrain.words import adapt_words, fit_words

__all__ = [
    "Recipe",
    "adapt",
    "adapt_words",
    "fit_rvq",
    "fit_words",
    "measure",
    "measure_robots",
    "tokenizer_for",
    "train",
]
