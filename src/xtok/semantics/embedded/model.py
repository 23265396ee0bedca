"""The embedded vision-language model: frozen eyes, trained connector, frozen language model.

    picture -> eyes -> neck ----------------------> grid, keys
    question -> language model up to layer 12 ----> words as it reads them -> mixer looks at the grid -> K tokens, place
    [start] question [K tokens] -> language model -> answer, word by word

It is saved as connector.safetensors and config.json: the frozen parts come from their wheels.

# B rows, K tokens, L words, W 576, S side of a picture in its own pixels
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xtok.atomic import atomic_file, atomic_write
from xtok.semantics.embedded.connector import Connector, ConnectorConfig, Looked, point_logits, pointed
from xtok.semantics.embedded.eyes import Eyes, Sight
from xtok.semantics.embedded.language import END, START, Language, padded

WEIGHTS, CONFIG, KIND = "connector.safetensors", "config.json", "xtok embedded teacher"
FORMAT = 1
ANSWER_TOKENS_MAX = 8


@dataclass(frozen=True)
class Answer:
    """What was said to a question, and where it points: x, y in pixels of the picture given."""

    text: str
    point: tuple[float, float]


@dataclass(frozen=True)
class Words:
    """Texts as the language model reads them: ids with padding on the right, states at the connector's read layer."""

    rows: tuple[tuple[int, ...], ...]
    states_BLW: Float[Tensor, "B L W"]
    keep_BL: Bool[Tensor, "B L"]


class EmbeddedVLM(nn.Module):
    def __init__(self, connector: Connector, language: Language, eyes: Eyes) -> None:
        super().__init__()
        self.connector, self.language, self.eyes = connector, language, eyes
        self.requires_grad_(False)
        connector.requires_grad_(True)

    @classmethod
    def new(cls, config: ConnectorConfig) -> EmbeddedVLM:
        """With an untrained connector."""
        return cls(Connector(config), Language.load(), Eyes())

    @classmethod
    def load(cls, folder: Path) -> EmbeddedVLM:
        """Raises ValueError for files that are missing, damaged or of another format."""
        try:
            config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            if (config["kind"], config["format"]) != (KIND, FORMAT):
                raise ValueError(f"kind {config['kind']!r}, format {config['format']}")
            connector = Connector(ConnectorConfig(**config["connector"]))
            connector.load_state_dict({k: v.float() for k, v in load_file(folder / WEIGHTS).items()})
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise ValueError(
                f"no embedded teacher in {folder}: {error}; train one with `xtok teacher train`"
            ) from error
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(connector, Language.load(), Eyes()).to(device).eval()

    def save(self, folder: Path) -> None:
        """float16; each file appears whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {key: value.detach().half().cpu().contiguous() for key, value in self.connector.state_dict().items()}
        config = {"kind": KIND, "format": FORMAT, "connector": self.connector.config.to_dict()}
        with atomic_file(folder / WEIGHTS) as draft:
            save_file(tensors, draft)
        atomic_write(folder / CONFIG, json.dumps(config, indent=1) + "\n")

    @torch.no_grad()
    def read(self, texts: Sequence[str]) -> Words:
        """A text without tokens is read as its beginning alone."""
        rows = tuple((START, *self.language.tokens(text)) for text in texts)
        ids_BL, keep_BL = padded(rows)
        layer = self.connector.config.read_layer
        states_BLW = self.language.states(self.language.embed(ids_BL), keep_BL.to(self.language.device), layer)
        return Words(rows, states_BLW, keep_BL.to(self.language.device))

    def look(
        self, grid_NGE: Float[Tensor, "N G E"], words: Words | None = None, picture_B: Int[Tensor, " B"] | None = None
    ) -> Looked:
        """See `Connector.look`."""
        if words is None:
            return self.connector.look(grid_NGE)
        return self.connector.look(grid_NGE, words.states_BLW, words.keep_BL, picture_B)

    @torch.no_grad()
    def answer(self, sight: Sight, questions: Sequence[str]) -> list[Answer]:
        """Greedy words and the place. Points are in shares of the picture, x to the right and y down, 0 to 1."""
        neck, words = self.connector.neck, self.read(questions)
        with torch.autocast(self.language.device.type, torch.bfloat16):  # as in training
            grid_BGE = neck(sight)
            looked = self.look(grid_BGE, words)
            keys_BPYX = neck.point_keys(sight, grid_BGE)
        place_B2 = pointed(point_logits(keys_BPYX, looked.query_BP)).tolist()
        said: list[list[int]] = [[] for _ in questions]
        ids_BL, keep_BL = padded(words.rows)
        context = self.language.begin(ids_BL, keep_BL)
        states = self.language.go_on(context, looked.tokens_BKW, torch.ones(looked.tokens_BKW.shape[:2]).bool())
        for _ in range(ANSWER_TOKENS_MAX):
            best_B = self.language.logits(states[:, -1]).argmax(-1)
            for row, token in zip(said, best_B.tolist(), strict=True):
                row.append(token)
            if all(END in row for row in said):
                break
            states = self.language.go_on(context, self.language.embed(best_B[:, None]), torch.ones(len(said), 1).bool())
        said = [row[: row.index(END)] if END in row else row for row in said]
        texts = [self.language.words(ids).strip() for ids in said]
        return [Answer(text, (x, y)) for text, (x, y) in zip(texts, place_B2, strict=True)]

    def ask(self, pictures: Sequence[np.ndarray], questions: Sequence[str]) -> list[Answer]:
        """One question a picture (uint8 RGB [h, w, 3]); places come in its own pixels."""
        answers = self.answer(self.eyes(pictures), questions)
        sizes = [(picture.shape[1], picture.shape[0]) for picture in pictures]
        return [
            Answer(each.text, (each.point[0] * width - 0.5, each.point[1] * height - 0.5))
            for each, (width, height) in zip(answers, sizes, strict=True)
        ]

    @torch.no_grad()
    def picture_states(self, sight: Sight, layer: int) -> Float[Tensor, "B K W"]:
        """States of the tokens of pictures alone, each after the start token."""
        device = self.language.device.type
        with torch.autocast(device, torch.bfloat16):
            tokens = self.look(self.connector.neck(sight)).tokens_BKW
        B, K = tokens.shape[:2]
        context = self.language.begin_alone(B)
        return self.language.go_on(context, tokens, torch.ones(B, K).bool(), layer).float()

    @torch.no_grad()
    def text_states(self, texts: Sequence[str], layer: int) -> list[Float[Tensor, "L W"]]:
        """States of the tokens of texts alone, without the start token."""
        rows = [[START, *self.language.tokens(text)] for text in texts]
        ids_BL, keep_BL = padded(rows)
        states = self.language.states(self.language.embed(ids_BL), keep_BL.to(self.language.device), layer).float()
        return [states[i, 1 : len(row)] for i, row in enumerate(rows)]


def shipped() -> Path:
    """Folder of the weights that come with the package."""
    return Path(str(files("xtok") / "weights" / "teacher"))


def is_weights(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file()


def file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
