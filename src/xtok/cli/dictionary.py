"""What each first-level code or motion word means, as one page to search: motion, words, frames, arms, what follows."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from xtok.atomic import atomic_file
from xtok.cli.common import (
    SPLITS,
    add_reading_arguments,
    add_tokenizer_argument,
    load_tokenizer,
    open_data,
    say,
)
from xtok.cli.outputs import Writes
from xtok.progress import track

if TYPE_CHECKING:
    from xtok.actions.types import ChunkBatch, Codes
    from xtok.codec.words import WordTokenizer
    from xtok.data import Episode, EpisodeDataset
    from xtok.evaluate.dictionary import Dictionary, Motions, Refined
    from xtok.evaluate.dictionary_page import About, Strip
    from xtok.evaluate.labels import Labels

HORIZON, CHUNKS_MAX, PICTURED = 16, 20_000, 400
MEASURED = 96  # episodes that measure a robot: enough for least squares
CAMERAS = ("scene", "front", "top", "head")  # looked for in this order in a camera's name
AROUND_FRAMES = 6  # before and after the middle of the place


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("dictionary", help="what each first code means, as a page", description=__doc__)
    parser.add_argument("data", type=Path, nargs="+", metavar="DATA", help="data set folders, looked at as one")
    add_reading_arguments(parser)
    add_tokenizer_argument(parser)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="PAGE.html")
    parser.add_argument("--split", choices=SPLITS, default="train", help="default: train")
    parser.add_argument(
        "--horizon", type=int, default=HORIZON, metavar="T", help=f"frames a chunk (default: {HORIZON})"
    )
    parser.add_argument("--chunks", type=int, default=CHUNKS_MAX, metavar="N", help=f"at most (default: {CHUNKS_MAX})")
    parser.add_argument(
        "--pictured", type=int, default=PICTURED, metavar="N", help=f"most used codes with frames (default: {PICTURED})"
    )
    parser.add_argument("--camera", metavar="NAME", help="part of its name (default: scene, front, top or the first)")
    writes = Writes(shipped=True, files=("out",))
    parser.set_defaults(run=run, resume_hint="Nothing was written; give the same command again.", writes=writes)


def run(args: argparse.Namespace) -> None:
    import numpy as np

    from xtok.actions.types import FRAMES_PER_SLOT, concatenate
    from xtok.codec import Tokenizer
    from xtok.codec.words.word import BLOCK_FRAMES
    from xtok.data import iter_chunks, select
    from xtok.evaluate.batches import encode
    from xtok.evaluate.dictionary import build
    from xtok.evaluate.dictionary_page import render
    from xtok.evaluate.labels import label_chunks
    from xtok.evaluate.strides import stride_within
    from xtok.provenance import command, git_revision

    dataset = open_data(args)
    tokenizer = load_tokenizer(args.tokenizer, dataset)
    frames = FRAMES_PER_SLOT if isinstance(tokenizer, Tokenizer) else BLOCK_FRAMES
    everything = select(dataset, args.split)
    episodes = [episode for episode in everything if len(episode) > args.horizon]
    if not episodes:
        raise ValueError(f"no {args.split} episode is longer than {args.horizon} frames; give a shorter --horizon")
    stride = stride_within(episodes, args.horizon, args.chunks)
    chunks = concatenate(list(iter_chunks(episodes, args.horizon, stride)))
    labels = label_chunks(episodes, args.horizon, stride)
    say(f"coding {len(chunks)} chunks of {len(episodes)} episodes")
    codes = encode(tokenizer, chunks)
    if isinstance(tokenizer, Tokenizer):
        assert codes.grid_BMQ is not None, "a tokenizer of slots"
        first_NM, book = codes.grid_BMQ[..., 0].numpy(), tokenizer.codebook_size
    else:  # a block is spoken of as its middle slot is
        every, M = frames // FRAMES_PER_SLOT, labels.text_NM.shape[1]
        middle = np.minimum(np.arange(every // 2, M + every // 2, every), M - 1)
        first_NM, book = tokenizer.first_codes(codes, args.horizon)[:, ::every, 0], tokenizer.grammar.words
        labels = replace(labels, text_NM=labels.text_NM[:, middle], subtask_NM=labels.subtask_NM[:, middle])
    motions = _motions(chunks, frames)
    refined = None if isinstance(tokenizer, Tokenizer) else _refined(tokenizer, codes, args.horizon)
    dictionary = build(first_NM, labels, motions, book, _joint_names(dataset), frames, refined)
    strips = _strips(dictionary, labels, episodes, args.pictured, args.camera)
    about: About = {
        "title": dataset.name.replace("+", ", "),
        "lines": {
            "tokenizer": f"{tokenizer.name} {tokenizer.digest}",
            "data": f"{', '.join(str(path) for path in args.data)}: {len(episodes)} {args.split} episodes longer than "
            f"{args.horizon} frames, of {len(everything)}",
            "chunks": f"{len(chunks)} of {args.horizon} frames, one every {stride} frames",
            "command": command(),
            "git revision": git_revision() or "not a checkout",
        },
    }
    with atomic_file(args.out) as temporary:
        temporary.write_text(render(dictionary, strips, about), encoding="utf-8")
    used, total = len(dictionary.entries), book
    print(
        f"{args.out}: {used} of {total} codes in use, {len(strips)} with frames, {args.out.stat().st_size / 1e6:.1f} MB"
    )
    if dictionary.arms_apart_mm is not None:
        print(
            f"  the same code on another arm: mean paths end {dictionary.arms_apart_mm:.1f} mm apart (codes themselves "
            f"{dictionary.codes_apart_mm:.0f} mm)"
        )


def _refined(tokenizer: WordTokenizer, codes: Codes, horizon: int) -> Refined:
    """How every block goes on behind its word."""
    import numpy as np

    from xtok.actions.types import FRAMES_PER_SLOT
    from xtok.evaluate.dictionary import Refined

    blocks = [block for tokens in codes.tokens for block in tokenizer.grammar.parse(tokens.tolist(), horizon)]
    segments = [" + ".join(str(each.length * FRAMES_PER_SLOT) for each in block.segments) for block in blocks]
    tokens = [1 + sum(len(each.codes) for each in block.segments) for block in blocks]
    return Refined(np.array(segments), np.array(tokens))


def _motions(chunks: ChunkBatch, frames: int) -> Motions:
    import torch

    from xtok.evaluate.dictionary import motions_of

    context = chunks.context
    assert context.anchor_BD is not None, "chunks of an episode have anchors"
    every = torch.cat([context.anchor_BD[:, None], chunks.target_BTD], dim=1).numpy()
    return motions_of(context.layout, context.mask_BD.numpy(), every, frames)


def _joint_names(dataset: EpisodeDataset) -> tuple[str, ...]:
    return dataset.robots[0].joint_names if len(dataset.robots) == 1 else ()


def _strips(
    dictionary: Dictionary, labels: Labels, episodes: Sequence[Episode], most: int, camera: str | None
) -> dict[int, list[Strip]]:
    """Frames of examples of the `most` used codes: three moments around the middle of a place, two examples a code."""
    import numpy as np

    from xtok.data.media.video_write import jpeg
    from xtok.evaluate.dictionary_page import Strip

    by_key = {f"{episode.dataset}/{episode.index}": episode for episode in episodes}
    M = labels.text_NM.shape[1]
    wanted = [(entry.code, n) for entry in dictionary.entries[:most] for n in entry.example_n]
    wanted.sort(key=lambda each: (labels.episode_N[each[1] // M], labels.start_N[each[1] // M]))  # film after film
    found: dict[int, list[tuple[int, Strip]]] = {}
    missing = 0
    say(f"frames of {len(wanted)} examples")
    for code, n in track(wanted, "frames of examples", "example", delay_s=0.5):
        row, slot = divmod(n, M)
        episode = by_key[str(labels.episode_N[row])]
        if not episode.videos:
            missing += 1
            continue
        video = episode.videos[_camera(tuple(episode.videos), camera)]
        middle = int(labels.start_N[row]) + dictionary.frames * slot + dictionary.frames // 2
        moments = [int(np.clip(middle + k * AROUND_FRAMES, 0, len(video) - 1)) for k in (-1, 0, 1)]
        pictures = video.frames(moments)
        height, width = (size - size % 2 for size in pictures.shape[1:3])
        strip = np.concatenate(list(pictures[:, :height, :width]), axis=1)
        where = f"{labels.arm_N[row]} {episode.index}, frames {moments[0]} to {moments[-1]}"
        caption = f"{labels.text_NM[row, slot]} \N{MIDDLE DOT} {where}"
        found.setdefault(code, []).append((n, Strip(jpeg(strip), caption)))
    if missing:
        say(f"{missing} of {len(wanted)} examples have no film")
    return {code: [strip for _, strip in sorted(each, key=lambda pair: pair[0])] for code, each in found.items()}


def _camera(names: Sequence[str], asked: str | None) -> str:
    """The camera asked for, or the one most likely to show the whole scene.

    Raises:
        ValueError: no camera with that in its name.
    """
    for part in (asked,) if asked else CAMERAS:
        for name in names:
            if part in name:
                return name
    if asked:
        raise ValueError(f"no camera with {asked!r} in its name; there are {list(names)}")
    return names[0]
