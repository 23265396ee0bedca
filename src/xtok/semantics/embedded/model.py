"""The embedded vision-language model: eyes and host of our own, words of a frozen language model's first layers.

It meets `xtok.semantics.backbone.Backbone`. It is saved as model.safetensors and config.json, without the frozen words,
which come from their wheel.

# B rows, V views, L words, W width of the language model (576), H width, Y tokens that it can say
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xtok.atomic import atomic_file, atomic_write
from xtok.semantics.backbone import Answer, Observation, Read
from xtok.semantics.embedded.eyes import Sight, square
from xtok.semantics.embedded.language import END, START, Language, padded
from xtok.semantics.embedded.network import Asked, Looked, Network, NetworkConfig, pointed

WEIGHTS, CONFIG, KIND = "model.safetensors", "config.json", "xtok embedded teacher"
FORMAT = 2
VIEW_NUMBER = {"scene": 1, "front": 2, "wrist": 3, "right_wrist": 3, "left_wrist": 4}  # others, and any: 0
SCALE = 1 / 0.136  # of the language model's embeddings, whose rows have that rms


@dataclass(frozen=True)
class Words:
    """Texts as the language model reads them, the start token first, padding on the right."""

    states_BLW: Float[Tensor, "B L W"]
    keep_BL: Bool[Tensor, "B L"]


@dataclass(frozen=True)
class Inputs:
    """A batch that can be kept. picture: number of the picture in `sight` of each view of each row."""

    sight: Sight
    picture_BV: Int[Tensor, "B V"]
    view_BV: Int[Tensor, "B V"]
    words: Words
    state_BD: Float[Tensor, "B 26"] | None = None


@dataclass(frozen=True)
class Remembered:
    """What pointing needs."""

    looked: Looked
    asked: Asked


class EmbeddedVLM(nn.Module):
    """spoken: tokens of the language model's vocabulary that it can say, END first."""

    name = "embedded"
    spoken: Tensor
    spoken_embeddings: Tensor

    def __init__(self, network: Network, language: Language, spoken: Sequence[int]) -> None:
        super().__init__()
        self.network, self.language = network, language
        config = network.config
        self.width, self.layers, self.heads = config.width, config.layers, config.heads
        self.head_width = config.width // config.heads
        self.register_buffer("spoken", torch.tensor(list(spoken)), persistent=False)
        self.register_buffer("spoken_embeddings", language.embed(self.spoken).float(), persistent=False)

    @property
    def module(self) -> Network:
        return self.network

    @classmethod
    def new(cls, config: NetworkConfig, spoken: Sequence[int], language: Language | None = None) -> EmbeddedVLM:
        """With an untrained network."""
        return cls(Network(config), language or Language.load(config.read_layer), spoken)

    @classmethod
    def load(cls, folder: Path) -> EmbeddedVLM:
        """Raises ValueError for files that are missing, damaged or of another format."""
        try:
            told = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            if (told["kind"], told["format"]) != (KIND, FORMAT):
                raise ValueError(f"kind {told['kind']!r}, format {told['format']}")
            config = NetworkConfig.from_dict(told["network"])
            network = Network(config)
            network.load_state_dict({key: value.float() for key, value in load_file(folder / WEIGHTS).items()})
            spoken = [int(token) for token in told["spoken"]]
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise ValueError(
                f"no embedded teacher in {folder}: {error}; train one with `xtok teacher train`"
            ) from error
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(network, Language.load(config.read_layer), spoken).to(device).eval()

    def save(self, folder: Path) -> None:
        """float16; each file appears whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {key: value.detach().half().cpu().contiguous() for key, value in self.network.state_dict().items()}
        told = {
            "kind": KIND,
            "format": FORMAT,
            "network": self.network.config.to_dict(),
            "spoken": list(map(int, self.spoken)),
        }
        with atomic_file(folder / WEIGHTS) as draft:
            save_file(tensors, draft)
        atomic_write(folder / CONFIG, json.dumps(told) + "\n")

    @property
    def device(self) -> torch.device:
        return self.network.word_place.device

    # -- the protocol -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def prepare(self, observations: Sequence[Observation]) -> Inputs:
        """Pictures as the eyes see them, words as the language model does: the slow parts, of which nothing learns once
        the eyes are frozen. All observations have the same number of pictures, and all or none a state.

        Raises:
            ValueError: they have not, or one has no picture.
        """
        counts = {len(each.pictures) for each in observations}
        stated = {each.state is not None for each in observations}
        if len(counts) != 1 or 0 in counts or len(stated) != 1:
            raise ValueError(
                f"observations have {sorted(counts)} pictures and {'some' if len(stated) > 1 else 'no'} states; "
                "expected as many pictures, at least one, in each, and a state in all or in none"
            )
        (views,) = counts
        sight = self.see([picture for each in observations for picture in each.pictures.values()])
        numbers = [[VIEW_NUMBER.get(view, 0) for view in each.pictures] for each in observations]
        states = None
        if stated == {True}:
            states = torch.from_numpy(np.stack([cast(np.ndarray, each.state) for each in observations])).float()
            states = states.to(self.device)
        return Inputs(
            sight,
            torch.arange(len(sight), device=self.device).view(-1, views),
            torch.tensor(numbers, device=self.device),
            self.words([each.words for each in observations]),
            states,
        )

    def read(self, inputs: Inputs) -> Read:
        looked = self.network.look(inputs.sight)
        read = self.network.read(inputs.words.states_BLW, inputs.words.keep_BL)
        rows = (inputs.picture_BV, read, inputs.words.keep_BL, inputs.view_BV, inputs.state_BD)
        asked = self.network.prefix(looked, *rows)
        return Read(asked.prefix, Remembered(looked, asked))

    def extend(
        self, read: Read, embeddings_BSH: Float[Tensor, "B S H"], keep_BS: Bool[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B S H"], Read]:
        states, prefix = self.network.host.extend(read.prefix, embeddings_BSH, keep_BS)
        return states, Read(prefix, read.extra)

    @torch.no_grad()
    def answer(self, observations: Sequence[Observation], tokens_max: int = 12) -> list[Answer]:
        """Greedy words, the place in the first picture (in its own pixels), and how sure the model is of either."""
        answers = self.answer_inputs(self.prepare(observations), tokens_max)
        first = [next(iter(each.pictures.values())) for each in observations]
        found = []
        for each, picture in zip(answers, first, strict=True):
            assert each.point is not None
            place = (each.point[0] * picture.shape[1] - 0.5, each.point[1] * picture.shape[0] - 0.5)
            found.append(Answer(each.text, each.sure, place, each.point_sure))
        return found

    # -- its parts --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def see(self, pictures: Sequence[np.ndarray]) -> Sight:
        """uint8 RGB [h, w, 3] each, of any sizes; they are stretched to the eyes' square."""
        pixels = torch.stack([square(picture) for picture in pictures]).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            return self.network.eyes(pixels)

    @torch.no_grad()
    def words(self, texts: Sequence[str]) -> Words:
        rows = [(START, *self.language.tokens(text)) for text in texts]
        ids_BL, keep_BL = padded(rows)
        return Words(self.language.states(ids_BL, keep_BL), keep_BL.to(self.device))

    def tokens_in(self, ids_BS: Int[Tensor, "B S"]) -> Float[Tensor, "B S H"]:
        """Tokens of the language model as the host reads them when it goes on from a prefix."""
        return self.network.enter_token(SCALE * self.language.embed(ids_BS).float())

    def logits(self, states_NH: Float[Tensor, "N H"]) -> Float[Tensor, "N Y"]:
        """Of the tokens that it can say."""
        return self.network.say(states_NH).float() @ self.spoken_embeddings.T

    @torch.no_grad()
    def answer_inputs(self, inputs: Inputs, tokens_max: int = 12) -> list[Answer]:
        """As `answer`; places in shares of the picture, x to the right and y down, 0 to 1."""
        with torch.autocast(self.device.type, torch.bfloat16):
            read = self.read(inputs)
            B = len(read.prefix)
            one = torch.ones(B, 1, dtype=torch.bool, device=self.device)
            state, read = self.extend(read, self.network.ask.expand(B, 1, -1), one)
            extra: Remembered = read.extra
            places = self.network.point_logits(extra.looked, extra.asked, state[:, 0])[:, 0]
            said: list[list[int]] = [[] for _ in range(B)]
            log_sure = torch.zeros(B, device=self.device)
            over = torch.zeros(B, dtype=torch.bool, device=self.device)
            for _ in range(tokens_max):
                share_BY = self.logits(state[:, -1]).log_softmax(-1)
                sure, best = share_BY.max(-1)
                ids = self.spoken[best]
                log_sure += torch.where(over, 0.0, sure)
                for row, token, done in zip(said, ids.tolist(), over.tolist(), strict=True):
                    if not done and token != END:
                        row.append(token)
                over = over | (ids == END)
                if over.all():
                    break
                state, read = self.extend(read, self.tokens_in(ids[:, None]), one)
        place, point_sure = pointed(places)
        texts = [self.language.words(ids).strip() for ids in said]
        rows = zip(texts, log_sure.exp().tolist(), place.tolist(), point_sure.tolist(), strict=True)
        return [Answer(text, sure, (x, y), there) for text, sure, (x, y), there in rows]

    @torch.no_grad()
    def picture_states(self, sight: Sight, layer: int) -> Float[Tensor, "B P H"]:
        """Hidden states of what is seen in pictures alone, each read without words; 0 before the first layer."""
        words = self.words([""] * len(sight))
        picture = torch.arange(len(sight), device=self.device)[:, None]
        with torch.autocast(self.device.type, torch.bfloat16):
            read = self.read(Inputs(sight, picture, torch.zeros_like(picture), words))
        seen = self.network.config.eyes.things + self.network.config.queries
        return read.prefix.states[layer][:, :seen].float()

    @torch.no_grad()
    def text_states(self, texts: Sequence[str]) -> list[Float[Tensor, "L H"]]:
        """What the reader makes of the words of texts alone, without the start token."""
        words = self.words(texts)
        with torch.autocast(self.device.type, torch.bfloat16):
            read = self.network.read(words.states_BLW, words.keep_BL).float()
        return [states[1 : int(keep.sum())] for states, keep in zip(read, words.keep_BL, strict=True)]


def shipped() -> Path:
    """Folder of the weights that come with the package."""
    return Path(str(files("xtok") / "weights" / "teacher"))


def is_weights(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file() and KIND in (folder / CONFIG).read_text("utf-8")


def file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
