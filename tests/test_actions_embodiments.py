"""The embodiment registry: published slots first, masks by layout, helpful refusals."""

from __future__ import annotations

import numpy as np
import pytest

from xtok.actions.embodiments import (
    NONE,
    NONE_SLOT,
    SLOTS,
    Embodiment,
    Kinematics,
    embodiment_names,
    find_robot_type,
    get_embodiment,
    register,
    unregistered_name,
)
from xtok.actions.kinematics import bundled_urdf
from xtok.actions.layout import ARMS26, JOINTS, LAYOUTS

PUBLISHED = [
    "Unknown",
    "X2Arm",
    "Franka",
    "UR5",
    "Piper",
    "ViperX",
    "ARX5",
    "WidowX",
    "GoogleRobot",
    "AgiBot",
    "UMI",
    "Realman",
    "Ark",
    "R1Lite",
    "AlphaBot",
    "MMK2",
    "Leju",
    "A2D",
]  # docs/method.md#published-results, in the order of their slots


def test_published_slots_come_first_and_slots_are_unique() -> None:
    robots = [get_embodiment(name) for name in embodiment_names()]
    assert [robot.name for robot in robots[:18]] == PUBLISHED
    assert [robot.slot for robot in robots[:18]] == list(range(18))
    assert len({robot.slot for robot in robots}) == len(robots)
    assert get_embodiment(NONE).slot == NONE_SLOT == SLOTS - 1 == 1023


@pytest.mark.parametrize(
    ("name", "layout", "valid"),
    [
        ("g1_inspire", "arms26", 20),
        ("g1_inspire", "joints", 26),
        ("cr5", "joints", 7),
        ("so101", "joints", 6),
        ("gr1", "joints", 44),
        ("adroit", "joints", 28),
        ("panda", "arms26", 10),
        ("baxter", "arms26", 20),
    ],
)
def test_masks_count_the_channels_a_robot_has(name: str, layout: str, valid: int) -> None:
    mask_D = get_embodiment(name).mask(LAYOUTS[layout])
    assert mask_D.shape == (LAYOUTS[layout].width,)
    assert mask_D.sum() == valid


def test_a_lone_arm_takes_the_right_side() -> None:
    mask_D = get_embodiment("panda").mask(ARMS26)
    assert mask_D[10:20].all() and mask_D.sum() == 10


def test_joints_and_grippers_fill_their_groups_in_order() -> None:
    mask_D = get_embodiment("so101").mask(JOINTS)
    assert np.flatnonzero(mask_D).tolist() == [0, 1, 2, 3, 4, JOINTS.slices["gripper"].start]


def test_gripper_opening_maps_closed_and_open_and_keeps_overshoot() -> None:
    opening = get_embodiment("cr5").gripper_opening(np.array([1.0, 0.0, 1.1]))
    np.testing.assert_allclose(opening, [0.0, 1.0, -0.1], atol=1e-12)


def test_every_urdf_named_ships() -> None:
    named = [robot.urdf for name in embodiment_names() if (robot := get_embodiment(name)).urdf is not None]
    assert named and all("<robot" in bundled_urdf(urdf) for urdf in named if urdf)


def test_unknown_name_lists_close_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown embodiment 'pandas'.*panda"):
        get_embodiment("pandas")


def test_mask_of_a_published_slot_without_known_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="give the mask yourself"):
        get_embodiment("Franka").mask(ARMS26)


def test_unregistered_robots_share_the_slot_of_none() -> None:
    name = unregistered_name("My Arm v2")
    assert name == "none:my_arm_v2"
    assert get_embodiment(name).slot == NONE_SLOT
    assert get_embodiment(name).layouts == ()


def test_robot_types_match_whatever_their_punctuation() -> None:
    found = find_robot_type("unitree-g1 inspire")
    assert found is not None and found.name == "g1_inspire"
    assert find_robot_type("toaster") is None


def test_register_makes_a_robot_known_and_refuses_clashes(monkeypatch: pytest.MonkeyPatch) -> None:
    from xtok.actions import embodiments

    copy = dict(embodiments._registry())
    monkeypatch.setattr(embodiments, "_registry", lambda: copy)
    register(Embodiment("my_arm", joint_names=("a", "b")))
    register(Embodiment("my_arm", joint_names=("a", "b")))  # the same again is no clash
    assert get_embodiment("my_arm").slot == NONE_SLOT
    with pytest.raises(ValueError, match="registered already"):
        register(Embodiment("my_arm", joint_names=("a",)))
    with pytest.raises(ValueError, match="belongs to 'Franka'"):
        register(Embodiment("other", slot=2))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"slot": 1024}, "outside 0..1023"),
        ({"gripper_closed": 1.0, "gripper_open": 1.0}, "gripper_closed equals"),
        ({"pose_groups": ("tail_position",)}, "no groups"),
        ({"kinematics": Kinematics("x.urdf", {"right": "tip"}, {}, {})}, "add them to pose_groups"),
        ({"joint_names": tuple(map(str, range(61)))}, "61 joints"),
        ({"gripper_names": tuple("abcde")}, "5 grippers"),
    ],
)
def test_impossible_embodiments_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Embodiment("x", **fields)
