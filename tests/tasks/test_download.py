import csv
import dataclasses
import hashlib
import os
import subprocess
import sys

import pytest

from slm.tasks import download

OPTIONS = [f"段階{letter}の説明\nS1: 例{letter}\nS2: 例," for letter in "ABCDEF"]
PAIRS = [("熱がある。", "発熱を認める。", 5), ("咳は無い ", "咳が出る", 0), ("脈は整,雑音なし", "脈は整である", 4),
         ("「腹痛」がある", '"腹痛"を訴える', 2), ("歩ける", "走れる", 1), ("眠れない", "不眠である", 3)]


def git(folder, *arguments):
    environment = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e@localhost", *arguments], cwd=folder,
                          env=environment, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "m")
    return git(folder, "rev-parse", "HEAD")


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def point(monkeypatch, name, **changes):
    monkeypatch.setitem(download.REPOSITORIES, name, dataclasses.replace(download.REPOSITORIES[name], **changes))


@pytest.fixture
def origin(tmp_path, monkeypatch):
    """A repository whose second-last commit is the one to fetch; the checksums are of that."""
    folder = tmp_path / "origin" / "JMED-LLM"
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet")
    files = {"datasets/crade.csv": b"question,answer\nq,A\n", "datasets/all/CRADE.csv": "質問\r\n二\n".encode()}
    revision = commit(folder, files)
    commit(folder, {"datasets/crade.csv": b"question,answer\nanother,B\n", "README.md": b"newer\n"})
    point(monkeypatch, "jmed_llm", url=f"file://{folder}", revision=revision)
    monkeypatch.setitem(download.CHECKSUMS, "jmed_llm", {name: sha256(content) for name, content in files.items()}
                        | {download.REBUILT: sha256(b"rebuilt")})
    return folder


@pytest.mark.parametrize("partial, digits", [("false", 40), ("true", 8)])
def test_the_revision_is_fetched_though_the_head_is_newer(tmp_path, origin, monkeypatch, partial, digits):
    git(origin, "config", "uploadpack.allowFilter", partial)
    git(origin, "config", "uploadpack.allowAnySHA1InWant", partial)
    point(monkeypatch, "jmed_llm", revision=download.REPOSITORIES["jmed_llm"].revision[:digits])
    folder = download.jmed_llm(tmp_path / "products")
    assert folder == tmp_path / "products" / f"JMED-LLM-{download.REPOSITORIES['jmed_llm'].revision[:8]}"
    assert (folder / "datasets/crade.csv").read_bytes() == b"question,answer\nq,A\n"
    assert (folder / "datasets/all/CRADE.csv").read_bytes() == "質問\r\n二\n".encode()
    assert not (folder / "README.md").exists()
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_checkout_is_made_once(tmp_path, origin, monkeypatch):
    folder = download.jmed_llm(tmp_path / "products")
    monkeypatch.setattr(download, "_git", None)
    assert download.jmed_llm(tmp_path / "products") == folder


def test_line_ends_stay_whatever_the_user_has_set(tmp_path, origin, monkeypatch):
    (tmp_path / "gitconfig").write_text("[core]\n\tautocrlf = true\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    assert b"\r" not in (download.jmed_llm(tmp_path / "products") / "datasets/crade.csv").read_bytes()


@pytest.mark.parametrize("command", ["clone", "checkout"])
def test_killed_half_way_the_same_call_goes_on(tmp_path, origin, monkeypatch, command):
    real = download._git

    def killed(*arguments):
        done = real(*arguments)
        if command in arguments:
            raise KeyboardInterrupt
        return done

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(download, "_git", killed)
        download.jmed_llm(tmp_path / "products")
    assert [path.suffix for path in (tmp_path / "products").iterdir()] == [".writing"]
    assert (download.jmed_llm(tmp_path / "products") / "datasets/crade.csv").exists()
    assert len(list((tmp_path / "products").iterdir())) == 1


def test_another_content_than_was_studied_is_refused_with_both_hashes(tmp_path, origin, monkeypatch):
    files = download.CHECKSUMS["jmed_llm"]
    monkeypatch.setitem(files, "datasets/crade.csv", sha256(b"studied"))
    with pytest.raises(ValueError) as error:
        download.jmed_llm(tmp_path / "products")
    for part in ("datasets/crade.csv", sha256(b"studied"), sha256(b"question,answer\nq,A\n"), "remove"):
        assert part in str(error.value)
    assert [path.suffix for path in (tmp_path / "products").iterdir()] == [".writing"]


def test_a_checkout_that_was_changed_later_is_refused(tmp_path, origin):
    folder = download.jmed_llm(tmp_path / "products")
    (folder / "datasets/crade.csv").write_bytes(b"changed")
    with pytest.raises(ValueError, match=rf"crade.csv has the sha256 {sha256(b'changed')}"):
        download.jmed_llm(tmp_path / "products")
    (folder / "datasets/crade.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"crade.csv is missing: remove .*JMED-LLM"):
        download.jmed_llm(tmp_path / "products")


def test_a_tag_does_not_pass_for_a_shortened_hash(tmp_path, origin, monkeypatch):
    revision = download.REPOSITORIES["jmed_llm"].revision[:8]
    git(origin, "tag", revision, "HEAD")
    point(monkeypatch, "jmed_llm", revision=revision)
    with pytest.raises(ValueError, match=f"gave the revision {git(origin, 'rev-parse', 'HEAD')}, not {revision}"):
        download.jmed_llm(tmp_path / "products")


@pytest.mark.parametrize("name, fetch, owner", [("jmed_llm", download.jmed_llm, "sociocom/JMED-LLM"),
                                                ("igakuqa", download.igakuqa, "jungokasai/IgakuQA")])
def test_without_a_network_the_message_says_what_to_do(tmp_path, monkeypatch, name, fetch, owner):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert download.REPOSITORIES[name].url == f"https://github.com/{owner}"
    url = f"https://127.0.0.1:9/{owner}"
    point(monkeypatch, name, url=url)
    with pytest.raises(ConnectionError) as error:
        fetch(tmp_path / "products")
    for part in (" 127.0.0.1 (", f"`git clone {url} FOLDER && git -C FOLDER checkout ",
                 download.REPOSITORIES[name].revision, f"--config.{name}.data_dir=FOLDER"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_revision_is_named(tmp_path, origin, monkeypatch):
    point(monkeypatch, "jmed_llm", revision="0" * 40)
    with pytest.raises(ConnectionError, match=rf"could not be fetched at {'0' * 40} from this machine"):
        download.jmed_llm(tmp_path / "products")


def test_a_server_that_never_answers_is_given_up(tmp_path, origin, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT", 1e-3)
    with pytest.raises(ConnectionError, match=r"no end after 0\.001 s"):
        download.jmed_llm(tmp_path / "products")


def test_without_git_the_message_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"git is not on PATH.*install git, or .*--config.igakuqa.data_dir=FOLDER"):
        download.igakuqa(tmp_path / "products")


def test_the_files_nothing_vouches_for_are_named(tmp_path, origin):
    folder = download.jmed_llm(tmp_path / "products")
    assert download.check(folder, "jmed_llm") == []
    (folder / "datasets/crade.csv").write_bytes(b"changed")
    (folder / "datasets/more.csv").write_bytes(b"more")
    assert download.check(folder, "jmed_llm") == ["datasets/crade.csv", "datasets/more.csv"]
    (folder / download.REBUILT).write_bytes(b"rebuilt")
    assert download.check(folder, "jmed_llm") == ["datasets/crade.csv", "datasets/more.csv"]
    (folder / download.REBUILT).write_bytes(b"another")
    assert download.check(folder, "jmed_llm")[0] == download.REBUILT


def test_git_vouches_for_files_without_a_checksum_and_a_bare_copy_does_not(tmp_path, monkeypatch):
    origin, plain = tmp_path / "IgakuQA", tmp_path / "plain"
    origin.mkdir()
    git(origin, "init", "--quiet")
    files = {"data/2018/112-A.jsonl": b"{}\n", "data/2022/116-F.jsonl": b"{}{}\n",
             "data/2022/116-F_metadata.jsonl": b"[]\n", "data/2022/116-F_translate.jsonl": b"not read\n"}
    point(monkeypatch, "igakuqa", url=f"file://{origin}", revision=commit(origin, files))
    monkeypatch.setitem(download.CHECKSUMS, "igakuqa", {"data/2018/112-A.jsonl": sha256(b"{}\n")})
    folder = download.igakuqa(tmp_path / "products")
    assert download.check(folder, "igakuqa") == []
    for name, content in files.items():
        (plain / name).parent.mkdir(parents=True, exist_ok=True)
        (plain / name).write_bytes(content)
    assert download.check(plain, "igakuqa") == ["data/2022/116-F.jsonl", "data/2022/116-F_metadata.jsonl"]
    (folder / "data/2022/116-F.jsonl").write_bytes(b"changed\n")
    assert download.check(folder, "igakuqa") == ["data/2022/116-F.jsonl"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert download.check(folder, "igakuqa") == ["data/2022/116-F.jsonl", "data/2022/116-F_metadata.jsonl"]


def test_the_table_has_the_files_that_are_read():
    assert len(download.CHECKSUMS["jmed_llm"]) == 8 + 8
    exams = {f"data/{year}/{year - 1906}-{block}{kind}.jsonl" for year in (2018, 2019, 2020) for block in "ABCDEF"
             for kind in ("", "_metadata")}
    assert set(download.CHECKSUMS["igakuqa"]) == exams | {"scripts/prompts/prompt.jsonl"}
    assert all(len(found) == 64 for files in download.CHECKSUMS.values() for found in files.values())


# JCSTS --------------------------------------------------------------------------------------------------------

def question(pair):
    return f"以下の2つの文の意味の類似度は？\nS1: {pair[0]}\nS2: {pair[1]}"


def write_test(path, pairs=PAIRS[:2], options=lambda index: OPTIONS):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["question", *download._OPTIONS, "answer"])
        writer.writerows([question(pair), *options(index), "FEDCBA"[pair[2]]] for index, pair in enumerate(pairs))
    return path


def xlsx(path, rows):
    import openpyxl
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    with open(path, "wb") as file:
        book.save(file)


def xls(path, rows):
    xlwt = pytest.importorskip("xlwt")
    pytest.importorskip("xlrd")
    book = xlwt.Workbook()
    sheet = book.add_sheet("s")
    for index, row in enumerate(rows):
        for column, cell in enumerate(row):
            sheet.write(index, column, cell)
    book.save(str(path))


@pytest.fixture
def sheet(tmp_path, monkeypatch):
    """(write, rows) → a repository with these rows as its sheet."""
    def make(rows, write=xlsx):
        folder = tmp_path / "Japanese-Clinical-STS"
        folder.mkdir()
        git(folder, "init", "--quiet")
        write(folder / "dataset_JA_Clinical_STS.xls", rows)
        point(monkeypatch, "jcsts", url=f"file://{folder}", revision=commit(folder, {}))
    return make


@pytest.mark.parametrize("write", [xlsx, xls])
@pytest.mark.parametrize("rows", [
    PAIRS,
    [("sentence1", "sentence2", "score"), *PAIRS],
    [(index + 100, score, first, second) for index, (first, second, score) in enumerate(PAIRS)],
    [(first, second, str(score)) for first, second, score in PAIRS],
    [*PAIRS, ("", "", "")]], ids=["plain", "names", "columns", "strings", "empty"])
def test_jcsts_is_rebuilt_from_the_sheet(tmp_path, sheet, capsys, rows, write):
    sheet(rows, write)
    path = download.jcsts(tmp_path / "products", write_test(tmp_path / "jcsts.csv"))
    assert path.name == "JCSTS.csv"
    assert path.read_bytes() == write_test(tmp_path / "wanted.csv", PAIRS).read_bytes()
    with open(path, encoding="utf-8", newline="") as file:
        assert [row["answer"] for row in csv.DictReader(file)] == list("AFBDEC")
    assert sha256(path.read_bytes()) in capsys.readouterr().err  # not the file that was studied: said
    assert [other.name for other in path.parent.iterdir()] == ["JCSTS.csv"]


def test_jcsts_is_made_once_for_each_set_of_options(tmp_path, sheet, monkeypatch):
    sheet(PAIRS)
    first = download.jcsts(tmp_path / "products", write_test(tmp_path / "jcsts.csv"))
    other = download.jcsts(tmp_path / "products", write_test(tmp_path / "other.csv", options=lambda _: list("abcdef")))
    assert first != other and b"\na,b,c" not in first.read_bytes() and b",a,b,c,d,e,f,A\n" in other.read_bytes()
    monkeypatch.setattr(download, "_git", None)
    assert download.jcsts(tmp_path / "products", tmp_path / "jcsts.csv") == first


@pytest.mark.parametrize("rows, message", [
    ([pair[:2] for pair in PAIRS], "2 columns hold texts and 0 hold scores"),
    ([(*pair, "注") for pair in PAIRS], "3 columns hold texts and 1 hold scores"),
    ([(*pair, pair[2]) for pair in PAIRS], "2 columns hold texts and 2 hold scores"),
    ([(*pair[:2], pair[2] + 0.5) for pair in PAIRS], "2 columns hold texts and 0 hold scores")])
def test_a_sheet_that_does_not_show_its_pairs_is_refused(tmp_path, sheet, rows, message):
    sheet(rows)
    with pytest.raises(ValueError, match=rf"of its 6 rows, {message}.*put a file datasets/all/JCSTS.csv into"):
        download.jcsts(tmp_path / "products", write_test(tmp_path / "jcsts.csv"))


@pytest.mark.parametrize("pairs", [[PAIRS[0], ("胸痛", "背部痛", 1)], [(*PAIRS[0][:2], 4)], [(*PAIRS[0][1::-1], 5)]],
                         ids=["other", "score", "order"])
def test_a_test_row_that_is_not_in_the_sheet_is_named(tmp_path, sheet, pairs):
    sheet(PAIRS)
    with pytest.raises(ValueError, match=rf"row {len(pairs) - 1} of .*jcsts.csv is not among the 6 pairs"):
        download.jcsts(tmp_path / "products", write_test(tmp_path / "jcsts.csv", pairs))
    assert not list((tmp_path / "products").glob("JCSTS-*"))


def test_options_that_differ_between_rows_are_refused(tmp_path):
    path = write_test(tmp_path / "jcsts.csv", options=lambda index: [*OPTIONS[:5], f"{index}"])
    with pytest.raises(ValueError, match=r"jcsts.csv, row 1 has other options than row 0"):
        download.jcsts(tmp_path / "products", path)


def test_a_table_of_another_task_is_refused(tmp_path):
    (tmp_path / "jcsts.csv").write_text("question,answer\nq,A\n")
    with pytest.raises(ValueError, match=r"jcsts.csv has no optionA, optionB, .*give JMED-LLM's datasets/jcsts.csv"):
        download.jcsts(tmp_path / "products", tmp_path / "jcsts.csv")
    with pytest.raises(FileNotFoundError, match=r"none.csv is missing: give the path of"):
        download.jcsts(tmp_path / "products", tmp_path / "none.csv")


def test_what_is_no_sheet_is_refused(tmp_path, sheet):
    sheet(PAIRS, lambda path, rows: path.write_text("<html>"))
    with pytest.raises(ValueError, match=r"is no Excel sheet \(it begins with b'<htm'\): remove .*Japanese-Clinical-STS"):
        download.jcsts(tmp_path / "products", write_test(tmp_path / "jcsts.csv"))


def test_a_reader_that_is_not_installed_is_named(tmp_path, sheet, monkeypatch):
    sheet(PAIRS, lambda path, rows: path.write_bytes(b"\xd0\xcf\x11\xe0"))
    monkeypatch.setitem(sys.modules, "xlrd", None)
    with pytest.raises(ModuleNotFoundError, match=r"read by xlrd, which is not installed: run `pip install xlrd`"):
        download.jcsts(tmp_path / "products", write_test(tmp_path / "jcsts.csv"))


def test_without_a_network_the_place_for_a_copy_of_the_sheet_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    point(monkeypatch, "jcsts", url="https://127.0.0.1:9/Japanese-Clinical-STS")
    with pytest.raises(ConnectionError) as error:
        download.jcsts(tmp_path / "products", write_test(tmp_path / "jcsts.csv"))
    assert str(error.value).endswith(f"copy FOLDER to {tmp_path}/products/Japanese-Clinical-STS-23ae0790")
