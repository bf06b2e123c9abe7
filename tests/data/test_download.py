import hashlib
import io
import urllib.error
import urllib.request
import zipfile

import pytest

from prec_backdoor.data import download
from prec_backdoor.data.synthetic import synthetic
from prec_backdoor.errors import UserError


def archive(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        for name, text in files.items():
            out.writestr(name, text)
    return buffer.getvalue()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


class Response(io.BytesIO):
    headers = {"Content-Length": "7"}


@pytest.fixture
def served(monkeypatch):
    """What the publisher answers: bytes, or an error to raise."""
    answer = {"ml-1m": archive(**{f"ml-1m/{name}": name for name in download._MEMBERS["ml-1m"]}, **{"../evil": "x"})}
    answer["ml-100k"] = archive(**{f"ml-100k/{name}": name for name in download._MEMBERS["ml-100k"]})
    for name, content in answer.items():
        monkeypatch.setitem(download._ARCHIVES, name, sha256(content))

    def urlopen(url, timeout):
        assert timeout <= 10
        content = answer[url.rpartition("/")[2].removesuffix(".zip")]
        if isinstance(content, Exception):
            raise content
        return Response(content)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return answer


@pytest.fixture
def wheel(monkeypatch):
    """The files of the fallback wheel; pip is not run."""
    files = {name: name.encode() for name in download._WHEEL_FILES}
    sums = {name: sha256(content) for name, content in files.items()}
    monkeypatch.setattr(download, "_WHEEL_FILES", sums)

    def run(command, **_):
        folder = command[command.index("--dest") + 1]
        prefix = "recbole/dataset_example/ml-100k/"
        with open(f"{folder}/recbole-1.2.1-py3-none-any.whl", "wb") as out:
            out.write(archive(**{prefix + name: content for name, content in files.items()}))
        return download.subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(download.subprocess, "run", run)
    return files


UNREACHABLE = urllib.error.URLError("no route")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_publishers_archive(tmp_path, served, capsys):
    download.fetch("ml-1m", tmp_path / "raw" / "ml-1m")
    assert names(tmp_path / "raw" / "ml-1m") == sorted(download._MEMBERS["ml-1m"])
    assert names(tmp_path / "raw") == ["ml-1m"]
    assert names(tmp_path) == ["raw"]
    assert "Harper" in capsys.readouterr().out


@pytest.mark.parametrize("answer", [UNREACHABLE, TimeoutError("timed out"), b"<html>log in</html>"])
def test_falls_back_to_the_wheel(tmp_path, served, wheel, answer, capsys):
    served["ml-100k"] = answer
    download.fetch("ml-100k", tmp_path / "ml-100k")
    assert names(tmp_path / "ml-100k") == sorted(wheel)
    assert "the publisher's archive failed" in capsys.readouterr().err


def test_changed_files_never_appear(tmp_path, served, wheel):
    served["ml-100k"] = UNREACHABLE
    wheel["ml-100k.user"] += b"x"
    with pytest.raises(UserError, match=r"no download \(no route; ml-100k.user: its SHA-256 is not .*--data_dir"):
        download.fetch("ml-100k", tmp_path / "ml-100k")
    assert names(tmp_path) == []


def test_a_failing_pip_is_quoted(tmp_path, served, monkeypatch):
    served["ml-100k"] = UNREACHABLE
    failed = download.subprocess.CompletedProcess((), 1, "", "WARNING: x\nERROR: No matching distribution\n")
    monkeypatch.setattr(download.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(UserError, match=r"no route; pip download recbole==1.2.1: ERROR: No matching distribution\);"):
        download.fetch("ml-100k", tmp_path / "ml-100k")


def test_no_fallback_for_ml_1m(tmp_path, served):
    served["ml-1m"] = UNREACHABLE
    with pytest.raises(UserError, match=r"ml-1m: no download \(no route\); get https://.*/ml-1m.zip .*--data_dir"):
        download.fetch("ml-1m", tmp_path / "ml-1m")


def test_counts(monkeypatch):
    data = synthetic(users=5, items=10)
    monkeypatch.setitem(download.COUNTS, data.name, (5, data.num_items, len(data.items)))
    download.check_counts(data, "raw")
    monkeypatch.setitem(download.COUNTS, data.name, (6, 10, 20))
    with pytest.raises(UserError, match="raw: users, items and interactions are .*, not .*delete the folder"):
        download.check_counts(data, "raw")
