"""A robot that a frozen tokenizer has never seen, from its train episodes, in closed form: seconds, no codebook placed.

Ranges are quantiles, the motion prior is a mean and a covariance, the slot predictor (of joints) is least squares.
Where there are few episodes, all of them lean on what the tokenizer expects of any robot. Codes stay those of the
shared codebooks and keep their meaning; `xtok adapt` gives a robot codebooks of its own.

# K tangent channels, S = 64 frames of the longest chunk
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from xtok.actions.statistics import Statistics
from xtok.actions.types import HORIZON_MAX, HORIZON_MIN, ChunkBatch
from xtok.codec import Tokenizer
from xtok.codec.gaussian import GaussianCodec
from xtok.codec.gaussian.prior import MotionPrior, fit_prior, shrunk
from xtok.codec.gaussian.robot_statistics import RobotStatistics, load_statistics
from xtok.codec.load import AnyTokenizer, load_tokenizer
from xtok.codec.words import WordTokenizer
from xtok.data import Episode, EpisodeDataset
from xtok.data.splits import train_episodes
from xtok.messages import say
from xtok.pretrain.corpus import Corpus
from xtok.pretrain.initialise import calibrate
from xtok.pretrain.slotwise import emphasis, measured_books
from xtok.pretrain.words import words_for

WINDOWS = 1024  # 64-frame windows the covariance is taken from; neighbouring ones say nearly the same
RANK = 128
GENERIC_WINDOWS = 0.5  # the generic prior weighs as much as so many independent windows (docs/log.md, 2026-11-28)
NEGLIGIBLE = 0.01  # a smaller share of the generic prior is none
# Chunks that q0's noise, activity and slot predictors are measured on: frames, how many.
CHUNKS = ((64, 256), (32, 256), (16, 256), (8, 512))
EMPHASIS = 0.5  # power of `pretrain.slotwise.emphasis` where details are coded for the chunk as a whole


def measure(tokenizer: Tokenizer, episodes: Sequence[Episode], seed: int = 0) -> Tokenizer:
    """The same tokenizer with the robots of `episodes` (give the train split) added, or measured anew.

    Raises:
        ValueError: no episode of a robot has two frames, a robot with several rates, or one that never moves.
    """
    corpus = Corpus(tokenizer.layout, episodes, validation=False)
    return _with_measured(tokenizer, corpus, list(corpus.statistics), seed)


def measure_robots(
    tokenizer: Tokenizer, episodes: Sequence[Episode], seed: int = 0
) -> list[RobotStatistics] | list[Statistics]:
    """What `Tokenizer.with_statistics` takes, for every robot of `episodes`, by name: of a perceiver, ranges alone.

    Raises:
        ValueError: as `measure`.
    """
    corpus = Corpus(tokenizer.layout, episodes, validation=False)
    return _measure_all(tokenizer, corpus, list(corpus.statistics), seed)


def measure_unknown(tokenizer: Tokenizer, corpus: Corpus, seed: int = 0) -> Tokenizer:
    """The same tokenizer with the robots of a training corpus that it lacks, measured on the part that is trained on.

    Raises:
        ValueError: as `measure`.
    """
    unknown = [robot for robot in corpus.statistics if robot not in tokenizer.statistics]
    for robot in unknown:
        mine = corpus.of(robot).train
        _say_measured(robot, _seen([int(frames) for source in mine for frames in source.recorded_E]))
    return _with_measured(tokenizer, corpus, unknown, seed)


def _with_measured(tokenizer: Tokenizer, corpus: Corpus, robots: Sequence[str], seed: int) -> Tokenizer:
    for found in _measure_all(tokenizer, corpus, robots, seed):
        tokenizer = tokenizer.with_statistics(found)
    return tokenizer


def gaussian_copy(tokenizer: Tokenizer) -> GaussianCodec:
    """A copy of its codec to which robots can be added.

    Raises:
        ValueError: a perceiver, which has neither priors nor codebooks of single robots.
    """
    codec = tokenizer.shared_codec()
    if not isinstance(codec, GaussianCodec):
        raise ValueError(
            f"tokenizer {tokenizer.name!r} is a perceiver: ranges are all that it knows of a robot, and "
            "`xtok.tokenizer_for(dataset)` takes them; there are no codebooks of a robot's own to place"
        )
    return codec


def _seen(lengths: Sequence[int]) -> str:
    return f"{len(lengths)} train episodes ({sum(lengths):,} frames)"


def _say_measured(robot: str, on: str) -> None:
    say(f"the tokenizer does not know {robot!r}: measured on {on}; `xtok adapt` gives it codebooks of its own")


def _measure_all(
    tokenizer: Tokenizer, corpus: Corpus, robots: Sequence[str], seed: int
) -> list[RobotStatistics] | list[Statistics]:
    if not isinstance(tokenizer.codec, GaussianCodec):
        return [corpus.statistics[name] for name in robots]
    foundation = tokenizer.foundation
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        return [
            _measure(gaussian_copy(tokenizer), corpus.of(name), corpus.statistics[name], foundation, seed)
            for name in robots
        ]


def tokenizer_for(
    dataset: EpisodeDataset,
    tokenizer: str | Path | AnyTokenizer | None = None,
    statistics: Sequence[Path | RobotStatistics] = (),
    ranges_only: bool = False,
) -> AnyTokenizer:
    """A tokenizer that knows every robot of a data set: those that it lacks are measured on their train episodes.

    Args:
        tokenizer: one, a folder, a hub id, or shipped weights; None: the shipped ones of the set's layout.
        statistics: of robots measured before (`xtok stats -o`); they stand in place of what the tokenizer knows.
        ranges_only: code robots that it lacks by their ranges alone, which is worse; for comparison.

    Raises:
        ValueError: another layout than the data's, statistics that do not fit, or a robot without a train episode.
    """
    found = load_tokenizer(tokenizer or dataset.layout.name) if isinstance(tokenizer, str | Path | None) else tokenizer
    if found.layout.digest != dataset.layout.digest:
        raise ValueError(
            f"tokenizer {found.name!r} is of layout {found.layout.name!r}, {dataset.name} was read as "
            f"{dataset.layout.name!r}; give --layout {found.layout.name}, or another --tokenizer"
        )
    if isinstance(found, WordTokenizer):
        if statistics or ranges_only:
            raise ValueError(
                "motion words are measured on episodes: ranges alone and files of `xtok stats` do not serve. Leave "
                "--statistics and --ranges-only away; `xtok adapt DATA -o TOKENIZER` keeps what was measured"
            )
        return words_for(found, dataset)
    for given in statistics:
        found = _with_given(found, dataset, given, ranges_only)
    unknown = [robot for robot in dataset.embodiments if robot not in found.statistics]
    if not unknown:
        return found
    episodes = {robot: train_episodes(dataset, robot) for robot in unknown}
    for robot, mine in episodes.items():
        seen = f"{_seen([len(episode) for episode in mine])} of {dataset.name}"
        if ranges_only:
            say(f"{robot!r} is coded by its ranges alone, from {seen}, as was asked for")
            found = found.with_ranges(Corpus(found.layout, mine, validation=False).statistics[robot])
        else:
            _say_measured(robot, seen)
            found = measure(found, mine)
    return found


def _with_given(
    tokenizer: Tokenizer, dataset: EpisodeDataset, given: Path | RobotStatistics, ranges_only: bool
) -> Tokenizer:
    robot = load_statistics(given) if isinstance(given, str | Path) else given
    if robot.embodiment not in dataset.embodiments:
        raise ValueError(f"{given} is of {robot.embodiment!r}, {dataset.name} holds {list(dataset.embodiments)}")
    if not isinstance(robot, Statistics):
        return tokenizer.with_statistics(robot)
    if not ranges_only:
        raise ValueError(
            f"{given} holds ranges alone, as an older xtok wrote them: measure the robot with `xtok stats DATA -o "
            "F.json`, or say --ranges-only (ranges_only=True)"
        )
    return tokenizer.with_ranges(robot)


def _measure(codec: GaussianCodec, part: Corpus, statistics: Statistics, foundation: str, seed: int) -> RobotStatistics:
    """The one robot of `part`. `codec` is used up."""
    name = statistics.embodiment
    if not statistics.moving_D.any():
        raise ValueError(f"{name!r} never moves in these episodes, so there is nothing to measure; check the columns")
    generator = torch.Generator().manual_seed(seed)
    codec.forget_robot(name)
    codec.ranges.pop(name, None)
    worth = sum(int(source.recorded_E.sum()) for source in part.train) / HORIZON_MAX
    windows = part.windows(name, WINDOWS, generator)
    if len(windows) < 2:  # a few frames: no more to say than what any robot does within these ranges
        if codec.generic is None:
            raise ValueError(f"no episode of {name!r} is longer than {HORIZON_MIN} frames; give longer ones")
        return RobotStatistics(codec.generic.for_robot(statistics), None, foundation, round(worth, 2)).rounded()
    prior = _prior(codec, windows, statistics, worth)
    codec.add_robot(replace(prior, emphasis_K=emphasis(codec, prior, EMPHASIS)))
    samples = calibrate(codec, name, _chunks(part, generator))
    stretch_C = None
    if codec.generic is not None and codec.generic.slotwise is not None:
        stretch_C = measured_books(codec, codec.robots[name], samples)
    return RobotStatistics(codec.robots[name], stretch_C, foundation, round(worth, 2)).rounded()


def _prior(codec: GaussianCodec, windows: Tensor, statistics: Statistics, worth: float) -> MotionPrior:
    """The robot's own Gaussian, leaning on the generic one the more, the less was seen of it."""
    rank = min(RANK, codec.config.prior_rank)
    share = GENERIC_WINDOWS / (worth + GENERIC_WINDOWS)
    own = fit_prior(codec.layout, statistics, windows, rank)
    if codec.generic is None or share < NEGLIGIBLE:
        return own
    return shrunk(own, codec.generic.for_robot(statistics), share, rank)


def _chunks(part: Corpus, generator: torch.Generator) -> list[ChunkBatch]:
    return [part.sample(horizon, count, generator) for horizon, count in CHUNKS]
