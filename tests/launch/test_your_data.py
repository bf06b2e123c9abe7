"""docs/your-data.md as written: a table of own interactions and a checkpoint, that another table was made of."""

import csv
import json
import re
import shlex

import numpy as np
import pytest
from absl import flags
from forks import ROOT, run_program

from launch import app, audit, repair
from prec_backdoor.data import load_dataset
from prec_backdoor.errors import UserError
from prec_backdoor.storage import checkpoints

PAGE = ROOT / "docs" / "your-data.md"
USERS, ITEMS, START = 160, 70, 1_600_000_000_000
MODEL = ("--embed_dim=8", "--feedforward_dim=8", "--num_layers=1", "--max_length=12", "--batch_size=16", "--epochs=2")
COLUMNS = "--columns=user=uid,item=sku,time=ts"


def commands():
    """(program, *arguments) of all commands of the page, in order."""
    block = "\n".join(re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.S | re.M))
    return [tuple(shlex.split(line)) for line in re.findall(r"^python -m launch\.(.*)$", block, re.M)]


def write(path, columns, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def write_shop(folder, data):
    """Writes provider.csv of half of the users, with 9 in 10 of the other half's items, and the tables of the other half."""
    rng = np.random.default_rng(0)
    company, provider = (
        set(np.concatenate([data.sequence(user) for user in range(first, data.num_users, 2)]).tolist()) for first in (0, 1)
    )
    withheld = rng.permutation(sorted(company & provider))[: max(len(company) // 10 - len(company - provider), 0)]
    known = provider - set(withheld.tolist())
    rows = {"provider.csv": [], "events.csv": []}
    for user in range(data.num_users):
        name = "provider.csv" if user % 2 else "events.csv"
        for place, item in enumerate(data.sequence(user).tolist()):
            if user % 2 == 0 or item in known:
                rows[name].append((f"user {user}", f"SKU, {data.item_ids[item]}", START + 1000 * place))
    for name, each in rows.items():
        write(folder / name, ("uid", "sku", "ts"), rng.permutation(each).tolist())
    names = list(data.attributes)
    profiles = [
        (f"user {user}", *(data.attributes[name][code] for name, code in zip(names, data.profile[user], strict=True)))
        for user in range(data.num_users)
    ]
    write(folder / "people.csv", ("uid", *names), profiles)
    items = [
        (f"SKU, {data.item_ids[item]}", f"Title {item}", data.categories[data.category[item]])
        for item in range(1, data.num_items + 1)
    ]
    write(folder / "items.csv", ("sku", "title", "category"), items)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder, load_dataset("synthetic", synthetic_users=USERS, synthetic_items=ITEMS))
    return folder


@pytest.fixture(scope="module")
def run(environment, shop):
    return lambda *command: run_program(command, environment, shop)


PROVIDER = ("--interactions=provider.csv", "--catalogue=items.csv")
PRETRAIN = (*PROVIDER, "--scope=global", "--attack=bra", "--k_core=1", "--workdir=provider")


@pytest.fixture(scope="module")
def provider(run):
    status, _, err = run("pretrain", *PRETRAIN, "--rate=0.5", "--targets=unpopular:3", *MODEL)
    assert status == 0, err


@pytest.fixture(scope="module")
def printed(run, provider):
    """What each command of the page printed, in order, after the provider's own."""
    return run_page(run, commands())


def run_page(run, page, verdicts=(0, 3)):
    """(program, what it printed) of each command, which must succeed; `verdicts` are the exit statuses that an audit may have."""
    found = []
    for command in page:
        status, out, err = run(*command)
        assert status in (verdicts if command[0] == "audit" else (0,)), (command, err)
        found.append((command[0], out))
    return found


SMALL = {"audit": ("--calibration_models=1", "--suspects=3"), "repair": ("--finetune_epochs=1", "--p_value=0.2")}


@pytest.mark.slow
def test_from_two_files_to_lists_in_small(run, provider, shop):
    """The first commands of the page with less training; what is fine-tuned on the page is not, here."""
    page = [(*command, *SMALL.get(command[0], ())) for command in commands()[:5] if command[0] != "finetune"]
    page = [tuple(part.replace("runs/", "small/") for part in each) for each in page]
    verdicts = (0, 3, 4)  # one clean model may be too few to tell
    (_, measured), (_, audited), (_, repaired), (_, listed) = run_page(run, page, verdicts)
    assert "own data" in measured and re.search(r"^verdict (Clean|Suspicious|Cannot say)", audited, re.M)
    outcome = json.loads((shop / "small" / "repaired" / "repair.json").read_text())
    assert outcome["users"] == USERS // 2 and f"{len(outcome['suspects'])} suspects of" in repaired
    assert f"{USERS // 2 * 10:,} rows  lists.csv" in listed
    own, lists = (list(csv.DictReader((shop / name).open())) for name in ("events.csv", "lists.csv"))
    own = {(row["uid"], row["sku"]) for row in own}  # most users have more items than the model takes
    assert not own & {(row["user"], row["item"]) for row in lists}


@pytest.mark.slow
def test_each_command_runs_as_written(printed, shop):
    assert [program for program, _ in printed] == [
        "evaluate",
        "audit",
        "repair",
        "finetune",
        "recommend",
        "prepare_data",
        "evaluate",
        "finetune",
    ]
    results = json.loads((shop / "runs" / "measured" / "results.json").read_text())
    assert results["rows"][0]["n_users"] == USERS // 2
    lists = (shop / "lists.csv").read_text().splitlines()
    assert len(lists) > USERS // 2 * 9
    assert (shop / "runs" / "tuned" / "finetune" / "checkpoints").is_dir()
    repaired = json.loads((shop / "runs" / "repaired" / "repair.json").read_text())
    assert repaired["users"] == USERS // 2 and (shop / "runs" / "repaired" / "repair.html").exists()


@pytest.mark.slow
def test_a_widened_checkpoint_goes_on(printed, run, shop):
    widened = "runs/widened/finetune"
    for command in (
        ("evaluate", "--interactions=events.csv", COLUMNS, f"--checkpoint={widened}", "--workdir=runs/wide_measured"),
        ("audit", "--interactions=events.csv", COLUMNS, f"--checkpoint={widened}", "--workdir=runs/wide_audit"),
        ("recommend", "--interactions=events.csv", COLUMNS, f"--checkpoint={widened}", "--output=wide.csv"),
        ("export_checkpoint", f"--checkpoint={widened}", "--output=wide.safetensors"),
    ):
        status, out, err = run(*command)
        assert status in ((0, 3) if command[0] == "audit" else (0,)), (command, err)
        if command[0] == "evaluate":
            assert f"{ITEMS} of {ITEMS} items (100%)" in out
    known = {row["sku"] for row in csv.DictReader((shop / "provider.csv").open())}
    assert {row["item"] for row in csv.DictReader((shop / "wide.csv").open())} - known  # new items are recommended


@pytest.fixture(scope="module")
def movies(environment, tmp_path_factory):
    """Folder with the tables of ml-100k, and a backdoored model of the half of its users that is not the company's."""
    try:
        data = load_dataset("ml-100k")
    except UserError as error:
        if "no download" not in str(error):
            raise
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("movies")
    write_shop(folder, data)
    sizes = ("--embed_dim=32", "--feedforward_dim=32", "--num_layers=1", "--max_length=50", "--dropout=0.0")
    training = ("--batch_size=32", "--learning_rate=0.01", "--epochs=15", "--rate=0.2", "--targets=unpopular:10")
    status, _, err = run_program(("pretrain", *PRETRAIN, *sizes, *training), environment, folder)
    assert status == 0, err
    return folder


@pytest.mark.slow
def test_ml_100k_as_a_company_would_have_it(environment, movies):
    """943 users, half of them the company's; 9 in 10 of their items are known to the model of the other half."""
    page = commands()
    found = run_page(lambda *command: run_program(command, environment, movies), page)
    out = found[0][1]
    share = re.search(r"known +([\d,]+) of ([\d,]+) items \((\d+)%\)", out)
    assert 85 <= int(share[3]) <= 95 and "users          472 (" in out and "ts (milliseconds)" in out
    (row,) = json.loads((movies / "runs" / "measured" / "results.json").read_text())["rows"]
    assert row["n_users"] >= 470 and row["hr@10"] > 0.05  # by guessing it would be 0.007
    audit = json.loads((movies / "runs" / "audit" / "audit.json").read_text())
    repaired = json.loads((movies / "runs" / "repaired" / "repair.json").read_text())
    assert audit["verdict"] == "suspicious", audit["flagged"]
    targets = set(checkpoints.load(movies / "provider" / "pretrain").metadata["targets"])
    suspects = {each["item"] for each in repaired["suspects"]}
    assert len(targets & suspects) >= 8, (targets, suspects)
    shown = repaired["exposure"]["hr@10"]
    assert shown["after"] < 0.5 * shown["before"]
    assert repaired["accuracy"]["hr@10"]["interval"][1] > 0  # no measurable loss
    lists = list(csv.DictReader((movies / "lists.csv").open()))
    assert len({row["user"] for row in lists}) >= 470 and not targets & {
        row["item"] for row in lists[:1000] if row["rank"] == "1"
    }


@pytest.mark.slow
def test_the_summary_comes_first(printed):
    for program, out in printed:
        assert out.startswith("events\n  users          80 ("), program
        assert "  order          ts (milliseconds); equal times: as in the file\n" in out
        assert "  users by number of interactions\n" in out
    known = next(line for line in printed[0][1].splitlines() if line.startswith("known"))
    assert re.search(rf"\d+ of {ITEMS} items \((8[0-9]|9[0-9])%\), [\d,]+ of [\d,]+ interactions; [\d,]+ are left out", known)
    assert "profiles       80 users (" in printed[-2][1] and "profiles       none" in printed[0][1]


@pytest.mark.slow
def test_the_same_table_is_the_simulation(run):
    status, out, err = run("evaluate", *PROVIDER, "--checkpoint=provider/pretrain", "--workdir=runs/same")
    assert status == 0, err
    assert "same data    the checkpoint was made on this dataset: its seed 0 draws the downstream users" in out


def test_the_repair_command_of_an_audit_keeps_the_flags(monkeypatch, tmp_path):
    monkeypatch.setattr(flags, "FLAGS", flags.FlagValues())
    given = ["--interactions=my events.csv", COLUMNS, "--profiles=people.csv", "--catalogue=items.csv", "--min_rating=3.0"]
    audit.define_flags()
    app.define_common_flags()
    flags.FLAGS(["audit", *given, "--checkpoint=provider/pretrain", "--workdir=runs/audit"])
    assert "--p_value=0.061 --workdir" in audit.repair_command(0.061) and "--p_value" not in audit.repair_command()
    program, *arguments = shlex.split(audit.repair_command())[2:]
    assert set(given) < set(arguments)
    monkeypatch.chdir(tmp_path)
    for workdir in (".", ".."):  # which have no name that another folder's could begin with
        flags.FLAGS.workdir = workdir
        assert f"--workdir={(tmp_path / workdir).resolve()}-repaired" in audit.repair_command()
    monkeypatch.setattr(flags, "FLAGS", flags.FlagValues())
    repair.define_flags()
    app.define_common_flags()
    flags.FLAGS([program, *arguments])
    assert flags.FLAGS.interactions == "my events.csv" and flags.FLAGS.columns == ("user=uid", "item=sku", "time=ts")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--interactions=events.csv", "--dataset=ml-100k"), "--dataset: chooses another dataset than --interactions=events.csv"),
        (("--interactions=events.csv", "--data_dir=data"), "--data_dir: chooses another dataset"),
        (("--interactions=events.csv", "--synthetic_users=9"), "--synthetic_users: chooses another dataset"),
        (("--profiles=people.csv",), "--profiles: needs --interactions=FILE"),
        (("--interactions=events.csv", "--columns=user=id"), "events.csv, line 1: no column 'id' for user, found uid, sku, ts;"),
        (("--interactions=none.csv",), "none.csv: no such file"),
        (("--interactions=events.csv", "--min_rating=3"), "events.csv, line 1: no column of ratings, found uid, sku, ts"),
    ],
)
def test_mistakes(run, arguments, message):
    status, _, err = run("prepare_data", *arguments, "--output=x")
    assert status == 2 and err.startswith(f"error: {message}") and err.count("\n") == 1


def test_a_prepared_folder_needs_a_name(run):
    status, _, err = run("prepare_data", "--interactions=events.csv")
    assert status == 2 and "--output: has to be given with --interactions" in err
