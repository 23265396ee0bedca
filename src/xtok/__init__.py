"""Robot motion into short, fixed-length codes and back.

    import xtok

    tokenizer = xtok.Tokenizer.from_pretrained()

Only actions and codec are behind this door; readers, baselines and evaluations are imported by their own names
(`xtok.data`, `xtok.baselines`, `xtok.evaluate`) and ask for their extras when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from xtok.actions.layout import ARMS26 as ARMS26
    from xtok.actions.layout import JOINTS as JOINTS
    from xtok.actions.layout import Layout as Layout
    from xtok.actions.layout import get_layout as get_layout
    from xtok.codec import Tokenizer as Tokenizer
    from xtok.codec.load import load_tokenizer as load_tokenizer
    from xtok.codec.words import WordTokenizer as WordTokenizer
    from xtok.pretrain.measurement import tokenizer_for as tokenizer_for

# Name -> the module it lives in. Loaded at first use, so that `xtok --help` need not wait for torch.
_EXPORTS = {
    "ARMS26": "xtok.actions.layout",
    "JOINTS": "xtok.actions.layout",
    "Layout": "xtok.actions.layout",
    "Tokenizer": "xtok.codec",
    "WordTokenizer": "xtok.codec.words",
    "get_layout": "xtok.actions.layout",
    "load_tokenizer": "xtok.codec.load",
    "tokenizer_for": "xtok.pretrain.measurement",
}
__all__ = [
    "ARMS26",
    "JOINTS",
    "Layout",
    "Tokenizer",
    "WordTokenizer",
    "__version__",
    "get_layout",
    "load_tokenizer",
    "tokenizer_for",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'xtok' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
