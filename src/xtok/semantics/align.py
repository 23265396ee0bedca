"""Latents of motion beside a frozen teacher's features of the same moments.

docs/method.md#losses (L_align); decision 0009.

# B chunks, M slots, N = B M (chunk, slot) pairs, V views, W width of the teacher, C latent width, E width compared in
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from xtok import ranks
from xtok.actions.types import HORIZON_MAX, slots
from xtok.semantics.cotemporal import SlotFrames, TeacherFeatures, slot_frames
from xtok.semantics.gather import gathered
from xtok.semantics.substitute import Substitute

__all__ = ["Alignment", "Pairs", "SlotFrames", "alignment_losses", "load_heads", "slot_frames"]

HEADS = "heads.safetensors"
TEMPERATURE = 0.1  # docs/method.md#losses: the target of the learned one
TEMPERATURES = (0.01, 0.5)
NEAR_SLOTS = 1  # unspecified: neighbours in time that are no negatives of each other
SameText = Literal["mask", "keep", "soft"]


class Fusion(nn.Module):
    """One feature a moment: views by learned softmax weights over those that are there, and the text.

    docs/method.md#teacher.

    Hidden states share a large common part; `fit` takes it off (mean and scale of each dimension, before training).
    text_weight: .5 is the paper's; 0 is an image-only teacher, 1 a text-only one.
    """

    def __init__(self, width: int, views: int, text_weight: float = 0.5) -> None:
        super().__init__()
        if not 0 <= text_weight <= 1:
            raise ValueError(f"text_weight is {text_weight}; expected 0 (image only) to 1 (text only)")
        self.view_logit_V = nn.Parameter(torch.zeros(views))
        self.text_weight: Tensor
        self.mean_PW: Tensor  # P: picture, text
        self.scale_PW: Tensor
        self.register_buffer("text_weight", torch.tensor(float(text_weight)))
        self.register_buffer("mean_PW", torch.zeros(2, width))
        self.register_buffer("scale_PW", torch.ones(2, width))

    @torch.no_grad()
    def fit(self, seen: TeacherFeatures) -> None:
        """Mean and spread of each dimension over what is there."""
        for part, rows in enumerate((seen.views_BMVW[seen.view_mask_BMV], seen.text_BMW[seen.valid_BM])):
            if len(rows) > 1:
                self.mean_PW[part] = rows.mean(dim=0)
                # A dimension that never changes stays near 0 instead of being blown up.
                self.scale_PW[part] = rows.std(dim=0).clamp_min(1e-3 * float(rows.std()) + 1e-9)

    def valid(self, seen: TeacherFeatures) -> Bool[Tensor, "B M"]:
        """True where there is something to compare with: without a view the picture's half is missing."""
        return seen.valid_BM & (seen.view_mask_BMV.any(dim=-1) | (self.text_weight == 1))

    def forward(self, seen: TeacherFeatures) -> Float[Tensor, "B M W"]:
        """In units of each dimension's spread; 0 where nothing was seen."""
        views = (seen.views_BMVW - self.mean_PW[0]) / self.scale_PW[0]
        text = (seen.text_BMW - self.mean_PW[1]) / self.scale_PW[1]
        score = self.view_logit_V.expand(views.shape[:-1]).masked_fill(~seen.view_mask_BMV, -1e9)
        share = score.softmax(dim=-1) * seen.view_mask_BMV  # all absent: all 0
        picture = (share[..., None] * views).sum(dim=-2)
        fused = (1 - self.text_weight) * picture + self.text_weight * text
        return fused * seen.valid_BM[..., None]


class Alignment(nn.Module):
    """Projection heads, view fusion, temperature; and the map from teacher features back to latents.

    gain_C: what each latent dimension is multiplied by before the action head: brings them to about unit size, and is 0
    for those that the head may not see.
    """

    def __init__(
        self,
        latent_dim: int,
        width: int,
        dim: int = 64,
        views: int = 3,
        hidden: int = 256,
        text_weight: float = 0.5,
    ) -> None:
        super().__init__()
        self.fusion = Fusion(width, views, text_weight)
        self.action_head = nn.Sequential(nn.Linear(latent_dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.teacher_head = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.log_temperature = nn.Parameter(torch.tensor(math.log(TEMPERATURE)))
        self.gain_C: Tensor
        self.register_buffer("gain_C", torch.ones(latent_dim))
        self.substitute = Substitute(width, latent_dim)

    @property
    def temperature(self) -> Tensor:
        low, high = TEMPERATURES
        return self.log_temperature.exp().clamp(low, high)

    def action(self, h_BMC: Float[Tensor, "B M C"]) -> Float[Tensor, "B M E"]:
        """Unit length."""
        return F.normalize(self.action_head(h_BMC.float() * self.gain_C), dim=-1)

    def teacher(
        self, views: Float[Tensor, "B M V W"], view_mask: Bool[Tensor, "B M V"], text: Float[Tensor, "B M W"]
    ) -> Float[Tensor, "B M E"]:
        """Unit length."""
        return self.of(everything(views, view_mask, text))

    def of(self, seen: TeacherFeatures) -> Float[Tensor, "B M E"]:
        return F.normalize(self.teacher_head(self.fusion(seen)), dim=-1)

    @torch.no_grad()
    def to_latent(
        self, views: Float[Tensor, "B M V W"], view_mask: Bool[Tensor, "B M V"], text: Float[Tensor, "B M W"]
    ) -> Float[Tensor, "B M C"]:
        """Latents h that go with a chunk's features: what functional substitution puts in h's place."""
        return self.substitute(self.fusion(everything(views, view_mask, text)))


def everything(views: Tensor, view_mask: Tensor, text: Tensor) -> TeacherFeatures:
    """Plain tensors, all of them there."""
    valid = torch.ones(text.shape[:-1], dtype=torch.bool, device=text.device)
    return TeacherFeatures(views, view_mask, text, valid, valid.long())


@dataclass(frozen=True)
class Pairs:
    """Who may be a negative of whom. Rows and columns are (chunk, slot) pairs, chunk by chunk.

    episode_B: number of each chunk's episode. valid_BM: there is a feature. words_BM: see Origins.words_at.
    """

    episode_B: Tensor
    valid_BM: Bool[Tensor, "B M"]
    words_BM: Tensor

    def same_words(self) -> Bool[Tensor, "N N"]:
        words_N = self.words_BM.flatten()
        return words_N[:, None] == words_N

    def same_episode(self) -> Bool[Tensor, "B B"]:
        return self.episode_B[:, None] == self.episode_B

    def local_negatives(self, same_text: SameText) -> Bool[Tensor, "N N"]:
        """All other pairs (docs/method.md#losses), but: neighbours in time within a chunk, other chunks of the same
        episode (their frames may be the same), and, unless same_text is "keep", pairs of other chunks with the same
        words."""
        B, M = self.valid_BM.shape
        chunk_N, slot_N = torch.arange(B * M) // M, torch.arange(B * M) % M
        same_chunk = (chunk_N[:, None] == chunk_N).to(self.valid_BM.device)
        near = ((slot_N[:, None] - slot_N).abs() <= NEAR_SLOTS).to(self.valid_BM.device)
        episode_BB = self.same_episode()
        same_episode = episode_BB.repeat_interleave(M, 0).repeat_interleave(M, 1)
        out = torch.where(same_chunk, ~near, ~same_episode)
        if same_text != "keep":
            out &= same_chunk | ~self.same_words()
        return out

    def global_negatives(self, same_text: SameText) -> Bool[Tensor, "B B"]:
        """Chunks of other episodes; unless same_text is "keep", not those with the same words in every slot."""
        out = ~self.same_episode()
        return out if same_text == "keep" else out & ~self.same_text_chunks()

    def further_positives(self) -> tuple[Bool[Tensor, "B B"], Bool[Tensor, "N N"]]:
        """Of chunks and of slots: equal words in another episode."""
        M = self.valid_BM.shape[1]
        other_BB = ~self.same_episode()
        other_NN = other_BB.repeat_interleave(M, 0).repeat_interleave(M, 1)
        return other_BB & self.same_text_chunks(), other_NN & self.same_words()

    def same_text_chunks(self) -> Bool[Tensor, "B B"]:
        return (self.words_BM[:, None] == self.words_BM).all(dim=-1)


def alignment_losses(
    heads: Alignment,
    h_BMC: Float[Tensor, "B M C"],
    seen: TeacherFeatures,
    episode_B: Tensor,
    same_text: SameText = "mask",
    cosine: bool = False,
) -> dict[str, Float[Tensor, ""]]:
    """`align_global`: mean-pooled chunk against chunk. `align_local`: slot i against the feature u_i beside it.

    Over the batches of all ranks (their chunks may differ in length). 0 where fewer than two pairs are there.
    same_text: "mask" takes pairs of equal words out of the negatives, "soft" makes them positives too, "keep" leaves
    them in (the paper to the letter, docs/method.md#losses). cosine: also `align_cosine`, the mean of 1 - cosine of
    slot and moment.
    """
    action, teacher, valid_BM = heads.action(h_BMC), heads.of(seen), heads.fusion.valid(seen)
    losses = {"align_cosine": _cosine_loss(action, teacher, valid_BM)} if cosine else {}
    action, teacher, pairs = _together(action, teacher, seen, valid_BM, episode_B)
    valid_BM, scale = pairs.valid_BM, 1 / heads.temperature
    share_BM1 = valid_BM[..., None] / valid_BM.sum(dim=1).clamp_min(1)[:, None, None]
    a_BE, t_BE = (F.normalize((x * share_BM1).sum(dim=1), dim=-1, eps=1e-6) for x in (action, teacher))
    soft_BB, soft_NN = pairs.further_positives() if same_text == "soft" else (None, None)
    valid_B, valid_N = valid_BM.any(dim=1), valid_BM.flatten()
    a_NE, t_NE = action.flatten(0, 1), teacher.flatten(0, 1)
    return losses | {
        "align_global": info_nce(a_BE, t_BE, scale, valid_B, pairs.global_negatives(same_text), soft_BB),
        "align_local": info_nce(a_NE, t_NE, scale, valid_N, pairs.local_negatives(same_text), soft_NN),
    }


def _cosine_loss(
    action_BME: Float[Tensor, "B M E"], teacher_BME: Float[Tensor, "B M E"], valid_BM: Bool[Tensor, "B M"]
) -> Float[Tensor, ""]:
    """0 where there is no pair."""
    apart_BM = 1 - (action_BME * teacher_BME).sum(dim=-1)
    return torch.where(valid_BM, apart_BM, 0.0).sum() / ranks.divisor(valid_BM.sum())


def info_nce(
    a_NE: Float[Tensor, "N E"],
    b_NE: Float[Tensor, "N E"],
    scale: Tensor,
    valid_N: Bool[Tensor, " N"],
    negative_NN: Bool[Tensor, "N N"],
    positive_NN: Bool[Tensor, "N N"] | None = None,
) -> Float[Tensor, ""]:
    """CLIP-symmetric cross-entropy of row n against column n among its negatives, mean over valid rows of both sides.

    negative_NN, positive_NN: symmetric. Further positives share the target evenly with n itself.
    """
    both_NN = valid_N & valid_N[:, None]
    target_NN = torch.eye(len(a_NE), dtype=torch.bool, device=a_NE.device)
    if positive_NN is not None:
        target_NN = target_NN | (positive_NN & both_NN)
    shown_NN = target_NN | (negative_NN & both_NN)
    logits_NN = (scale * (a_NE @ b_NE.T)).masked_fill(~shown_NN, -1e9)
    total = a_NE.new_zeros(())
    for log_share_NN in (logits_NN.log_softmax(dim=1), logits_NN.log_softmax(dim=0).T):
        loss_N = -torch.where(target_NN, log_share_NN, 0.0).sum(dim=1) / target_NN.sum(dim=1)
        total = total + torch.where(valid_N, loss_N, 0.0).sum() / valid_N.sum().clamp_min(1)
    return total / 2


def _together(
    action: Tensor, teacher: Tensor, seen: TeacherFeatures, valid_BM: Tensor, episode_B: Tensor
) -> tuple[Tensor, Tensor, Pairs]:
    """Of all ranks. Ranks draw their own chunk lengths, so shorter chunks get slots that are not valid."""
    M = valid_BM.shape[1]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        M = slots(HORIZON_MAX)
    more = M - valid_BM.shape[1]
    action, teacher = (F.pad(x, (0, 0, 0, more)) for x in (action, teacher))
    valid_BM, words_BM = F.pad(valid_BM, (0, more)), F.pad(seen.words_BM, (0, more), value=-1)
    pairs = Pairs(gathered(episode_B), gathered(valid_BM), gathered(words_BM))
    return gathered(action), gathered(teacher), pairs


def load_heads(run_dir: str | Path) -> Alignment:
    """The trained alignment of a run, for evaluation.

    Raises:
        FileNotFoundError: no heads there. ValueError: a damaged file, or a run without alignment.
    """
    path = Path(run_dir) / HEADS
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; `xtok train RECIPE --features STORE -o {run_dir}` writes it")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); train again, or fetch it again") from error
    mine = {name.removeprefix("align."): tensor for name, tensor in tensors.items() if name.startswith("align.")}
    if not mine:
        raise ValueError(f"{path} has no alignment; train a recipe with align=True and --features")
    try:
        hidden, latent_dim = mine["action_head.0.weight"].shape
        heads = Alignment(
            latent_dim,
            width=mine["teacher_head.0.weight"].shape[1],
            dim=mine["action_head.2.weight"].shape[0],
            views=len(mine["fusion.view_logit_V"]),
            hidden=hidden,
        )
        heads.load_state_dict(mine)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{path} does not fit this version of the heads ({error}); train again") from error
    return heads.eval().requires_grad_(False)
