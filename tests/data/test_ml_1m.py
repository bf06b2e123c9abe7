import pytest

from prec_backdoor.data import ml_1m
from prec_backdoor.errors import UserError

RATINGS = "1::10::5::978300760\n1::9::3::978300760\n2::9::4::978302109\n"
USERS = "1::F::1::10::48067\n2::M::56::16::70072\n"
MOVIES = "9::Misérables, Les: the film (1995)::Animation|Children's|Comedy\n10::Heat (1995)::Action\n11::x::Drama\n"


def write(folder, **changes):
    files = {"ratings": RATINGS, "users": USERS, "movies": MOVIES} | changes
    for name, text in files.items():
        (folder / f"{name}.dat").write_text(text, encoding="latin-1")
    return folder


def test_reads_the_original_files(tmp_path):
    data = ml_1m.read(write(tmp_path))
    assert data.name == "ml-1m"
    assert [data.sequence(user).tolist() for user in range(2)] == [[2, 1], [1]]
    assert data.attributes == {
        "age": ("unknown", "0-17", "56-99"),
        "gender": ("unknown", "F", "M"),
        "occupation": ("unknown", "K-12 student", "self-employed"),
    }
    assert data.profile.tolist() == [[1, 1, 1], [2, 2, 2]]
    assert data.categories == ("unknown", "Action", "Animation")
    assert data.titles[1] == "Misérables, Les: the film (1995)"


def test_published_codes():
    assert len(ml_1m.OCCUPATIONS) == 21
    assert ml_1m.OCCUPATIONS[4] == "college/grad student"
    assert ml_1m.OCCUPATIONS[20] == "writer"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ratings": RATINGS + "1::9::3\n"}, r"ratings\.dat, line 4: expected 4 fields separated by '::'"),
        ({"ratings": RATINGS + "1::9::3::soon\n"}, r"ratings\.dat, line 4: expected a number as time"),
        ({"ratings": RATINGS + "3::9::3::1\n"}, r"ratings\.dat, line 4: expected one of the user ids in users\.dat"),
        ({"ratings": RATINGS + "1::8::3::1\n"}, r"ratings\.dat, line 4: expected one of the item ids in movies\.dat"),
        ({"ratings": RATINGS[:-3]}, r"ratings\.dat, line 3: the file looks truncated"),
        ({"ratings": ""}, r"ratings\.dat: the file is empty"),
        ({"users": USERS + "3::M::57::1::1\n"}, r"users\.dat, line 3: expected an age code of 1, 18, .*found '57'"),
        ({"users": USERS + "3::M::56::21::1\n"}, r"users\.dat, line 3: expected an occupation code .*found '21'"),
        ({"users": USERS + "1::M::56::2::1\n"}, r"users\.dat, line 3: expected each user once"),
        ({"movies": MOVIES + "9::x::y\n"}, r"movies\.dat, line 4: expected each item once"),
    ],
)
def test_complaints(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        ml_1m.read(write(tmp_path, **changes))
