"""Damage to raw files."""

import random

NASTY = [
    *(
        b"",
        b" ",
        b"0",
        b"-1",
        b"+7",
        b"007",
        b"1e5",
        b"1e999",
        b"-0.0",
        b"nan",
        b"inf",
        b"NaN",
        b"9" * 19,
        b"9" * 40,
        b"-" + b"9" * 18,
    ),
    *(
        b"9.9e18",
        b"1_0",
        b"0x10",
        b"1.",
        b".5",
        b"null",
        b"None",
        b"unknown",
        b"true",
        b"\0",
        b"a\0",
        b"\xff",
        b"\xc3\x28",
        b"\r",
    ),
    *(
        "\u0663".encode(),
        "\ud83d".encode(errors="surrogatepass"),
        "é".encode(),
        "\u2028".encode(),
        b"\xa0",
        b"\x85",
        b"\x1c",
        b'"',
    ),
    *(b"'; drop", b"x" * 200, b"x" * 70_000, b"=1+1", b"::", b"|", b",", b"\t", b"\xef\xbb\xbf"),
]


def mutated(files: dict[str, bytes], separator: bytes, rng: random.Random) -> dict[str, bytes]:
    """The files with one of them changed once, twice or three times; now and then it is missing, or nothing is changed."""
    name = rng.choice(list(files))
    data = files[name]
    if rng.random() < 0.01:
        return {other: content for other, content in files.items() if other != name}
    for _ in range(rng.choice((1, 1, 1, 2, 3)) if rng.random() > 0.02 else 0):
        data = rng.choice(MUTATIONS)(data, separator, rng)
    return files | {name: data}


def _flip(data, separator, rng):
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 5) if data else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _insert(data, separator, rng):
    at = rng.randrange(len(data) + 1)
    return data[:at] + (rng.randbytes(rng.randrange(1, 9)) if rng.random() < 0.5 else rng.choice(NASTY)) + data[at:]


def _delete(data, separator, rng):
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.randrange(1, 40) :]


def _truncate(data, separator, rng):
    return data[: rng.randrange(len(data) + 1)]


def _of_lines(change):
    def mutate(data, separator, rng):
        split = data.split(b"\n")
        change(split, rng)
        return b"\n".join(split)

    return mutate


def _repeat(split, rng):
    split.insert(rng.randrange(len(split)), rng.choice(split))


def _swap(split, rng):
    one, other = rng.randrange(len(split)), rng.randrange(len(split))
    split[one], split[other] = split[other], split[one]


def _drop(split, rng):
    del split[rng.randrange(len(split))]


def _nasty_field(data, separator, rng):
    split = data.split(b"\n")
    at = rng.randrange(len(split))
    fields = split[at].split(b"\t" if b"\t" in split[at] else separator)
    fields[rng.randrange(len(fields))] = rng.choice(NASTY)
    split[at] = (b"\t" if b"\t" in split[at] else separator).join(fields)
    return b"\n".join(split)


def _drop_column(data, separator, rng):
    separator = b"\t" if b"\t" in data else separator
    at = rng.randrange(9)
    return b"\n".join(separator.join(f for i, f in enumerate(line.split(separator)) if i != at) for line in data.split(b"\n"))


def _windows(data, separator, rng):
    return data.replace(b"\n", b"\r\n")


def _marked(data, separator, rng):
    return b"\xef\xbb\xbf" + data


def _empty(data, separator, rng):
    return rng.choice((b"", b"\n", b"\0" * 100, b"\n" * 50))


MUTATIONS = [
    *(_flip, _insert, _delete, _truncate, _nasty_field, _nasty_field, _nasty_field),
    *(_of_lines(_repeat), _of_lines(_swap), _of_lines(_drop), _drop_column, _windows, _marked, _empty),
]
