from toys import make_interactions

from prec_backdoor.data import recbole
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.summary import listed, one_line


def test_one_line(tmp_path):
    (tmp_path / "shop.inter").write_text("user_id:token\titem_id:token\tdate:token\nu\ta\t2020-01-02\nv\ta\t2020-01-01\n")
    (tmp_path / "shop.user").write_text("user_id:token\tsex:token\ttags:token_seq\nu\tF\tx y\n")
    (tmp_path / "shop.item").write_text("item_id:token\turl:token\na\thttp://x\n")
    data = recbole.read(tmp_path)
    line = (
        "shop: 2 users, 1 items, 2 interactions; profiles of 1 users (sex); order date (dates); category none; "
        "left out tags (a list), url (1 values for 1 items)"
    )
    assert one_line(data) == line
    assert one_line(Interactions.load(data.save(tmp_path / "prepared"))) == line


def test_no_profiles_and_long_lists():
    assert one_line(make_interactions([[1, 2]] * 1200)) == "toy: 1,200 users, 2 items, 2,400 interactions; no profiles"
    assert listed("abcdefgh") == "a, b, c, d, e, f, and 2 more"
