"""What a resumed run must share with its beginning: recipe, data, features, tokenizer, the weights it started from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TypedDict

from xtok.codec import Tokenizer
from xtok.codec.load import AnyTokenizer
from xtok.pretrain.corpus import Corpus
from xtok.pretrain.recipe import Recipe
from xtok.semantics.cotemporal import FrameFeatures


class _Tokenizer(TypedDict, total=False):
    tokenizer_digest: str
    start_digest: str


class Identity(_Tokenizer):
    """data_digest: of the motion; statistics: of each robot, which say its channels and rate; episodes_digest: of
    names, tasks and words, which heads learn from and by which features are found. tokenizer_digest: of one that stays
    as it is, absent where the run places its own. start_digest: of one that training began at, absent without."""

    recipe: dict[str, object]
    data_digest: str
    statistics: dict[str, str]
    episodes_digest: str
    features_digest: str | None


class Launched(TypedDict):
    """How a run is run, which may change when it is resumed; batches do not hang on it."""

    world_size: int
    accumulate: int
    precision: str
    device: str


class RunJson(Identity, Launched):
    """The run.json of a run. data: folders. left_out: episodes that could not be read. data_order: in words."""

    global_batch: int
    data_order: str

    data: list[str]
    left_out: Sequence[Mapping[str, object]]
    git_revision: str | None
    versions: dict[str, str | None]
    command: str


def identity(
    recipe: Recipe,
    corpus: Corpus,
    features: FrameFeatures | None,
    tokenizer: AnyTokenizer | None,
    start: Tokenizer | None = None,
) -> Identity:
    """What a run is, as JSON gives it back."""
    episodes = hashlib.sha256()
    for source in (*corpus.train, *corpus.validation):
        for key, task, words in zip(source.episode_E, source.task_E, source.words_E, strict=True):
            episodes.update(json.dumps([key, task, words.cut_S.tolist(), words.key_S.tolist()]).encode())
    found: Identity = {
        "recipe": json.loads(json.dumps(recipe.to_dict())),
        "data_digest": corpus.digest,
        "statistics": {name: statistics.digest for name, statistics in sorted(corpus.statistics.items())},
        "episodes_digest": episodes.hexdigest()[:16],
        "features_digest": None if features is None else features.digest,
    }
    if tokenizer is not None:
        found["tokenizer_digest"] = tokenizer.digest
    if start is not None:
        found["start_digest"] = start.digest
    return found
