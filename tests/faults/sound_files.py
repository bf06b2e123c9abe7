"""Sound raw files of each format, some kilobytes each: file name -> bytes."""

import random


def _table(rows, separator=",", header=None, encoding="utf-8") -> bytes:
    rows = [*([header] if header else []), *rows]
    return "".join(separator.join(map(str, row)) + "\n" for row in rows).encode(encoding)


def aliec(rng: random.Random) -> dict[str, bytes]:
    profile = ["cms_segid", "cms_group_id", "final_gender_code", "age_level", "pvalue_level", "shopping_level", "occupation"]
    events = [
        (rng.randrange(1, 9), rng.randrange(90, 99), rng.randrange(1, 12), "430548_1007", 0, rng.randrange(2)) for _ in range(30)
    ]
    return {
        "raw_sample.csv": _table(events, header=["user", "time_stamp", "adgroup_id", "pid", "nonclk", "clk"]),
        "ad_feature.csv": _table(
            [(item, item % 4, 1, 1, "", 1.5) for item in range(90, 102)],
            header=["adgroup_id", "cate_id", "campaign_id", "customer", "brand", "price"],
        ),
        "user_profile.csv": _table(
            [(user, 0, 5, rng.randrange(1, 3), rng.randrange(5), "", 3, 0, 3) for user in range(1, 10)],
            header=["userid", *profile, "new_user_class_level "],
        ),
    }


def cikm(rng: random.Random) -> dict[str, bytes]:
    behaviours = ("pv", "fav", "cart", "buy")
    return {
        "user_behavior.csv": _table(
            [(rng.randrange(1, 9), rng.randrange(200, 209), rng.choice(behaviours), rng.randrange(20)) for _ in range(30)]
        ),
        "user.csv": _table([(user, rng.choice("01"), rng.choice(["", 24, 35, 51]), 3) for user in range(1, 10)]),
        "item.csv": _table([(item, item % 5, 1, "") for item in range(200, 210)]),
    }


def ml_100k(rng: random.Random) -> dict[str, bytes]:
    flags = [[int(genre == rng.randrange(19)) for genre in range(19)] for _ in range(10)]
    items = [(item + 1, f"Film é {item}", "01-Jan-1995", "", "http://x", *flags[item]) for item in range(10)]
    events = [
        (rng.randrange(1, 9), rng.randrange(1, 11), rng.randrange(1, 6), rng.randrange(881250949, 881250990)) for _ in range(30)
    ]
    return {
        "u.data": _table(events, "\t"),
        "u.user": _table([(user, 20 + user, "MF"[user % 2], "student", "85711") for user in range(1, 9)], "|"),
        "u.item": _table(items, "|", encoding="latin-1"),
        "u.info": b"8 users\n10 items\n30 ratings\n",
    }


def ml_1m(rng: random.Random) -> dict[str, bytes]:
    return {
        "ratings.dat": _table(
            [(rng.randrange(1, 9), rng.randrange(1, 11), 5, rng.randrange(978300700, 978300800)) for _ in range(30)], "::"
        ),
        "users.dat": _table(
            [(user, "FM"[user % 2], rng.choice([1, 18, 56]), rng.randrange(21), "48067") for user in range(1, 9)], "::"
        ),
        "movies.dat": _table([(item, f"Film é {item}", "Drama|War") for item in range(1, 11)], "::", encoding="latin-1"),
    }


def recbole(rng: random.Random) -> dict[str, bytes]:
    events = [(f"u{rng.randrange(8)}", f"i{rng.randrange(10)}", rng.randrange(40) / 2) for _ in range(30)]
    return {
        "shop.inter": _table(events, "\t", ["user_id:token", "item_id:token", "timestamp:float"]),
        "shop.user": _table(
            [(f"u{user}", 20 + user, rng.choice("MF"), user * 1.5) for user in range(8)],
            "\t",
            ["user_id:token", "age:token", "gender:token", "income:float"],
        ),
        "shop.item": _table(
            [(f"i{item}", f"Film é {item}", rng.choice(["Drama War", "War", ""])) for item in range(9)],
            "\t",
            ["item_id:token", "title:token_seq", "genre:token_seq"],
        ),
    }


def presplit(rng: random.Random) -> dict[str, bytes]:
    header = ["user_id", "item_id", "time", "cate", "age", "gender"]

    def part(users, count):
        return _table(
            [(rng.choice(users), rng.randrange(9), rng.randrange(30), f"c{rng.randrange(3)}", 3, 1) for _ in range(count)],
            header=header,
        )

    provider, downstream = range(10, 15), range(20, 25)
    sizes = {"train": 20, "dev": 5, "cold_train": 8, "cold_dev": 5, "cold_test": 5}
    return {f"{name}.csv": part(downstream if "cold" in name else provider, count) for name, count in sizes.items()}


def recbole_csv(rng: random.Random) -> dict[str, bytes]:
    """Commas, quotes, ids as floats, and dates under another name."""
    events = [
        (
            f"{rng.randrange(1, 9)}.0",
            rng.choice((1, 5)),
            f'"{rng.randrange(10)}, b"',
            f"2020-0{rng.randrange(1, 3)}-{rng.randrange(10, 28)}",
        )
        for _ in range(30)
    ]
    return {
        "shop.inter": _table(events, header=["user_id:token", "stars:float", "item_id:token", "date:token"]),
        "shop.user": _table([(user, rng.choice("MF")) for user in range(1, 9)], header=["user_id:token", "gender:token"]),
        "shop.item": _table([(f'"{item}, b"', '"Drama, War"') for item in range(9)], header=["item_id:token", "genre:token_seq"]),
    }


def benchmark(rng: random.Random) -> dict[str, bytes]:
    """Parts whose rows hold the items before each row's, as many as there are or the last three."""
    header, rows = ["user_id:token", "item_id_list:token_seq", "item_id:token"], {"train": [], "valid": [], "test": []}
    for user in range(8):
        items = rng.sample(range(20), rng.randrange(4, 8))
        most = rng.choice((3, 20))
        for end in range(1, len(items)):
            part = {1: "test", 2: "valid"}.get(len(items) - end, "train")
            rows[part].append((f"u{user}", " ".join(map(str, items[:end][-most:])), items[end]))
    for part in rows.values():
        rng.shuffle(part)
    return {f"shop.{name}.inter": _table(part, "\t", header) for name, part in rows.items()}
