"""Motion words from episodes: books that robots share, and robots measured for them or with books of their own.

No gradient: closed forms and k-means. Robots that books are placed on, and that are added, come from train episodes.

# N windows, S = 64 frames, K channels of a robot
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from xtok.actions.layout import Layout
from xtok.actions.statistics import Statistics
from xtok.actions.types import HORIZON_MAX
from xtok.codec.words import CodingSettings, FitSettings, Grammar, WordCodec, WordTokenizer, fit, ridge_for
from xtok.codec.words.fit import DEFAULT, word_space
from xtok.codec.words.fit_shared import Taught, fit_shared
from xtok.codec.words.fit_shared import measure as measure_model
from xtok.codec.words.robot import WordRobot, moving, rounded, scale_of, words_of
from xtok.codec.words.shared import Member, shared_book
from xtok.data import Episode, EpisodeDataset
from xtok.data.splits import train_episodes
from xtok.messages import say
from xtok.pretrain.corpus import Corpus
from xtok.progress import is_shown

TOTAL = 32_768
SHARED_WINDOWS = 6_000  # of each robot that shared residual books are placed on
Residuals = Literal["own", "shared"]
Keep = Callable[[WordCodec], None]


def fit_words(
    layout: Layout,
    episodes: Sequence[Episode],
    total: int = TOTAL,
    words: int | None = None,
    own: Collection[str] = (),
    settings: FitSettings = DEFAULT,
    progress: bool = False,
) -> WordTokenizer:
    """A tokenizer of `total` ids from train episodes: words and residual books placed on all robots, each of which is
    then measured for them. Poses share words in metres and radians, joints along each robot's own directions.

    own: robots that get residual books of their own.

    Raises:
        ValueError: a total outside 2,048 to 32,768, robots in `own` that no episode has, or as `adapt_words`.
    """
    corpus = Corpus(layout, episodes, validation=False)
    empty = WordCodec(layout, Grammar.of_total(total, words), None)
    return WordTokenizer(fit_codec(empty, corpus, own, settings, progress), CodingSettings())


def fit_codec(
    codec: WordCodec,
    corpus: Corpus,
    own: Collection[str] = (),
    settings: FitSettings = DEFAULT,
    progress: bool = False,
    keep: Keep = lambda codec: None,
) -> WordCodec:
    """What `codec` does not have yet of books and of robots of a corpus. keep: called with it after each step, so that
    a run that was stopped goes on from there.

    Raises:
        ValueError: as `fit_words`.
    """
    names = list(corpus.statistics)
    if unknown := set(own) - set(names):
        raise ValueError(f"no episodes of {sorted(unknown)}, which are to have books of their own; there are {names}")
    missing = [name for name in names if name not in codec.robots]
    steps = (codec.book is None) + (codec.shared is None) + len(missing)
    with (
        torch.random.fork_rng(devices=[]),
        torch.no_grad(),
        tqdm(desc="motion words", total=steps, unit="step", disable=not progress) as bar,
    ):

        def done(found: WordCodec) -> WordCodec:
            keep(found)
            bar.update()
            return found

        if codec.book is None:
            bar.set_postfix_str("book of words")
            codec = done(replace(codec, book=_book(codec, corpus, settings)))
        if codec.shared is None:
            bar.set_postfix_str("residual books")
            taught = [_taught(codec, corpus, name, settings) for name in names]
            codec = done(replace(codec, shared=fit_shared(taught, codec.grammar, settings)))
        for name in missing:
            bar.set_postfix_str(name)
            residuals: Residuals = "own" if name in own else "shared"
            codec = done(
                codec.with_robot(robot_from(codec, corpus.of(name), corpus.statistics[name], residuals, settings))
            )
    return codec


def adapt_words(
    tokenizer: WordTokenizer,
    episodes: Sequence[Episode],
    residuals: Residuals = "own",
    settings: FitSettings = DEFAULT,
    progress: bool = False,
) -> WordTokenizer:
    """The same books, with the robots of `episodes` (give the train split) added or replaced.

    residuals: "own" places residual books on the robot's motion, about 40 CPU seconds; "shared" measures it for the
    shared ones, a few.

    Raises:
        ValueError: no episodes, a robot with several rates or one that never moves, or "shared" where the tokenizer
            has no shared residual books.
    """
    corpus, codec = Corpus(tokenizer.layout, episodes, validation=False), tokenizer.codec
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for name in tqdm(list(corpus.statistics), desc="motion words", unit="robot", disable=not progress):
            robot = robot_from(codec, corpus.of(name), corpus.statistics[name], residuals, settings)
            codec = codec.with_robot(robot)
    return WordTokenizer(codec, tokenizer.coding, tokenizer.name)


def words_for(tokenizer: WordTokenizer, dataset: EpisodeDataset) -> WordTokenizer:
    """The same tokenizer with every robot of a data set: those that it lacks are measured on their train episodes, or
    get residual books of their own where there are no shared ones.

    Raises:
        ValueError: a robot without a train episode, or as `adapt_words`.
    """
    residuals = _residuals_of(tokenizer)
    what = "books of its own are placed" if residuals == "own" else "it is measured for the shared books"
    for robot in dataset.embodiments:
        if robot not in tokenizer.statistics:
            mine = train_episodes(dataset, robot)
            say(
                f"the tokenizer does not know {robot!r}: {what}, on {len(mine)} train episodes of {dataset.name}; "
                "`xtok adapt` gives it books of its own and keeps them"
            )
            tokenizer = adapt_words(tokenizer, mine, residuals, progress=bool(is_shown()))
    return tokenizer


def words_for_corpus(tokenizer: WordTokenizer, corpus: Corpus, settings: FitSettings = DEFAULT) -> WordTokenizer:
    """The same with every robot of a training corpus, on the part that is trained on; as `words_for`.

    Raises:
        ValueError: as `adapt_words`.
    """
    residuals = _residuals_of(tokenizer)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for name, statistics in corpus.statistics.items():
            if name not in tokenizer.statistics:
                say(f"the tokenizer does not know {name!r}: it is measured on the episodes that are trained on")
                robot = robot_from(tokenizer.codec, corpus.of(name), statistics, residuals, settings)
                tokenizer = tokenizer.with_robot(robot)
    return tokenizer


def _residuals_of(tokenizer: WordTokenizer) -> Residuals:
    """What a robot gets that nobody asked books of its own for."""
    return "own" if tokenizer.codec.shared is None else "shared"


def robot_from(
    codec: WordCodec,
    part: Corpus,
    statistics: Statistics,
    residuals: Residuals = "own",
    settings: FitSettings = DEFAULT,
) -> WordRobot:
    """The one robot of `part`, on the codec's words, or on words of its own where the codec has none.

    Raises:
        ValueError: as `adapt_words`.
    """
    if residuals == "shared" and codec.shared is None:
        raise ValueError("this tokenizer has no shared residual books; give the robot its own (residuals='own')")
    windows = _windows(part, statistics.embodiment, settings, settings.windows)
    settings = replace(settings, ridge=_ridge(part))
    scale_K = scale_of(statistics)
    words = None
    if codec.book is not None:
        words = words_of(word_space(windows, scale_K, settings), statistics, codec.book)
    if residuals == "shared" and codec.shared is not None:
        assert words is not None, "shared residual books come with shared words"
        measured = measure_model(windows, words, codec.shared, codec.grammar, settings)
        robot = WordRobot(statistics, rounded(measured.model, books=False), measured.maps)
    else:
        model = fit(windows, scale_K, codec.grammar, settings, words)
        robot = WordRobot(statistics, rounded(model), own_words=codec.book is None)
    return robot if codec.book is None else settled(robot, codec.book)


def settled(robot: WordRobot, book: Tensor) -> WordRobot:
    """With words from the shared book through the rounded space, as a file would give them back."""
    words = words_of(robot.words.space, robot.statistics, book)
    return replace(robot, model=replace(robot.model, words=words))


def _book(codec: WordCodec, corpus: Corpus, settings: FitSettings) -> Tensor:
    share = max(2, settings.windows // len(corpus.statistics))
    members = [
        Member(moving(known), scale_of(known), _windows(corpus, name, settings, share))
        for name, known in corpus.statistics.items()
    ]
    return shared_book(codec.layout, members, codec.grammar.words, settings).float().half().float()


def _taught(codec: WordCodec, corpus: Corpus, name: str, settings: FitSettings) -> Taught:
    statistics, book = corpus.statistics[name], codec.book
    assert book is not None
    windows = _windows(corpus, name, settings, min(settings.windows, SHARED_WINDOWS))
    words = words_of(word_space(windows, scale_of(statistics), settings), statistics, book)
    return Taught(windows, words, _ridge(corpus.of(name)))


def _ridge(part: Corpus) -> float:
    return ridge_for(sum(int(source.recorded_E.sum()) for source in part.train))


def _windows(corpus: Corpus, name: str, settings: FitSettings, count: int) -> Float[Tensor, "N S K"]:
    """A robot's windows, normalised; played at several speeds, and backwards too.

    Raises:
        ValueError: a robot that never moves, or has no episode to take windows from.
    """
    statistics = corpus.statistics[name]
    if not statistics.moving_D.any():
        raise ValueError(f"{name!r} never moves in these episodes, so there is nothing to measure; check the columns")
    generator = torch.Generator().manual_seed(settings.seed)
    windows = corpus.windows(name, count, generator)
    if len(windows) < 2:
        raise ValueError(f"no episode of {name!r} gives windows of {HORIZON_MAX} frames; give longer ones")
    return (windows.double() / scale_of(statistics)).float()
