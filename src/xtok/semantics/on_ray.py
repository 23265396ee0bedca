"""Shards of a feature store over the nodes of a Ray cluster, which see the same file system. Needs `ray[data]`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from xtok.semantics.extract import Done, Shard, Work, write_shard
from xtok.semantics.load import load_teacher


class ShardWriter:
    """A worker: loads its teacher once, writes the shards that it is given."""

    def __init__(self, work: Work, shards: Sequence[Shard], teacher: str, layer: int | None) -> None:
        self.work, self.shards = work, {shard.number: shard for shard in shards}
        self.teacher = load_teacher(teacher, layer)
        self.opened: dict = {}

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        numbers = [int(number) for number in batch["id"]]
        done = [write_shard(self.work, self.shards[number], self.teacher, opened=self.opened) for number in numbers]
        return {
            "pictures": np.array([each.pictures for each in done]),
            "seconds": np.array([each.seconds for each in done]),
        }


def extract_on_ray(work: Work, shards: Sequence[Shard], teacher: str, layer: int | None, workers: int) -> list[Done]:
    """Compute shards with `workers` workers, one GPU each where the cluster has any; returns what was done.

    Raises:
        ImportError: Ray is missing.
        ValueError: workers under 1.
    """
    if workers < 1:
        raise ValueError(f"--ray is {workers}; expected the number of workers, 1 or more")
    try:
        import ray
    except ImportError as error:
        raise ImportError("--ray needs Ray: pip install 'ray[data]'") from error
    if not shards:
        return []
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    gpus = 1 if ray.cluster_resources().get("GPU", 0) >= workers else 0
    numbers = ray.data.from_items([{"id": shard.number} for shard in shards])
    rows = numbers.repartition(len(shards)).map_batches(
        ShardWriter,
        fn_constructor_args=(work, list(shards), teacher, layer),
        batch_size=1,
        concurrency=workers,
        num_gpus=gpus,
    )
    return [Done(int(row["pictures"]), float(row["seconds"])) for row in rows.take_all()]
