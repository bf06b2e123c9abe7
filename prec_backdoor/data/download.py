"""Downloads of the MovieLens datasets, checked against known SHA-256 sums before they are written."""

import hashlib
import http.client
import io
import os
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from pathlib import Path

from tqdm import tqdm

from prec_backdoor.data.interactions import Interactions
from prec_backdoor.errors import UserError

TERMS = """\
MovieLens data: for research use. No redistribution and no commercial use without the permission of GroupLens,
University of Minnesota; no endorsement by them may be implied. Publications cite F. M. Harper and J. A. Konstan (2015):
The MovieLens Datasets: History and Context. ACM Transactions on Interactive Intelligent Systems 5(4), 19."""
COUNTS = {"ml-100k": (943, 1_682, 100_000), "ml-1m": (6_040, 3_706, 1_000_209)}  # users, items, interactions

_PUBLISHER = "https://files.grouplens.org/datasets/movielens"
_TIMEOUT = 10  # seconds without a byte
_CHUNK = 1 << 16
_ARCHIVES = {
    "ml-100k": "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
    "ml-1m": "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
}
_MEMBERS = {
    "ml-100k": ("u.data", "u.user", "u.item", "u.info"),
    "ml-1m": ("ratings.dat", "users.dat", "movies.dat"),
}
_WHEEL = "recbole==1.2.1"
_WHEEL_FILES = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}


class _Failure(Exception):
    """A source answers but does not have the files."""


def fetch(name: str, folder: str | Path) -> None:
    """Writes the files of dataset `name` into a new `folder`, all or none, and prints the terms of their licence.

    Raises:
      UserError: no source gives the files.
    """
    failures = []
    for source in _SOURCES[name]:
        try:
            files = source(name)
            break
        except (_Failure, OSError, http.client.HTTPException, zipfile.BadZipFile, subprocess.SubprocessError) as error:
            failures.append(str(getattr(error, "reason", error)))
            print(f"{name}: {source.__doc__} failed ({failures[-1]})", file=sys.stderr)
    else:
        raise UserError(
            f"{name}: no download ({'; '.join(failures)}); get {_PUBLISHER}/{name}.zip by other means, unpack it "
            "and pass its folder as --data_dir"
        )
    print(TERMS)
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as partial:
        complete = Path(partial) / "complete"
        complete.mkdir()
        for file, content in files.items():
            (complete / file).write_bytes(content)
        os.replace(complete, folder)


def check_counts(interactions: Interactions, folder: str | Path) -> None:
    """Raises a UserError where a dataset read from a download in `folder` has other counts than the publisher states."""
    found = (interactions.num_users, interactions.num_items, len(interactions.items))
    expected = COUNTS[interactions.name]
    if found != expected:
        raise UserError(f"{folder}: users, items and interactions are {found}, not {expected}; delete the folder")


def _from_publisher(name: str) -> dict[str, bytes]:
    """the publisher's archive"""
    data = _download(f"{_PUBLISHER}/{name}.zip")
    _check(f"{name}.zip", data, _ARCHIVES[name])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {member: archive.read(f"{name}/{member}") for member in _MEMBERS[name]}


def _from_wheel(name: str) -> dict[str, bytes]:
    """the copy inside the package recbole"""
    with tempfile.TemporaryDirectory() as folder:
        options = ("--no-deps", "--only-binary=:all:", "--quiet", "--dest", folder)
        command = (sys.executable, "-m", "pip", "download", *options, _WHEEL)
        pip = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if pip.returncode:
            raise _Failure(f"pip download {_WHEEL}: {pip.stderr.strip().rpartition(chr(10))[2]}")
        wheel = next(Path(folder).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            files = {file: archive.read(f"recbole/dataset_example/{name}/{file}") for file in _WHEEL_FILES}
    for file, content in files.items():
        _check(file, content, _WHEEL_FILES[file])
    return files


_SOURCES = {"ml-100k": (_from_publisher, _from_wheel), "ml-1m": (_from_publisher,)}


def _download(url: str) -> bytes:
    chunks = []
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
        total = int(response.headers.get("Content-Length", 0)) or None
        with tqdm(total=total, desc=url.rpartition("/")[2], unit="B", unit_scale=True) as progress:
            while chunk := response.read(_CHUNK):
                chunks.append(chunk)
                progress.update(len(chunk))
    return b"".join(chunks)


def _check(file: str, content: bytes, sha256: str) -> None:
    if hashlib.sha256(content).hexdigest() != sha256:
        raise _Failure(f"{file}: its SHA-256 is not {sha256}, so it is incomplete or has been changed")
