"""What a Gaussian codec keeps besides its modules' tensors: priors of robots and the generic one, in one file.

Names: robot.NAME.FIELD, generic.FIELD; a slot predictor's fields have "slotwise." before them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor

from xtok.actions.layout import Layout
from xtok.actions.statistics import Statistics, StatisticsJson
from xtok.actions.tangent import tangent_kinds
from xtok.codec.gaussian.model import GaussianCodec
from xtok.codec.gaussian.prior import SLOTWISE, GenericPrior, MotionPrior
from xtok.codec.gaussian.slot_predictor import GenericSlotPredictor, SlotPredictor

PRIOR_TENSORS = {"mean_SK", "factor_SKR", "noise_MK", "activity_A"}
PREFIXES = ("robot.", "generic.")

Predictor = TypeVar("Predictor", SlotPredictor, GenericSlotPredictor)


def prior_tensors(codec: GaussianCodec) -> dict[str, Tensor]:
    """By name in the file."""
    out: dict[str, Tensor] = {}
    for name, prior in codec.robots.items():
        out |= {f"robot.{name}.{k}": v.contiguous() for k, v in prior.tensors().items()}
    if codec.generic is not None:
        out |= {f"generic.{k}": v.contiguous() for k, v in codec.generic.tensors().items()}
    return out


def add_codebooks(codec: GaussianCodec, names: Mapping[str, Tensor], robots: Mapping[str, StatisticsJson]) -> None:
    """Make room for the codebooks of single robots that the file holds."""
    for level, codebooks in (("coarse", codec.coarse), ("residual", codec.residual)):
        for name in robots:
            if f"{level}.per_robot.{name}.books_QVC" in names:
                codebooks.add(name)


def take_priors(
    codec: GaussianCodec,
    robots: Mapping[str, StatisticsJson],
    measured: list[str],
    tensors: dict[str, Tensor],
    where: str,
) -> None:
    """Give a codec its robots. Their tensors are taken out of `tensors`.

    Raises:
        ValueError: tensors that are missing, that no robot has, or that do not fit each other.
    """
    for name, part in robots.items():
        fields = _pop(tensors, f"robot.{name}.", where)
        slotwise = _slot_predictor(fields, SlotPredictor, f"{where}: the slot predictor of {name!r}")
        if wrong := sorted((fields.keys() - {"emphasis_K"}) ^ PRIOR_TENSORS):
            raise ValueError(f"{where}: the prior of {name!r} differs in {wrong}; fetch the tokenizer again")
        codec.robots[name] = MotionPrior(codec.layout, Statistics.from_dict(part), **fields, slotwise=slotwise)
    codec.measured = dict.fromkeys(measured)
    if unknown := codec.measured.keys() - codec.robots.keys():
        raise ValueError(f"{where}: it says that {sorted(unknown)} were measured, but has no such robots")
    if any(name.startswith("generic.") for name in tensors):
        codec.generic = _generic(codec.layout, _pop(tensors, "generic.", where))


def _pop(tensors: dict[str, Tensor], prefix: str, where: str) -> dict[str, Tensor]:
    found = {name: tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
    if not found:
        raise ValueError(f"{where} lacks the tensors {prefix}* that its configuration names; fetch both again")
    return {name.removeprefix(prefix): tensor for name, tensor in found.items()}


def _slot_predictor(fields: dict[str, Tensor], kind: type[Predictor], what: str) -> Predictor | None:
    """Take a slot predictor out of the fields of a prior; None where it has none."""
    fields_of = dataclasses.fields(kind)
    needed = {field.name for field in fields_of if field.default is dataclasses.MISSING}
    optional = {field.name for field in fields_of} - needed
    found = {name.removeprefix(SLOTWISE): fields.pop(name) for name in list(fields) if name.startswith(SLOTWISE)}
    if found and (wrong := (found.keys() - optional) ^ needed):
        raise ValueError(f"{what} differs in {sorted(wrong)}; fetch the tokenizer again")
    return kind(**found) if found else None


def _generic(layout: Layout, tensors: dict[str, Tensor]) -> GenericPrior:
    slotwise = _slot_predictor(tensors, GenericSlotPredictor, "the generic slot predictor")
    kinds = sorted(set(tangent_kinds(layout)))
    wrong = sorted(
        tensors.keys() ^ {"activity_A", *(f"{part}.{kind}" for part in ("temporal", "noise") for kind in kinds)}
    )
    if wrong:
        raise ValueError(
            f"the generic prior differs in {wrong} from one for the kinds {kinds}; fetch the tokenizer again"
        )
    temporal, noise = ({kind: tensors[f"{part}.{kind}"] for kind in kinds} for part in ("temporal", "noise"))
    return GenericPrior(layout, temporal, noise, tensors["activity_A"], slotwise)
