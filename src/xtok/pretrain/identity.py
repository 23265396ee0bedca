"""What a resumed run must share with its beginning: recipe, data, features, tokenizer."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from xtok.codec import Tokenizer
from xtok.pretrain.corpus import Corpus
from xtok.pretrain.recipe import Recipe
from xtok.semantics.cotemporal import FrameFeatures


def identity(
    recipe: Recipe, corpus: Corpus, features: FrameFeatures | None, tokenizer: Tokenizer | None
) -> dict[str, Any]:
    """As JSON gives it back. data_digest: of the motion; statistics: of each robot, which say its channels and rate;
    episodes_digest: of names, tasks and words, which heads learn from and by which features are found.
    """
    episodes = hashlib.sha256()
    for source in (*corpus.train, *corpus.validation):
        for key, task, words in zip(source.episode_E, source.task_E, source.words_E, strict=True):
            episodes.update(json.dumps([key, task, words.cut_S.tolist(), words.key_S.tolist()]).encode())
    return {
        **({} if tokenizer is None else {"tokenizer_digest": tokenizer.digest}),
        "recipe": json.loads(json.dumps(recipe.to_dict())),
        "data_digest": corpus.digest,
        "statistics": {name: statistics.digest for name, statistics in sorted(corpus.statistics.items())},
        "episodes_digest": episodes.hexdigest()[:16],
        "features_digest": None if features is None else features.digest,
    }
