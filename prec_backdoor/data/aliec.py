"""AliEC, "Ad Display/Click Data on Taobao.com": the publisher's raw_sample.csv, ad_feature.csv and user_profile.csv."""

from collections import Counter
from pathlib import Path

import polars as pl

from prec_backdoor.data import checks, lines, times
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.tables import to_interactions
from prec_backdoor.errors import UserError

SOURCE = "'Ad Display/Click Data on Taobao.com' at https://tianchi.aliyun.com/dataset/56, with a login"
SAMPLE = ("user", "time_stamp", "adgroup_id", "pid", "nonclk", "clk")
FEATURE = ("adgroup_id", "cate_id", "campaign_id", "customer", "brand", "price")
PROFILE = (
    *("userid", "cms_segid", "cms_group_id", "final_gender_code", "age_level", "pvalue_level", "shopping_level"),
    *("occupation", "new_user_class_level"),
)


def read(folder: str | Path, skipped: Counter | None = None) -> Interactions:
    """Returns the clicks (clk=1) on ads as interactions: attributes are all of user_profile.csv, category is cate_id.

    The files are read in batches of lines, and memory holds the clicks alone. A blank value is unknown.

    Args:
      skipped: see `lines.File`.

    Raises:
      UserError: a missing or malformed file (with its line), another header, an ad or user listed twice, no click at all.
    """
    sample, feature, profile = lines.files(folder, ("raw_sample.csv", "ad_feature.csv", "user_profile.csv"), skipped)
    profiles = pl.concat(
        checks.whole_numbers(batch, profile, "userid") for batch in lines.read_batches(profile, ",", header=PROFILE)
    )
    profiles = checks.distinct_ids(profiles, profile, "userid")
    ads = pl.concat(
        checks.whole_numbers(batch, feature, "adgroup_id").select(lines.LINE, "adgroup_id", "cate_id")
        for batch in lines.read_batches(feature, ",", header=FEATURE)
    )
    ads = checks.distinct_ids(ads, feature, "adgroup_id")

    rows, clicks = 0, []
    for batch in lines.read_batches(sample, ",", header=SAMPLE):
        batch = checks.whole_numbers(batch, sample, "user", "adgroup_id")
        batch = checks.finite(batch, sample, "time_stamp")
        batch = checks.one_of(batch, sample, "clk", ("0", "1"))
        rows += batch.height
        clicks.append(batch.filter(clk="1").select("user", item="adgroup_id", time="time_stamp"))
    events = pl.concat(clicks)
    if events.is_empty():
        raise UserError(f"{sample}: none of its {rows} rows is a click (clk=1); get the file again")
    return to_interactions(
        "aliec",
        events.with_columns(times.exact(events["time"])),
        profiles.drop(lines.LINE).rename({"userid": "user"}),
        ads.select(item="adgroup_id", category="cate_id", title=pl.lit("")),
        {"rows read": rows, "rows kept": events.height, "rows without a click": rows - events.height},
        {"counted": "clk = 1", "order": "time_stamp", "category": "cate_id"},
    )
