"""Parts of a code file: groups of episodes, each encoded on its own into a file that is whole or not there.

# M slots, Q levels, D channels
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from xtok.atomic import atomic_file
from xtok.cli.codefile import Header, open_parquet, pyarrow_parquet, schema, table_of
from xtok.progress import track

if TYPE_CHECKING:
    import numpy as np

    from xtok.actions.types import ChunkBatch
    from xtok.codec.load import AnyTokenizer
    from xtok.data import Episode, EpisodeDataset

REPORT_KEY = b"xtok.encode_report"


class ReportJson(TypedDict):
    """A `Report` in the metadata of a part."""

    episodes: int
    too_short: int
    frames: int
    frames_coded: int
    chunks: int
    values: dict[str, int]
    outside: dict[str, int]


class CodeRow(TypedDict):
    """A row of a code file. codes: [M * Q], or as many as a chunk of motion words has; anchor, mask: [D]."""

    dataset: str
    episode_index: int
    frame_start: int
    horizon: int
    embodiment: str
    control_hz: float
    codes: np.ndarray
    anchor: list[float]
    mask: np.ndarray


@dataclass
class Report:
    """What encoding has seen. values, outside: valid values a channel, and those beyond the statistics' range."""

    episodes: int = 0
    too_short: int = 0
    frames: int = 0
    frames_coded: int = 0
    chunks: int = 0
    values: Counter[str] = field(default_factory=Counter)
    outside: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Report) -> Report:
        return Report(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    @classmethod
    def from_dict(cls, content: ReportJson) -> Report:
        return cls(
            episodes=content["episodes"],
            too_short=content["too_short"],
            frames=content["frames"],
            frames_coded=content["frames_coded"],
            chunks=content["chunks"],
            values=Counter(content["values"]),
            outside=Counter(content["outside"]),
        )


def refuse_saturated(parts: Sequence[Path]) -> None:
    """Raises ValueError for a part that has values outside the range of the statistics."""
    for part in parts:
        with open_parquet(part) as file:
            report = Report.from_dict(json.loads(file.schema_arrow.metadata[REPORT_KEY]))
        if report.outside:
            raise ValueError(
                f"{', '.join(sorted(report.outside))}: values beyond the statistics, in {part}; "
                "--on-saturation report tells how many, and goes on"
            )


@dataclass(frozen=True)
class Part:
    """positions: of its episodes in the data set."""

    path: Path
    positions: tuple[int, ...]


@dataclass
class PartWriter:
    """Writes parts. tokenizer: one, or the folder of one, which each worker opens once."""

    header: Header
    dataset: EpisodeDataset
    tokenizer: AnyTokenizer | Path
    on_saturation: str

    def __call__(self, part: Part) -> None:
        episodes = [self.dataset[position] for position in part.positions]
        write_part(part.path, self.header, episodes, self._opened, self.on_saturation)

    @cached_property
    def _opened(self) -> AnyTokenizer:
        """Raises ValueError for a folder that holds another tokenizer than the header says."""
        if not isinstance(self.tokenizer, Path):
            return self.tokenizer
        from xtok.codec.load import load_tokenizer

        found = load_tokenizer(self.tokenizer)
        if found.digest != self.header.tokenizer:
            raise ValueError(
                f"{self.tokenizer} holds tokenizer {found.digest}, not {self.header.tokenizer}; remove "
                f"{self.tokenizer.parent} to begin anew"
            )
        return found


def write_part(
    path: Path, header: Header, episodes: Sequence[Episode], tokenizer: AnyTokenizer, on_saturation: str
) -> None:
    """Encode some episodes into one part file; their report is kept in its metadata."""
    rows: list[CodeRow] = []
    report = Report()
    for episode in track(episodes, path.stem, "episode", delay_s=0.5):
        report.episodes += 1
        report.frames += len(episode)
        chunks_before = report.chunks
        for start, chunks in chunks_of(episode, header.horizon, header.stride):
            seen = saturation_report(chunks, tokenizer)
            if seen.outside and on_saturation == "raise":
                raise ValueError(
                    f"{episode.dataset}, episode {episode.index}: {', '.join(sorted(seen.outside))}: values beyond "
                    f"the statistics of {episode.embodiment!r}; --on-saturation report tells how many, and goes on"
                )
            report += seen
            rows += rows_of(chunks, tokenizer, episode, start, header.stride)
        if report.chunks == chunks_before:
            report.too_short += 1
        else:
            overlap_free = min(header.stride, header.horizon)
            report.frames_coded += (report.chunks - chunks_before - 1) * overlap_free + header.horizon
    metadata = {REPORT_KEY: json.dumps(vars(report), sort_keys=True).encode()}  # the header is in settings.json
    table = table_of(rows, header).replace_schema_metadata(metadata)
    with atomic_file(path) as temporary:
        pyarrow_parquet().write_table(table, temporary)


def chunks_of(episode: Episode, horizon: int, stride: int) -> Iterator[tuple[int, ChunkBatch]]:
    """Batches of an episode's chunks, each with the frame at which its first chunk starts; none if it is too short."""
    from xtok.data.chunks import iter_chunks

    if len(episode) <= horizon:
        return
    start = 1  # frame 0 is the first anchor
    for chunks in iter_chunks([episode], horizon, stride):
        yield start, chunks
        start += stride * len(chunks)


def rows_of(
    chunks: ChunkBatch, tokenizer: AnyTokenizer, episode: Episode, start: int, stride: int
) -> Iterator[CodeRow]:
    """The rows of a code file, one a chunk of a batch."""
    context = chunks.context
    assert context.anchor_BD is not None
    for i, (codes, anchor) in enumerate(zip(tokenizer.encode(chunks).tokens, context.anchor_BD.tolist(), strict=True)):
        yield {
            "dataset": episode.dataset,
            "episode_index": episode.index,
            "frame_start": start + i * stride,
            "horizon": context.horizon,
            "embodiment": episode.embodiment,
            "control_hz": episode.control_hz,
            "codes": codes,
            "anchor": anchor,
            "mask": episode.mask_D,
        }


def saturation_report(chunks: ChunkBatch, tokenizer: AnyTokenizer) -> Report:
    """How many values of a batch of one episode lie outside the range of its robot's statistics."""
    context = chunks.context
    frames = len(chunks) * context.horizon
    names = context.layout.channel_names
    return Report(
        chunks=len(chunks),
        values=Counter({names[channel]: frames for channel in context.mask_BD[0].nonzero().flatten().tolist()}),
        outside=Counter({name: round(share * frames) for name, share in tokenizer.saturation(chunks).items()}),
    )


def join(parts: Sequence[Path], out: Path, header: Header) -> Report:
    """All parts in order into one file, written whole or not at all."""
    total = Report()
    with atomic_file(out) as temporary, pyarrow_parquet().ParquetWriter(temporary, schema(header)) as writer:
        for part in parts:
            with open_parquet(part) as file:
                total += Report.from_dict(json.loads(file.schema_arrow.metadata[REPORT_KEY]))
                writer.write_table(file.read().replace_schema_metadata(header.to_metadata()))
    return total
