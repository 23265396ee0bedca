"""All that is trained: eyes, words into places to look at, and the host that puts together what is where.

    picture --eyes--> cells (features, likely middles) --> K tokens: things, what each is and where
    words (states of a frozen language model) --reader--> Q queries --> Q tokens: what they point at, and where
    host: [things of each view][found in each view][words][state], each place sees all; what goes on from it is causal

# N pictures, R rows (what is asked of pictures), V views, K things, Q queries, L words, H width, P width of keys, G
# cells
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from xtok.semantics.backbone import Prefix
from xtok.semantics.embedded.eyes import CELLS, Eyes, EyesConfig, Sight, Things, things
from xtok.semantics.embedded.host import Host

FREQUENCIES = 5  # of places in the picture: pi times 1, 2, 4, ...
PLACE_WIDTH = 2 + 4 * FREQUENCIES
APART_WIDTH = 4  # how far two places are apart, plainly and nearly as a sign
SIGN_SCALE, RANK_SCALE = 12.0, 30.0  # of places in -1 to 1: .1 is a hand's width or so
STATE_WIDTH = 26  # arms26
HAND = "gripper"


@dataclass(frozen=True)
class NetworkConfig:
    """kinds, colours: words for what a cell can show; kinds that end with "gripper" are hands. language_width: of the
    states of words. read_layer: which of the language model's they are. views: that have an embedding of their own,
    after the one of any view. words: tokens of a text at most.
    """

    eyes: EyesConfig = field(default_factory=EyesConfig)
    kinds: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()
    language_width: int = 576
    read_layer: int = 6
    width: int = 192
    heads: int = 6
    reader_layers: int = 2
    layers: int = 4
    queries: int = 4
    point_width: int = 48
    words: int = 80
    views: int = 4
    dropout: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> NetworkConfig:
        eyes: dict[str, Any] = {k: tuple(each) if isinstance(each, list) else each for k, each in told["eyes"].items()}
        words = {key: tuple(told[key]) for key in ("kinds", "colours")}
        return cls(**{**told, **words, "eyes": EyesConfig(**eyes)})

    @property
    def told(self) -> int:
        """Width of what is told of a cell: a share for each kind and for none, each colour and none, and held."""
        return len(self.kinds) + len(self.colours) + 3


@dataclass(frozen=True)
class Told:
    """Logits of what each cell shows, number 0 of kinds and colours standing for none."""

    kind_NXG: Float[Tensor, "N X G"]
    colour_NYG: Float[Tensor, "N Y G"]
    held_NG: Float[Tensor, "N G"]

    def shares(self) -> Float[Tensor, "N X+Y+1 G"]:
        return torch.cat([self.kind_NXG.softmax(1), self.colour_NYG.softmax(1), self.held_NG.sigmoid()[:, None]], 1)


@dataclass(frozen=True)
class Looked:
    """Pictures ready to be asked about. things: features of each, what is told of it, x, y, score, ranks. keys: to
    point with. cells: features, then what is told of each."""

    things_NKF: Float[Tensor, "N K F"]
    keys_NPG: Float[Tensor, "N P G"]
    cells_NCG: Float[Tensor, "N C G"]


@dataclass(frozen=True)
class Seen:
    """All that the host is told of views: with eyes and words that stay as they are, it can be kept. things: as
    `Looked` has them. found: what each query points at: features, what is told of it, x, y, nowhere."""

    things_RVKF: Float[Tensor, "R V K F"]
    found_RVQE: Float[Tensor, "R V Q E"]


@dataclass(frozen=True)
class Asked:
    """prefix: what the host read. found: log-probability of each cell, and last of nowhere, by query. picture_RV."""

    prefix: Prefix
    found_RVQG: Float[Tensor, "R V Q G+1"]
    picture_RV: Int[Tensor, "R V"]


@dataclass(frozen=True)
class Layout:
    """Views of rows by picture, so that a picture's keys are multiplied once by all that is asked of it, not copied for
    each. slot: number of a view among those of its picture; slots: the most that a picture has."""

    picture_RV: Int[Tensor, "R V"]
    slot_RV: Int[Tensor, "R V"]
    pictures: int
    slots: int

    @classmethod
    def of(cls, picture_RV: Int[Tensor, "R V"], pictures: int) -> Layout:
        flat = picture_RV.flatten()
        order = flat.argsort(stable=True)
        counts = torch.bincount(flat, minlength=pictures)
        first = counts.cumsum(0) - counts
        slot = torch.empty_like(flat)
        slot[order] = torch.arange(len(flat), device=flat.device) - first[flat[order]]
        return cls(picture_RV, slot.view_as(picture_RV), pictures, int(counts.max()))

    def products(
        self, rows_RVQX: Float[Tensor, "R V Q X"], pictures_NXY: Float[Tensor, "N X Y"]
    ) -> Float[Tensor, "R V Q Y"]:
        """Of each view's rows with its picture's matrix."""
        Q, X = rows_RVQX.shape[-2:]
        dense = rows_RVQX.new_zeros(self.pictures, self.slots, Q, X)
        dense = dense.index_put((self.picture_RV, self.slot_RV), rows_RVQX)
        found = dense.flatten(1, 2) @ pictures_NXY.to(dense.dtype)
        return found.unflatten(1, (self.slots, Q))[self.picture_RV, self.slot_RV]


class Network(nn.Module):
    cell_place: Tensor
    is_prop: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        H, P, C = config.width, config.point_width, config.eyes.cells
        self.eyes = Eyes(config.eyes)
        self.keys = nn.Conv2d(C, P, 1)
        self.tells = nn.Conv2d(C, config.told, 1)
        self.enter_thing = nn.Linear(C + config.told + PLACE_WIDTH + 3, H)
        self.enter_found = nn.Linear(C + config.told + PLACE_WIDTH + 1, H)
        self.enter_apart = nn.Linear(APART_WIDTH * config.queries, H, bias=False)  # from what words name
        self.enter_word = nn.Sequential(nn.LayerNorm(config.language_width), nn.Linear(config.language_width, H))
        self.enter_state = nn.Sequential(nn.Linear(STATE_WIDTH, H), nn.GELU(), nn.Linear(H, H))
        self.enter_token = nn.Linear(config.language_width, H)
        self.word_place = nn.Parameter(0.02 * torch.randn(config.words, H))
        self.view = nn.Parameter(0.02 * torch.randn(config.views + 1, H))
        self.query_token = nn.Parameter(0.02 * torch.randn(config.queries, H))
        self.part = nn.Parameter(0.02 * torch.randn(4, H))  # thing, found, word, state
        self.ask = nn.Parameter(0.02 * torch.randn(H))  # the first place after a prefix: it answers and points
        self.reader = Host(H, config.reader_layers, config.heads, 2)
        self.pool = nn.Linear(H, config.queries)
        self.query = nn.Linear(H, P + 1)  # the last one: nowhere
        self.query_bias = nn.Parameter(0.1 * torch.randn(config.queries, P + 1))
        self.host = Host(H, config.layers, config.heads)
        self.point = nn.Linear(H, P + 1)
        self.choose = nn.Linear(H, config.queries + 1)  # what words name, or a place of its own
        self.say = nn.Linear(H, config.language_width)
        axis = (torch.arange(CELLS) + 0.5) / CELLS * 2 - 1
        place = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).flatten(0, 1)
        self.register_buffer("cell_place", place, persistent=False)
        prop = torch.tensor([False, *(not kind.endswith(HAND) for kind in config.kinds)])
        self.register_buffer("is_prop", prop, persistent=False)

    # -- pictures ---------------------------------------------------------------------------------------------------

    def look(self, sight: Sight) -> Looked:
        cells = sight.cells.to(self.word_place.dtype)  # it may have been kept in bfloat16
        found = things(Sight(cells, sight.centre, sight.offset), self.config.eyes.things)
        share_NXG = self.tell(cells).shares().detach()  # answering does not change what is told
        share_NKX = share_NXG.gather(2, found.cell[:, None].expand(-1, share_NXG.shape[1], -1)).transpose(1, 2)
        prop_NK = share_NKX[..., : len(self.is_prop)][..., self.is_prop].sum(-1)
        score = found.score.clamp(-8, 8)[..., None] / 4
        things_NKF = torch.cat([found.features.float(), share_NKX, found.place, score, ranks(found, prop_NK)], -1)
        cells_NCG = torch.cat([cells.flatten(2), share_NXG.to(cells.dtype)], 1)
        return Looked(things_NKF, self.keys(cells).flatten(2), cells_NCG)

    def tell(self, cells: Float[Tensor, "N C G G"]) -> Told:
        kinds, colours = len(self.config.kinds) + 1, len(self.config.colours) + 1
        kind, colour, held = self.tells(cells).float().flatten(2).split([kinds, colours, 1], 1)
        return Told(kind, colour, held[:, 0])

    # -- words ------------------------------------------------------------------------------------------------------

    def read(self, words_RLW: Float[Tensor, "R L W"], keep_RL: Bool[Tensor, "R L"]) -> Float[Tensor, "R L H"]:
        """Words among themselves, without a picture.

        Raises:
            ValueError: a text of more tokens than the network has places for.
        """
        L = words_RLW.shape[1]
        if len(self.word_place) < L:
            raise ValueError(f"a text of {L} tokens; this model reads up to {len(self.word_place)}: use shorter words")
        x = self.enter_word(words_RLW.to(self.word_place.dtype)) + self.word_place[:L]
        return self.reader.prefix(x, keep_RL).states[-1]

    def queries(self, read_RLH: Tensor, keep_RL: Tensor) -> Float[Tensor, "R Q P+1"]:
        share_RLQ = self.pool(read_RLH).float().masked_fill(~keep_RL[..., None], -torch.inf).softmax(1)
        return self.query(torch.einsum("rlq,rlh->rqh", share_RLQ.to(read_RLH.dtype), read_RLH)) + self.query_bias

    # -- both -------------------------------------------------------------------------------------------------------

    def prefix(
        self,
        looked: Looked,
        picture_RV: Int[Tensor, "R V"],
        read_RLH: Float[Tensor, "R L H"],
        keep_RL: Bool[Tensor, "R L"],
        view_RV: Int[Tensor, "R V"] | None = None,
        state_RD: Float[Tensor, "R 26"] | None = None,
    ) -> Asked:
        """view: 0 any, 1 and up as the caller numbers its cameras. state: arms26, zeros where a channel is missing."""
        found_RVQG = self.find(looked, picture_RV, self.queries(read_RLH, keep_RL))
        seen = self.seen(looked, picture_RV, found_RVQG)
        return Asked(self.think(seen, read_RLH, keep_RL, view_RV, state_RD), found_RVQG, picture_RV)

    def find(
        self, looked: Looked, picture_RV: Int[Tensor, "R V"], query_RQP: Float[Tensor, "R Q P+1"]
    ) -> Float[Tensor, "R V Q G+1"]:
        """Log-probability of each cell, and last of nowhere, by query."""
        layout = Layout.of(picture_RV, len(looked.keys_NPG))
        return self.pointing(looked.keys_NPG, layout, query_RQP).log_softmax(-1)

    def seen(self, looked: Looked, picture_RV: Int[Tensor, "R V"], found_RVQG: Float[Tensor, "R V Q G+1"]) -> Seen:
        share = found_RVQG.exp()
        layout = Layout.of(picture_RV, len(looked.keys_NPG))
        what = layout.products(share[..., :-1], looked.cells_NCG.transpose(1, 2)).float()
        found = torch.cat([what, share[..., :-1] @ self.cell_place, share[..., -1:]], -1)
        return Seen(looked.things_NKF[picture_RV], found)

    def think(
        self,
        seen: Seen,
        read_RLH: Float[Tensor, "R L H"],
        keep_RL: Bool[Tensor, "R L"],
        view_RV: Int[Tensor, "R V"] | None = None,
        state_RD: Float[Tensor, "R 26"] | None = None,
    ) -> Prefix:
        what = self.config.eyes.cells + self.config.told
        things, found = seen.things_RVKF, seen.found_RVQE
        thing_place, found_place = things[..., what : what + 2], found[..., what : what + 2]
        x_things = torch.cat([things[..., :what], places(thing_place), things[..., what + 2 :]], -1)
        x_found = torch.cat([found[..., :what], places(found_place), found[..., what + 2 :]], -1)
        apart = torch.cat([thing_place, found_place], 2)[..., None, :] - found_place[:, :, None]
        apart = torch.cat([apart, (SIGN_SCALE * apart).tanh()], -1).flatten(-2)  # R V K+Q, Q * APART_WIDTH
        if view_RV is None:
            view_RV = torch.zeros(things.shape[:2], dtype=torch.long, device=things.device)
        x_found = self.enter_found(x_found) + self.query_token + self.part[1]
        x_seen = torch.cat([self.enter_thing(x_things) + self.part[0], x_found], 2)
        x_seen = (x_seen + self.view[view_RV][:, :, None] + self.enter_apart(apart)).flatten(1, 2)
        parts = [x_seen, read_RLH + self.part[2]]
        keep = [torch.ones(x_seen.shape[:2], dtype=torch.bool, device=x_seen.device), keep_RL]
        if state_RD is not None:
            parts.append((self.enter_state(state_RD) + self.part[3])[:, None])
            keep.append(torch.ones(len(x_seen), 1, dtype=torch.bool, device=x_seen.device))
        x = torch.cat([part.to(self.word_place.dtype) for part in parts], 1)
        return self.host.prefix(x, torch.cat(keep, 1))

    def pointing(
        self, keys_NPG: Float[Tensor, "N P G"], layout: Layout, query_RQP: Float[Tensor, "R Q P+1"]
    ) -> Float[Tensor, "R V Q G+1"]:
        """Logits of each cell of each view, and last of nowhere."""
        V = layout.picture_RV.shape[1]
        query = (query_RQP[..., :-1] * query_RQP.shape[-1] ** -0.5)[:, None].expand(-1, V, -1, -1)
        cells = layout.products(query, keys_NPG).float()
        nowhere = query_RQP[..., -1].float()[:, None, :, None].expand(-1, V, -1, -1)
        return torch.cat([cells, nowhere], -1)

    def point_logits(self, looked: Looked, asked: Asked, state_RH: Float[Tensor, "R H"]) -> Float[Tensor, "R V G+1"]:
        """Log-probabilities: of what the words name, or of a place of its own, as far as it chooses either.

        state: of the place `ask`, or of any other that points.
        """
        layout = Layout.of(asked.picture_RV, len(looked.keys_NPG))
        own = self.pointing(looked.keys_NPG, layout, self.point(state_RH)[:, None]).log_softmax(-1)
        places_RVQG = torch.cat([asked.found_RVQG, own], 2)
        chosen_RQ = self.choose(state_RH).float().log_softmax(-1)
        return (places_RVQG + chosen_RQ[:, None, :, None]).logsumexp(2)


def ranks(found: Things, prop_BK: Float[Tensor, "B K"]) -> Float[Tensor, "B K 2"]:
    """How many props lie left and right of each thing, each counted as far as it is likely to be one; in tens."""
    there = (found.score.sigmoid() * prop_BK)[:, None]
    away = found.place[:, :, None, 0] - found.place[:, None, :, 0]
    itself = torch.eye(away.shape[1], dtype=torch.bool, device=away.device)
    there = torch.where(itself, 0.0, there)
    left = ((RANK_SCALE * away).sigmoid() * there).sum(-1)
    right = ((-RANK_SCALE * away).sigmoid() * there).sum(-1)
    return torch.stack([left, right], -1) / 10


def places(place: Float[Tensor, "... 2"]) -> Float[Tensor, "... 22"]:
    """x, y in -1 to 1, with their sines and cosines."""
    angle = place.float()[..., None] * (torch.pi * 2.0 ** torch.arange(FREQUENCIES, device=place.device))
    return torch.cat([place.float(), angle.sin().flatten(-2), angle.cos().flatten(-2)], -1)


def pointed(logits_RG: Float[Tensor, "R G+1"]) -> tuple[Float[Tensor, "R 2"], Float[Tensor, " R"]]:
    """x, y in 0 to 1: the middle of the likeliest cell, moved by the weights of its neighbours; and how likely the
    thing is within three cells of there, and not nowhere.
    """
    share = logits_RG.float().softmax(-1)[:, :-1].unflatten(1, (CELLS, CELLS))
    best = share.flatten(1).argmax(1)
    axis = torch.arange(CELLS, device=best.device)
    away_y, away_x = (axis - (best // CELLS)[:, None]).abs(), (axis - (best % CELLS)[:, None]).abs()
    away = torch.maximum(away_y[:, :, None].expand(-1, -1, CELLS), away_x[:, None])
    near = torch.where(away <= 1, share, 0.0)
    near = near / near.sum((1, 2), keepdim=True)
    middle = (axis + 0.5) / CELLS
    place = torch.stack([(near.sum(1) * middle).sum(1), (near.sum(2) * middle).sum(1)], 1)
    return place, torch.where(away <= 3, share, 0.0).sum((1, 2))
