"""The zip archive that torch.save writes: one top folder of entries that are stored as they are, mapped instead of read."""

import io
import mmap
import os
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

from prec_backdoor.errors import UserError

MAX_DIRECTORY_BYTES = 1 << 22  # of the list of entries; a checkpoint of a recommender has a few hundred
MAX_READ_BYTES = 1 << 25  # of an entry that is no tensor
MAGIC = b"PK\x03\x04"
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the number that torch < 1.6 writes first
_RESAVE = "in an environment with torch, run torch.save(torch.load(path, map_location='cpu', weights_only=True), new_path)"
_HEADER = struct.Struct("<4s5H3I2H")  # signature, version, flags, compression, time, date, checksum, 2 sizes, 2 lengths


class _ShortReads(io.FileIO):
    """A file that refuses to read more at once than the list of entries may have."""

    def read(self, size: int = -1) -> bytes:
        if size > MAX_DIRECTORY_BYTES:
            raise UserError(f"a zip archive with a list of entries of {size} bytes; no torch file has that many entries")
        return super().read(size)


class Entry(NamedTuple):
    """Where the list of entries says that a file is: offset of its header, size, CRC-32, and the offset of what follows it."""

    name: bytes
    header: int
    size: int
    checksum: int
    limit: int


class Archive:
    """Entries of a torch file by their names below the top folder.

    Raises:
      UserError: this is no archive of torch.save, or its list of entries declares what cannot be.
    """

    def __init__(self, path: Path):
        size = _regular_size(path)
        with _ShortReads(path) as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
            _check_magic(self._map[:64])
            try:
                with zipfile.ZipFile(file) as archive:
                    found, directory = archive.infolist(), archive.start_dir
            except UserError:
                raise
            except Exception as error:  # whatever zipfile meets in a damaged archive
                raise UserError(f"damaged zip archive ({' '.join(str(error).split())[:80]}); copy the file again") from error
        self.entries = _checked(found, directory)

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def map(self, name: str) -> memoryview:
        """Returns the bytes of an entry as read-only memory, mapped from the file, after comparing their checksum.

        Raises:
          UserError: there is no such entry, or it is damaged.
        """
        if name not in self.entries:
            raise UserError(f"the archive has no entry {name[:80]!r}; the file is incomplete, copy it again")
        entry = self.entries[name]
        header = self._map[entry.header : entry.header + _HEADER.size]
        if len(header) < _HEADER.size:
            raise UserError(f"the archive's entry {name[:80]!r} lies outside the file; copy it again")
        signature, _, flags, method, *_, name_length, extra_length = _HEADER.unpack(header)
        start = entry.header + _HEADER.size + name_length + extra_length
        named = self._map[entry.header + _HEADER.size : entry.header + _HEADER.size + len(entry.name)]
        sound = signature == MAGIC and method == zipfile.ZIP_STORED and not flags & 1 and name_length == len(entry.name)
        if not sound or named != entry.name or start + entry.size > entry.limit:
            raise UserError(f"the archive's entry {name[:80]!r} is not what the list of entries declares; copy the file again")
        content = memoryview(self._map)[start : start + entry.size]
        if zlib.crc32(content) != entry.checksum:
            raise UserError(
                f"the archive's entry {name[:80]!r} does not have its checksum: the file is damaged, or torch wrote it without "
                "checksums; copy it again, or save it again with torch.serialization.set_crc32_options(True)"
            )
        page = start // mmap.PAGESIZE * mmap.PAGESIZE
        if hasattr(mmap, "MADV_DONTNEED") and entry.size:
            self._map.madvise(mmap.MADV_DONTNEED, page, start + entry.size - page)  # gives the memory back until it is read
        return content

    def read(self, name: str) -> bytes:
        """Returns the bytes of an entry that is no tensor."""
        if name in self.entries and self.entries[name].size > MAX_READ_BYTES:
            raise UserError(f"the archive's entry {name[:80]!r} has {self.entries[name].size} bytes, over {MAX_READ_BYTES}")
        return bytes(self.map(name))


def _regular_size(path: Path) -> int:
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise UserError(f"the file cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if not stat.S_ISREG(status.st_mode):
        raise UserError("this is no file; give the checkpoint file itself")
    return status.st_size


def _check_magic(start: bytes) -> None:
    if start.startswith(MAGIC):
        return
    if start.startswith(LEGACY):
        raise UserError(f"a torch file of the format before torch 1.6, which is not read; {_RESAVE}")
    if start[:1] == b"\x80" and start[1:2] <= b"\x05":
        raise UserError("a plain pickle, which is not read; save the state dict with torch.save(model.state_dict(), new_path)")
    raise UserError("no torch file: it does not begin as a zip archive does; give the file that torch.save wrote")


def _checked(found: list[zipfile.ZipInfo], directory: int) -> dict[str, Entry]:
    """Returns the entries by their names below the top folder; they lie one after another, before the list of entries."""
    entries, tops = {}, set()
    found = sorted(found, key=lambda info: info.header_offset)
    for info, limit in zip(found, [*(after.header_offset for after in found[1:]), directory], strict=True):
        name = info.orig_filename
        parts = name.split("/")
        if len(parts) < 2 or any(part in ("", ".", "..") for part in parts) or not name.isprintable() or set(name) & set("\\:"):
            raise UserError(f"the archive has an entry {name[:80]!r}, a path that no torch file has")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.compress_size != info.file_size:
            raise UserError(f"the archive's entry {name[:80]!r} is compressed or encrypted; torch stores its entries; {_RESAVE}")
        if info.header_offset < 0 or info.header_offset + _HEADER.size + info.file_size > limit:
            raise UserError(f"the archive's entry {name[:80]!r} declares {info.file_size} bytes, more than there are")
        tops.add(parts[0])
        below = name.partition("/")[2]
        if below in entries:
            raise UserError(f"the archive has two entries {name[:80]!r}")
        raw = name.encode("utf-8" if info.flag_bits & 0x800 else "cp437")
        entries[below] = Entry(raw, info.header_offset, info.file_size, info.CRC, limit)
    if len(tops) > 1:
        raise UserError(f"the archive has {len(tops)} top folders, {', '.join(sorted(tops))[:80]}; a torch file has one")
    return entries
