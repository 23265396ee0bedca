"""Training chunks: every start of every train episode, in mixed proportions, with honest augmentation.

# E episodes of a source, N frames of an episode, n chunks of one source, B batch, T frames, S = 64, K tangent channels,
# D channels
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from xtok.actions.delta import tangent_mask, to_delta, to_tangent
from xtok.actions.layout import Layout, get_layout
from xtok.actions.statistics import Statistics
from xtok.actions.statistics_fit import fit_statistics
from xtok.actions.types import FRAMES_PER_SLOT, HORIZON_MAX, ChunkBatch, Context
from xtok.data import Episode, open_dataset, select
from xtok.data.episode import ActionSource, LeftOut
from xtok.data.origins import EpisodeKey, Origins, WordsTable, joined, words_of
from xtok.data.packed.episodes import stored_statistics
from xtok.data.packed.sources import trainable
from xtok.data.sampler import ChunkSampler, Drawn
from xtok.pretrain.episode_group import EpisodeGroup, Places, draw_cells, draw_starts, starts_of
from xtok.pretrain.motion import motion_of
from xtok.pretrain.sampling_weights import weigh_alike, weigh_by_share
from xtok.progress import track

VALIDATION_EVERY = 5  # of the train episodes, every fifth is kept from gradients and books
# Motions are also played faster, slower and backwards: joint and hand paths stay ones that the robot can follow.
RATES = (0.7, 1.4)
# Lengths that priors and books are fitted on: the published range in ten steps, some of them no multiple of 4.
HORIZONS = (8, 11, 16, 21, 28, 32, 40, 47, 56, 64)
WARPED, REVERSED = 0.75, 0.3  # shares of training chunks
_HELD = int(np.ceil(HORIZON_MAX * RATES[1])) + 1  # frames for which a short episode is held at its end
# Places between frames are float32 numbers among all frames of a source, too coarse beyond this many. Smaller sources
# keep them, so that the same seed places the same codebooks as ever.
_FLOAT32_FRAMES = 2**20
_ALL = slice(None)


class Corpus(ChunkSampler):
    """Sources in proportion to their frames (docs/method.md#losses: unweighted), but one arm and two arms alike.

    A q0 code learns of the second arm only from robots that have one; with a tenth of the frames they would get what
    single arms leave over (docs/log.md, 2026-11-24).

    Validation episodes come out of the train split, so that nothing is ever chosen by held-out figures.
    left_out: episodes that could not be read and are not here.
    """

    left_out: tuple[LeftOut, ...] = ()

    def __init__(
        self,
        layout: Layout,
        episodes: Sequence[Episode],
        sampling_weights: Mapping[str, float] | None = None,
        validation: bool = True,
    ) -> None:
        """sampling_weights: of the chunks, by robot, in place of that rule (any positive numbers; every robot needs
        one).
        validation: False keeps no episode back, where nothing is chosen.

        Raises:
            ValueError: no episodes, several rates for one robot, or weights of other robots.
        """
        if not episodes:
            raise ValueError("the corpus has no episodes; check the folders and the split")
        self.layout = layout
        robots: dict[str, list[Episode]] = {}
        for episode in episodes:
            robots.setdefault(episode.embodiment, []).append(episode)
        self.train: list[EpisodeGroup] = []
        self.validation: list[EpisodeGroup] = []
        digest = hashlib.sha256()
        for name, group in track(sorted(robots.items()), "statistics", "robot"):
            statistics = fit_statistics_of(layout, group)
            for part, sources in ((False, self.train), (True, self.validation)):
                kept = [validation and i % VALIDATION_EVERY == VALIDATION_EVERY - 1 for i in range(len(group))]
                chosen = [episode for episode, keep in zip(group, kept, strict=True) if keep is part]
                sources += _sources(name, chosen, statistics)
        self.train, self.validation = (_shared_out(part, sampling_weights) for part in (self.train, self.validation))
        for source in (*self.train, *self.validation):
            for absolute_ND in source.motion:
                digest.update(_held(absolute_ND).tobytes())
        self.digest = digest.hexdigest()[:16]

    @classmethod
    def open(
        cls,
        layout: Layout,
        paths: Sequence[Path],
        action_sources: Sequence[ActionSource] = ("achieved",),
        sampling_weights: Mapping[str, float] | None = None,
        skip_bad: bool = False,
        validation: bool = True,
    ) -> Corpus:
        """Train episodes (index mod 5 != 4) of every data set, in one layout.

        action_sources: motion as measured, as commanded, or both where a set has both (one that has one kind gives it).
        skip_bad: leave out episodes that cannot be read; they are in `left_out`.
        validation: as of `Corpus`.

        Raises:
            ValueError: a set whose robot is marked as held out (within a packed corpus it is left out, with a warning).
        """
        episodes: list[Episode] = []
        left_out: list[LeftOut] = []
        found = [each for given in paths for each in trainable(given, layout.name)]
        for path in track(found, "reading data sets", "set"):
            dataset = open_dataset(path, layout=layout.name, skip_bad=skip_bad)
            left_out += dataset.left_out
            if dataset.held_out_robot:
                raise ValueError(f"{path}: its robot is marked as held out (meta/info.json); leave this folder out")
            episodes += select(dataset, "train") if "achieved" in action_sources else []
            if "commanded" in action_sources and "commanded" in dataset.action_sources:
                goals = open_dataset(path, layout=layout.name, action_source="commanded", skip_bad=skip_bad)
                episodes += select(goals, "train")
                left_out += [each for each in goals.left_out if each not in left_out]
        corpus = cls(layout, episodes, sampling_weights, validation)
        corpus.left_out = tuple(left_out)
        return corpus

    def of(self, name: str) -> Corpus:
        """The part of one robot, its episodes with all channels."""
        part = copy(self)
        part.train, part.validation = (
            [s for s in sources if s.statistics.embodiment == name and (s.mask_D == _full(s)).all()]
            for sources in (self.train, self.validation)
        )
        return part

    def without(self, names: Sequence[str]) -> Corpus:
        """All robots but these, in proportion to their frames.

        Raises:
            ValueError: a robot that is not in the corpus, or none would be left.
        """
        if unknown := set(names) - self.statistics.keys():
            raise ValueError(f"robots {sorted(unknown)} are not in the corpus, which has {sorted(self.statistics)}")
        part = copy(self)
        part.train, part.validation = (
            [replace(s, weight=1.0) for s in sources if s.statistics.embodiment not in names]
            for sources in (self.train, self.validation)
        )
        if not part.train:
            raise ValueError(f"no robot of the corpus is left without {sorted(names)}; the shared books need one")
        return part

    @property
    def statistics(self) -> dict[str, Statistics]:
        return {source.statistics.embodiment: source.statistics for source in (*self.train, *self.validation)}

    def sample(self, horizon: int, batch_size: int, generator: torch.Generator, augment: bool = True) -> ChunkBatch:
        """Random chunks of the train part."""
        return self.draw(horizon, batch_size, generator, augment).chunks

    def draw(
        self,
        horizon: int,
        batch_size: int,
        generator: torch.Generator,
        augment: bool = True,
        one_chunk_each: Container[EpisodeKey] = (),
        part: Literal["train", "validation"] = "train",
        backwards: float = REVERSED,
        cells: int | None = None,
        rows: slice = _ALL,
    ) -> Drawn:
        """The same with their origins. one_chunk_each: of these episodes no two chunks are drawn while there are
        others left.
        backwards: share of chunks that are played so, if there is augmentation. cells: so many pairs of robot and task,
        each with two episodes of `one_chunk_each` or more, share the batch, in place of all (where there are such).
        rows: of the batch; the others are drawn and not read."""
        sources = self.train if part == "train" else (self.validation or self.train)
        places = _places(sources, horizon, batch_size, generator, augment, one_chunk_each, backwards, cells)
        return _cut(self.layout, sources, places[rows])

    def validate(self, horizon: int, batch_size: int, seed: int = 0) -> ChunkBatch:
        """The same chunks of the validation part at every call."""
        return self.draw(horizon, batch_size, torch.Generator().manual_seed(seed), False, part="validation").chunks

    def validates(self, horizon: int) -> bool:
        """Whether `validate` has chunks of this length."""
        return any(len(starts_of(source, horizon, 1.0)) for source in self.validation or self.train)

    def windows(self, name: str, count: int, generator: torch.Generator) -> Float[Tensor, "N S K"]:
        """Random 64-frame windows of a robot's valid tangent deltas, for its prior; none if no episode is so long."""
        sources = [s for s in self.train if s.statistics.embodiment == name and (s.mask_D == _full(s)).all()]
        if not any(len(starts_of(source, HORIZON_MAX, 1.0)) for source in sources):
            return torch.empty(0, HORIZON_MAX, 0)
        chunks = _cut(self.layout, sources, _places(sources, HORIZON_MAX, count, generator, True)).chunks
        context = chunks.context
        assert context.anchor_BD is not None
        delta = to_delta(self.layout, chunks.target_BTD.double(), context.anchor_BD.double(), context.mask_BD)
        moving_D = torch.from_numpy(sources[0].statistics.moving_D.copy())
        return to_tangent(self.layout, delta)[..., tangent_mask(self.layout, moving_D)]


def fit_statistics_of(layout: Layout, episodes: Sequence[Episode]) -> Statistics:
    """Statistics over all episodes of one robot; a channel that some of them lack is taken from those that have it.

    Raises:
        ValueError: different control rates.
    """
    first = episodes[0]
    if len(rates := {episode.control_hz for episode in episodes}) > 1:
        raise ValueError(f"episodes of {first.embodiment!r} have rates {sorted(rates)} Hz; resample them to one")
    widest = np.any([episode.mask_D for episode in episodes], axis=0)
    complete = [episode for episode in episodes if (episode.mask_D == widest).all()]
    if not complete:
        raise ValueError(f"no episode of {first.embodiment!r} has all the channels that some of its episodes have")
    if (known := stored_statistics(complete)) is not None:
        return known
    frames = [episode.absolute_ND for episode in complete]
    return fit_statistics(layout, first.embodiment, first.control_hz, widest, frames)


def _sources(name: str, episodes: Sequence[Episode], statistics: Statistics) -> list[EpisodeGroup]:
    """One source for each channel mask among the episodes."""
    groups: dict[bytes, list[Episode]] = {}
    for episode in episodes:
        groups.setdefault(episode.mask_D.tobytes(), []).append(episode)
    out = []
    for group in groups.values():
        recorded_E = torch.tensor([len(episode) for episode in group])
        held_E = torch.where(recorded_E > HORIZON_MAX, recorded_E, recorded_E + _HELD)
        mask_D = torch.from_numpy(group[0].mask_D.copy())
        keys = tuple((episode.dataset, episode.index) for episode in group)
        words = WordsTable.of(map(words_of, group))
        tasks = tuple(episode.task or episode.instruction for episode in group)
        out.append(EpisodeGroup(keys, tasks, words, statistics, motion_of(group), recorded_E, held_E, mask_D))
    return out


def _shared_out(sources: Sequence[EpisodeGroup], sampling_weights: Mapping[str, float] | None) -> list[EpisodeGroup]:
    frames = [source.frames for source in sources]
    if sampling_weights is None:
        weights = weigh_alike(frames, [_hands(source) for source in sources])
    else:
        weights = weigh_by_share(frames, [source.statistics.embodiment for source in sources], sampling_weights)
    return [replace(source, weight=weight) for source, weight in zip(sources, weights, strict=True)]


def _hands(source: EpisodeGroup) -> tuple[bool, ...]:
    """Which position channels are there."""
    kinds = get_layout(source.statistics.layout).channel_kinds
    return tuple(bool(m) for m, kind in zip(source.mask_D, kinds, strict=True) if kind == "position")


def _held(absolute_ND: np.ndarray) -> np.ndarray:
    """An episode long enough for every chunk: a robot that has done what it was to do stays where it is.

    Without it the shortest tasks would be in no long chunk, and in no prior.
    """
    if len(absolute_ND) > HORIZON_MAX:
        return absolute_ND
    return np.concatenate([absolute_ND, np.repeat(absolute_ND[-1:], _HELD, axis=0)])


def _full(source: EpisodeGroup) -> Tensor:
    return torch.from_numpy(source.statistics.mask_D.copy())


def _places(
    sources: Sequence[EpisodeGroup],
    horizon: int,
    count: int,
    generator: torch.Generator,
    augment: bool,
    one_chunk_each: Container[EpisodeKey] = (),
    backwards: float = REVERSED,
    cells: int | None = None,
) -> Places:
    """All that is random in a batch. It reads no motion, so that each process can draw the whole and cut its part."""
    reach = RATES[1] if augment else 1.0
    starts = [starts_of(source, horizon, reach) for source in sources]
    if not any(len(s) for s in starts):  # episodes only just longer than the chunk
        starts = [starts_of(source, horizon, 1.0) for source in sources]
        augment = False
    weight = torch.tensor([len(s) * source.weight for s, source in zip(starts, sources, strict=True)]).double()
    if weight.sum() == 0:
        raise ValueError(f"no episode of the corpus is longer than {horizon} frames")
    groups = [] if cells is None else draw_cells(sources, starts, count, generator, one_chunk_each, cells)
    if not groups:
        choice = torch.multinomial(weight, count, replacement=True, generator=generator)
        numbers, counts = choice.unique(return_counts=True)
        groups = [(i, starts[i], n) for i, n in zip(numbers.tolist(), counts.tolist(), strict=True)]
    parts = []
    for number, allowed, n in groups:
        drawn = draw_starts(sources[number], allowed, n, generator, one_chunk_each)
        episode = allowed.episode(drawn)
        rate = torch.ones(n)
        reversed_n = torch.zeros(n, dtype=torch.bool)
        if augment:
            warped = torch.rand(n, generator=generator) < WARPED
            rate = torch.where(warped, RATES[0] + (RATES[1] - RATES[0]) * torch.rand(n, generator=generator), rate)
            reversed_n = torch.rand(n, generator=generator) < backwards
        parts.append((torch.full((n,), number), episode, drawn - allowed.before(episode), rate, reversed_n))
    return Places(horizon, *(torch.cat(part) for part in zip(*parts, strict=True)))


def _cut(layout: Layout, sources: Sequence[EpisodeGroup], places: Places) -> Drawn:
    """Anchor and target, read from the recording at `rate` frames a step, forwards or backwards."""
    B, horizon = len(places), places.horizon
    path_BTD, mask_BD = torch.empty(B, horizon + 1, layout.width), torch.empty(B, layout.width, dtype=torch.bool)
    rates: list[float] = []
    names: list[str] = []
    origins = []
    numbers, counts = places.source_B.unique_consecutive(return_counts=True)
    for number, n in zip(numbers.tolist(), counts.tolist(), strict=True):
        source, rows = sources[number], slice(len(names), len(names) + n)
        here = places[rows]
        _play(source, here, path_BTD[rows])
        mask_BD[rows] = source.mask_D
        rates += [source.statistics.control_hz] * n
        names += [source.statistics.embodiment] * n
        origins.append(_origins(source, here))
    context = Context(layout, path_BTD[:, 0].clone(), mask_BD, torch.tensor(rates), tuple(names), horizon)
    return Drawn(ChunkBatch(path_BTD[:, 1:].contiguous(), context), joined(origins))


def _play(source: EpisodeGroup, places: Places, out_nTD: Tensor) -> None:
    """The frames of chunks of one group, between two recorded ones where the rate puts them there."""
    episode_n, T = places.episode_B, places.horizon + 1
    step_T = torch.arange(T)
    step_nT = torch.where(places.reversed_B[:, None], T - 1 - step_T, step_T)
    first_n = source.first_E[episode_n] * (source.frames <= _FLOAT32_FRAMES)
    at_nT = (first_n + places.anchor_B)[:, None] + places.rate_B[:, None] * step_nT
    low_nT = at_nT.floor().long()
    part_nT1 = (at_nT - low_nT)[..., None]
    last_n1 = source.recorded_E[episode_n][:, None] - 1  # beyond it, an episode is held
    low_nT = low_nT - first_n[:, None]
    both = source.motion.at(episode_n, torch.minimum(torch.cat([low_nT, low_nT + 1], dim=1), last_n1))
    torch.mul(both[:, :T], 1 - part_nT1, out=out_nTD)
    out_nTD += both[:, T:] * part_nT1


def _origins(source: EpisodeGroup, places: Places) -> Origins:
    return Origins(
        tuple(source.episode_E[e] for e in places.episode_B.tolist()),
        places.anchor_B,
        places.rate_B,
        source.recorded_E[places.episode_B] - 1,
        places.reversed_B,
        source.words_E.take(places.episode_B),
    )


def _draw_horizon(generator: torch.Generator) -> int:
    return HORIZONS[int(torch.randint(len(HORIZONS), (), generator=generator))]


def draw_batches(
    corpus: Corpus, vectors: int, generator: torch.Generator, longest: bool = False
) -> Iterator[ChunkBatch]:
    """Chunks of mixed lengths until they have given that many slots. longest: one batch of 64 frames among them."""
    seen = 0
    while seen < vectors:
        horizon = HORIZON_MAX if longest and seen == 0 else _draw_horizon(generator)
        chunks = corpus.sample(horizon, 256, generator)
        seen += len(chunks) * -(-horizon // FRAMES_PER_SLOT)
        yield chunks
