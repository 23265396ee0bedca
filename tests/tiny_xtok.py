"""`xtok` with one episode a part and few ones a shard, so that a stop lands in the middle of little work."""

import sys
from unittest.mock import patch

from xtok.cli.main import main

if __name__ == "__main__":
    with (
        patch("xtok.cli.encode.EPISODES_PER_PART", 1),
        patch("xtok.semantics.extract.EPISODES_PER_SHARD", 1),
        patch.multiple("xtok.data.packed.plan", PER_SHARD_MIN=1, PER_SHARD_MAX=1),
    ):
        sys.exit(main())
