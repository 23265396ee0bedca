"""Robot data in: folders of several formats become episodes, episodes become chunks. Needs `pip install 'xtok[data]'`.

from xtok.data import iter_chunks, open_dataset, select

episodes = select(open_dataset("path/to/lerobot/folder"), "heldout")
for batch in iter_chunks(episodes, horizon=32): ...
"""

from __future__ import annotations

from xtok.data.chunks import count_chunks, iter_chunks
from xtok.data.episode import Episode, EpisodeDataset, Pictures, Segment
from xtok.data.mapping.file import MappingSpec, read_mapping
from xtok.data.media.video import VideoHandle
from xtok.data.open import join, open_dataset, open_source, sample_path
from xtok.data.packed.sample import PackedCorpus
from xtok.data.splits import select, split_indices

__all__ = [
    "Episode",
    "EpisodeDataset",
    "MappingSpec",
    "PackedCorpus",
    "Pictures",
    "Segment",
    "VideoHandle",
    "count_chunks",
    "iter_chunks",
    "join",
    "open_dataset",
    "open_source",
    "read_mapping",
    "sample_path",
    "select",
    "split_indices",
]
