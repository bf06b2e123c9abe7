import pytest
from toys import make_interactions

from prec_backdoor.data.groups import parse_group
from prec_backdoor.errors import UserError


@pytest.fixture
def interactions():
    return make_interactions(
        [[1]] * 6,
        attributes={
            "age": ("10-19", "20-29", "30-39", "56"),
            "job": ("artist", "student", "self-employed"),
            "team": ("sales, marketing", "a=b", 'the "A"', "back\\slash", "c, d"),
        },
        profile=[[0, 1, 1], [1, 2, 2], [2, 2, 3], [3, 3, 4], [4, 2, 5], [2, 0, 0]],
    )


@pytest.mark.parametrize(
    ("expression", "members"),
    [
        ("job=student", [1, 2, 4]),
        ("job=self-employed", [3]),
        ("job=unknown", [5]),
        ("age=20-29", [2, 5]),
        ("age=20-39", [2, 3, 5]),
        ("age=20-35", [2, 5]),  # 30-39 does not lie within
        ("age=50-60", [4]),
        ("age=56", [4]),
        ("job=student, age=10-39", [1, 2]),
        ("age=10-39,age=20-60", [2, 3, 5]),
        ('team="sales, marketing"', [0]),
        (r"team=sales\, marketing", [0]),
        ('job=artist, team = "sales, marketing"', [0]),
        ("team=a=b", [1]),
        ('team="a=b"', [1]),
        ('team=the "A"', [2]),
        (r"team=back\slash", [3]),
        (r"team=back\\slash", [3]),
        ('job="student",team="c, d"', [4]),
    ],
)
def test_members(interactions, expression, members):
    assert parse_group(interactions, expression).nonzero()[0].tolist() == members


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("student", "'student' is not attribute=value"),
        ("job=", "'job=' is not attribute=value"),
        ("", "'' is not attribute=value"),
        ("job=student,", "'' is not attribute=value"),
        ("colour=red", "no profile attribute 'colour'; it has age, job, team"),
        ("team=sales, marketing", "' ?marketing' is not attribute=value.*a value with a comma stands in double quotes"),
        ('team="sales, marketing', "the double quote in .* is not closed"),
        ("team=x", 'it has unknown, "sales, marketing", a=b'),
        ("job=baker", "job has no value 'baker' in toy; it has unknown, artist, student, self-employed"),
        ("age=21-28", "age has no value '21-28' in toy; it has unknown, 10-19, 20-29, 30-39, 56"),
        ("age=39-10", "age has no value '39-10'"),
        ("job=artist,age=56", "no user of toy meets job=artist,age=56"),
    ],
)
def test_complaints(interactions, expression, message):
    with pytest.raises(UserError, match=message):
        parse_group(interactions, expression)


def test_a_dataset_without_profiles():
    with pytest.raises(UserError, match="no profile attribute 'age'; it has none: this dataset has no profiles"):
        parse_group(make_interactions([[1]]), "age=20-29")
