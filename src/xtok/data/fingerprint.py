"""What decides the episodes that come out of a DATA: the contents of its folder and the mapping it is read by.

Work that goes on after a stop is bound to it, so that a folder of the same name with other motion is not taken for it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from xtok.data.digests import digest_of, folder_digest
from xtok.data.hub import is_snapshot
from xtok.data.mapping.file import read_mapping
from xtok.data.open import data_root

FILMS = (".mp4", ".avi", ".mkv", ".webm", ".mov")  # which say nothing of the motion
_YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class Fingerprint:
    """contents: of the folder, or a hub snapshot's revision. rules: of the mapping and its robot model, or ""."""

    contents: str
    rules: str

    @property
    def digest(self) -> str:
        return digest_of(contents=self.contents, rules=self.rules)


def fingerprint(path: str | Path, mapping: str | Path | None = None, times: bool = False) -> Fingerprint:
    """Of a folder, hub id or mapping file, films aside. times: as in `folder_digest`.

    Raises:
        ValueError: nothing is there, or a mapping file that cannot be read.
    """
    root = data_root(path)
    # The files of a hub's snapshot come one by one, its revision stands for all of them.
    contents = root.name if is_snapshot(root) else folder_digest(root, FILMS, times)
    return Fingerprint(contents, mapping_rules(path, mapping))


def mapping_rules(path: str | Path, mapping: str | Path | None = None) -> str:
    """Digest of the mapping that a set is read by and of the robot model that it names; "" without one."""
    read_by = mapping or (path if Path(path).suffix in _YAML else None)
    if read_by is None:
        return ""
    spec = read_mapping(read_by)
    urdf = None if spec.kinematics is None else spec.folder / spec.kinematics.urdf
    texts = [Path(read_by).read_bytes(), urdf.read_bytes() if urdf is not None and urdf.is_file() else b""]
    return hashlib.sha256(b"\0".join(texts)).hexdigest()
