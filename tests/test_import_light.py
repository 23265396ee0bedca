"""`import xtok` serves people who only encode: nothing that belongs to an extra may come with it."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = "transformers scipy pyarrow mujoco av h5py plotly matplotlib tokenizers accelerate"


@pytest.mark.parametrize(
    "statement", ["import xtok", "import xtok.actions", "from xtok import Tokenizer", "import xtok.cli.main"]
)
def test_import_brings_no_extra(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint(*(name for name in {HEAVY.split()!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_root_waits_with_torch_until_it_is_needed() -> None:
    code = "import xtok, sys; assert 'Tokenizer' in dir(xtok); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
