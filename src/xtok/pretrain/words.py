"""Motion words from episodes: a shared book of words, and robots with residual books of their own. No gradient.

# N windows, S = 64 frames, K channels of a robot
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from xtok.actions.layout import Layout
from xtok.actions.statistics import Statistics
from xtok.actions.types import HORIZON_MAX
from xtok.codec.words import CodingSettings, FitSettings, Grammar, WordCodec, WordTokenizer, fit, ridge_for
from xtok.codec.words.fit import DEFAULT, word_space
from xtok.codec.words.robot import WordRobot, moving, rounded, scale_of, words_of
from xtok.codec.words.shared import Member, physical_book, whitened_book
from xtok.data import Episode, EpisodeDataset
from xtok.data.splits import train_episodes
from xtok.messages import say
from xtok.pretrain.corpus import Corpus
from xtok.progress import is_shown

TOTAL = 32_768


def fit_words(
    layout: Layout,
    episodes: Sequence[Episode],
    total: int = TOTAL,
    words: int | None = None,
    settings: FitSettings = DEFAULT,
    progress: bool = False,
) -> WordTokenizer:
    """A tokenizer of `total` ids from train episodes: one book of words for all robots, residual books of each robot's
    own. Poses share words in metres and radians, joints along each robot's own directions.

    Raises:
        ValueError: a total outside 2,048 to 32,768, or as `adapt_words`.
    """
    return fit_grammar(layout, episodes, Grammar.of_total(total, words), settings, progress)


def fit_grammar(
    layout: Layout,
    episodes: Sequence[Episode],
    grammar: Grammar,
    settings: FitSettings = DEFAULT,
    progress: bool = False,
) -> WordTokenizer:
    """`fit_words`, with books of any size.

    Raises:
        ValueError: as `adapt_words`.
    """
    corpus = Corpus(layout, episodes, validation=False)
    names = list(corpus.statistics)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        members = [
            Member(moving(known), scale_of(known), _windows(corpus, name, settings, len(names)))
            for name, known in corpus.statistics.items()
        ]
        if layout.of_kind("joint"):
            book = whitened_book(members, grammar.words, settings)
        else:
            book = physical_book(layout, members, grammar.words, settings)
    codec = WordCodec(layout, grammar, book.float().half().float())
    return _with_own(WordTokenizer(codec, CodingSettings()), corpus, settings, progress)


def adapt_words(
    tokenizer: WordTokenizer, episodes: Sequence[Episode], settings: FitSettings = DEFAULT, progress: bool = False
) -> WordTokenizer:
    """The same words, with the robots of `episodes` (give the train split) added or replaced; each gets residual books
    of its own, and about 40 CPU seconds are spent on it.

    Raises:
        ValueError: no episodes, a robot with several rates, or one that never moves.
    """
    return _with_own(tokenizer, Corpus(tokenizer.layout, episodes, validation=False), settings, progress)


def _with_own(tokenizer: WordTokenizer, corpus: Corpus, settings: FitSettings, progress: bool) -> WordTokenizer:
    codec = tokenizer.codec
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        names = list(corpus.statistics)
        for name in tqdm(names, desc="motion words", unit="robot", disable=not progress):
            codec = codec.with_robot(own_robot(codec, corpus.of(name), corpus.statistics[name], settings))
    return WordTokenizer(codec, tokenizer.coding, tokenizer.name)


def words_for(tokenizer: WordTokenizer, dataset: EpisodeDataset) -> WordTokenizer:
    """The same tokenizer with every robot of a data set: those that it lacks get residual books of their own, placed on
    their train episodes.

    Raises:
        ValueError: a robot without a train episode, or as `adapt_words`.
    """
    for robot in dataset.embodiments:
        if robot not in tokenizer.statistics:
            mine = train_episodes(dataset, robot)
            say(
                f"the tokenizer does not know {robot!r}: books of its own are placed on {len(mine)} train episodes, "
                "about a minute; `xtok adapt` keeps them"
            )
            tokenizer = adapt_words(tokenizer, mine, progress=bool(is_shown()))
    return tokenizer


def own_robot(codec: WordCodec, part: Corpus, statistics: Statistics, settings: FitSettings = DEFAULT) -> WordRobot:
    """The one robot of `part`, with residual books of its own on the codec's words, or on words of its own where the
    codec has none."""
    windows = _windows(part, statistics.embodiment, settings)
    frames = sum(int(source.recorded_E.sum()) for source in part.train)
    settings = replace(settings, ridge=ridge_for(frames))
    scale_K = scale_of(statistics)
    words = None
    if codec.book is not None:
        words = words_of(word_space(windows, scale_K, settings), statistics, codec.book)
    model = fit(windows, scale_K, codec.grammar, settings, words)
    return settled(WordRobot(statistics, rounded(model), codec.book is None), codec.book)


def settled(robot: WordRobot, book: Tensor | None) -> WordRobot:
    """With words from the shared book through the rounded space, as a file would give them back."""
    if book is None:
        return robot
    words = words_of(robot.words.space, robot.statistics, book)
    return replace(robot, model=replace(robot.model, words=words))


def _windows(corpus: Corpus, name: str, settings: FitSettings, robots: int = 1) -> Float[Tensor, "N S K"]:
    """A robot's share of the windows, normalised; played at several speeds, and backwards too.

    Raises:
        ValueError: a robot that never moves, or has no episode to take windows from.
    """
    statistics = corpus.statistics[name]
    if not statistics.moving_D.any():
        raise ValueError(f"{name!r} never moves in these episodes, so there is nothing to measure; check the columns")
    generator = torch.Generator().manual_seed(settings.seed)
    windows = corpus.windows(name, max(2, settings.windows // robots), generator)
    if len(windows) < 2:
        raise ValueError(f"no episode of {name!r} gives windows of {HORIZON_MAX} frames; give longer ones")
    return (windows.double() / scale_of(statistics)).float()
