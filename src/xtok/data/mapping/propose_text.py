"""A proposal as a mapping file: the reading in use, the others beside it as comments, open questions on top."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

from xtok.actions.embodiments import NONE, Kinematics
from xtok.actions.layout import ARMS26
from xtok.data.features import Column
from xtok.data.mapping.channels import JointChannels, NamedPoses, PosesByKinematics
from xtok.data.mapping.guess_types import Doubt, Guess, questions_of
from xtok.data.mapping.text import gripper_value, joint_values, pick, position_line, rotation_line

_COMMENT_WIDTH = 118
_WHOLE = ("layout", "sides", "names")  # doubts about more than one line


def named_text(mapping: NamedPoses) -> str:
    """Of columns that are named as channels."""
    lines = _head("arms26", mapping.embodiment, "achieved")
    for side in ("left", "right"):
        groups = {kind: _group(mapping, f"{side}_{kind}") for kind in ("position", "rotation", "gripper")}
        if groups["position"] and groups["rotation"]:
            lines += [
                f"{side}:",
                f"  {position_line(groups['position'], 'm')}",
                f"  rotation: {{from: {pick(groups['rotation'])}, form: 6d, order: columns}}",
            ]
            if groups["gripper"]:
                lines.append(f"  gripper: {{from: {pick(groups['gripper'])}, closed: 0, open: 1}}")
    for name in ("base_velocity", "lift_height", "head"):
        if columns := _group(mapping, name):
            lines.append(f"{name}: {{from: {pick(columns)}}}")
    return "\n".join(lines) + "\n"


def _group(mapping: NamedPoses, group: str) -> list[Column]:
    channels = range(ARMS26.width)[ARMS26.slices[group]]
    return [mapping.columns[channel] for channel in channels if channel in mapping.columns]


def kinematics_text(mapping: PosesByKinematics) -> str:
    """Of a robot whose URDF ships."""
    model: Kinematics = mapping.kinematics
    lines = [
        *_head("arms26", mapping.embodiment, "achieved"),
        "kinematics:",
        f"  urdf: {json.dumps(model.urdf)}  # ships with xtok; for another, its path beside this file",
        "  joints:",
        f"    from: {pick(list(mapping.joints.values()))}",
        "    unit: rad",
        f"    names: [{', '.join(mapping.joints)}]",
        f"  frames: {{{', '.join(f'{side}: {link}' for side, link in model.frames.items())}}}",
    ]
    closed, opened = mapping.robot.gripper_closed, mapping.robot.gripper_open
    for side, columns in mapping.hands.items():
        lines += [
            f"{side}:",
            f"  gripper: {{from: {pick(columns)}, closed: {closed:g}, open: {opened:g}}}  # their mean",
        ]
    return "\n".join(lines) + "\n"


def joints_text(mapping: JointChannels) -> str:
    """Of a robot whose joints the registry names."""
    robot = mapping.robot
    commanded = all(column.feature.startswith("action") for column in mapping.joints)
    lines = [
        *_head("joints", mapping.embodiment, "commanded" if commanded else "achieved"),
        f"joints: {{from: {pick(mapping.joints)}, unit: {robot.joint_unit}}}",
    ]
    if mapping.grippers:
        lines.append("grippers:")
    for column in mapping.grippers:
        lines.append(f"  - {{from: {pick([column])}, closed: {robot.gripper_closed:g}, open: {robot.gripper_open:g}}}")
    return "\n".join(lines) + "\n"


def guessed_text(found: Guess, robot: str | None, hz: float | None) -> str:
    """Of a reading. robot: its name where the set's own would say too much. hz: where the set states no rate."""
    asked = questions_of(found.doubts)
    number = {id(doubt): k for k, (_, doubts) in enumerate(asked, start=1) for doubt in doubts}
    lines = _head(found.layout, robot, "commanded" if found.commanded else "achieved", hz)
    if asked:
        lines.append(
            "# Not decided: choose between the readings below, then delete the question. No command but inspect uses"
        )
        lines.append("# this file while a question stands here.")
        lines.append("undecided:")
        lines += [f"  - {json.dumps(f'{k}. {text}', ensure_ascii=False)}" for k, (text, _) in enumerate(asked, start=1)]

    def beside(place: str, indent: str = "") -> Iterator[str]:
        for doubt in (doubt for doubt in found.doubts if doubt.place == place):
            yield from _others(doubt, number.get(id(doubt)), indent)

    if found.layout == "joints":
        groups = [value for columns, unit in found.joints for value in joint_values(columns, unit)]
        lines += [f"joints: {groups[0]}"] if len(groups) == 1 else ["joints:", *(f"  - {each}" for each in groups)]
        lines += beside("joints")
        if found.grippers:
            lines += ["grippers:", *(f"  - {gripper_value(each)}" for each in found.grippers)]
        lines += beside("grippers")
    else:
        lines.append("frame: base  # not checked: the frame that the poses are in")
        for side, arm in found.arms.items():
            lines += [
                f"{side}:",
                f"  {position_line(arm.position, arm.position_unit)}",
                *beside(f"{side}.position", "  "),
            ]
            lines += [f"  {rotation_line(arm.rotation)}", *beside(f"{side}.rotation", "  ")]
            if arm.gripper is not None:
                lines.append(f"  gripper: {gripper_value(arm.gripper)}")
            lines += beside(f"{side}.gripper", "  ")
    for place in _WHOLE:
        lines += beside(place)
    return "\n".join(lines) + "\n"


def _others(doubt: Doubt, number: int | None, indent: str) -> Iterator[str]:
    """The other readings of a doubt, as comments under the one in use."""
    if number is None:
        yield from textwrap.wrap(
            f"not sure: {doubt.text}", _COMMENT_WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
        )
    for reading in doubt.others:
        lines = reading.splitlines()
        label = f"{number}, or: " if number is not None else "or: "
        if len(lines) == 1:
            yield f"{indent}# {label}{lines[0]}"
        else:
            yield f"{indent}# {label.strip()}"
            yield from (f"{indent}#   {line}" for line in lines)


def _head(layout: str, embodiment: str | None, pose: str, hz: float | None = None) -> list[str]:
    lines = [f"layout: {layout}"]
    if embodiment is not None and embodiment != NONE:
        lines.append(f"embodiment: {embodiment}")
    if hz is not None:
        lines.append(f"control_hz: {hz:.4g}")
    return [*lines, f"pose: {pose}"]
