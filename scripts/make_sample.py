"""Rebuild the sample data set that ships with xtok: python scripts/make_sample.py [folder]

Takes the six Panda demonstrations from PyPI's robosuite 1.0.0 wheel (MIT), computes poses from the stored states, and
writes them as a LeRobot v3.0 folder with the wheel's licence beside them. Needs the network once (pip download).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from xtok.data import open_dataset, sample_path
from xtok.data.writers.lerobot import write_lerobot

WHEEL = "robosuite==1.0.0"
DEMONSTRATIONS = "robosuite/models/assets/demonstrations/"
NOTICE = """\
Six human demonstrations of a simulated Franka Panda (door, lift, nut assembly, pick and place, stack, wipe), rebuilt by
xtok's scripts/make_sample.py from robosuite 1.0.0 (https://pypi.org/project/robosuite/1.0.0/). What was done: poses of
gripper0_grip_site in the frame of robot0_base by forward kinematics from the stored states, 20 Hz; gripper opening 0..1
from the finger joints. robosuite's licence follows.

"""


# Order of the wheel's demonstrations (by path: door, lift, nut assembly, pick place, stack, wipe) in the sample. In the
# whole robosuite set nut assembly is held out (index 14, mod 5 = 4) and the shipped weights never saw it; here it is
# number 4, so that the same rule holds out the same demonstration.
ORDER = (0, 1, 4, 3, 2, 5)


def download(folder: Path) -> Path:
    """Fetch the wheel with pip into `folder`; returns its path."""
    command = [sys.executable, "-m", "pip", "download", WHEEL, "--no-deps", "--quiet", "--dest", str(folder)]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("robosuite-1.0.0-*.whl")
    return wheel


def build(wheel: Path, target: Path) -> None:
    """Write the sample set into the new folder `target`.

    Raises:
        ValueError: `target` exists, or the wheel holds no licence.
    """
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(wheel) as archive:
        archive.extractall(scratch, [name for name in archive.namelist() if name.startswith(DEMONSTRATIONS)])
        licences = [name for name in archive.namelist() if Path(name).name.upper().startswith("LICENSE")]
        if not licences:
            raise ValueError(f"{wheel} holds no licence file; the sample may not ship without it")
        demonstrations = open_dataset(Path(scratch) / DEMONSTRATIONS)
        write_lerobot(target, [demonstrations[index] for index in ORDER], robot_type="panda")
        (target / "LICENSE").write_text(NOTICE + archive.read(licences[0]).decode("utf-8"), encoding="utf-8")


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else sample_path()
    with tempfile.TemporaryDirectory() as scratch:
        build(download(Path(scratch)), target)
    size_kb = sum(path.stat().st_size for path in target.rglob("*") if path.is_file()) // 1024
    print(f"wrote {target} ({size_kb} KB)")


if __name__ == "__main__":
    main()
