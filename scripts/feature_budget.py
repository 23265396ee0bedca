"""Bytes and machine hours of a feature store, by calculation from a measured rate.

python scripts/feature_budget.py --rate 60                # the paper's 2.0 B frames, the embedded teacher
python scripts/feature_budget.py --rate 60 --width 3584   # Qwen2.5-VL-7B, at a rate of your own measuring
"""

from __future__ import annotations

import argparse

from xtok.semantics.store import STRIDE_FRAMES

PAPER_FRAMES, PAPER_EPISODES = 2.0e9, 2.4e6  # docs/method.md#published-results
SUBTASKS_EACH = 4  # prompts an episode has on the average, as in corpus-single
BYTES = 2  # float16
INDEX_BYTES = 350  # of an episode in index and manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=float, default=PAPER_FRAMES)
    parser.add_argument("--episodes", type=float, default=PAPER_EPISODES)
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--width", type=int, default=576)
    parser.add_argument(
        "--rate", type=float, required=True, help="pictures a second of one worker, films read included"
    )
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    samples = args.frames / STRIDE_FRAMES + args.episodes  # the last frame of each is kept too
    pictures = samples * args.views
    size = samples * args.views * (args.width * BYTES + 1)
    size += args.episodes * (SUBTASKS_EACH * args.width * BYTES + 2 * INDEX_BYTES)
    hours = pictures / args.rate / args.workers / 3600
    counts = f"{samples:.3g} samples, {pictures:.3g} pictures"
    print(f"{counts}: {size / 1e12:.2f} TB, {hours:,.0f} hours of {args.workers} workers")


if __name__ == "__main__":
    main()
