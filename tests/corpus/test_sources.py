import pytest

from slm.corpus import sources
from slm.corpus.sources import CorpusConfig


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "一つ目"}\n{"text": "二つ目"}\n', encoding="utf-8")
    (tmp_path / "a.txt").write_text("三つ目", encoding="utf-8")
    return tmp_path


def test_files_are_found_sorted_and_once(files):
    assert sources.find(f"{files}/*.txt,{files}/*") == [files / "a.txt", files / "a.jsonl"]


def test_a_path_that_exists_is_taken_literally(tmp_path):
    folder = tmp_path / "data[2024],甲*"
    folder.mkdir()
    paths = [folder / name for name in ("a,b.txt", "c?.txt")]
    for path in paths:
        path.write_text("x", encoding="utf-8")
        assert sources.find(str(path)) == [path]
    (folder / "cd.txt").write_text("x", encoding="utf-8")
    assert sources.find(f"{paths[0]},{paths[1]}") == paths
    assert sources.find(f"{folder}/c*.txt,{paths[0]}") == [paths[1], folder / "cd.txt", paths[0]]
    assert sources.paths(sources.SourceConfig("s", f"sample,{paths[0]}")) == [sources.Path("sample"), paths[0]]


def test_links_that_lead_back_are_one_sentence(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/x.txt").write_text("x", encoding="utf-8")
    (tmp_path / "a/b/again").symlink_to(tmp_path / "a/b")
    (tmp_path / "c").symlink_to(tmp_path / "a")
    assert sources.find(f"{tmp_path}/c/*.txt") == [tmp_path / "c/x.txt"]
    with pytest.raises(ValueError, match=r"again leads back to .*a/b by a link, so a pattern with \*\* has no end"):
        sources.find(f"{tmp_path}/**/*.txt")
    (tmp_path / "a/b/again").unlink()
    assert sources.find(f"{tmp_path}/**/*.txt") == [tmp_path / "a/x.txt", tmp_path / "c/x.txt"]


def test_documents_come_in_the_order_of_the_config(files):
    config = CorpusConfig(files=f"{files}/a.txt,{files}/a.jsonl")
    assert [document.text for document in sources.documents(config)] == ["三つ目", "一つ目", "二つ目"]


def test_a_glob_without_files_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*matches '.*nothing\.jsonl'"):
        sources.find(str(tmp_path / "nothing.jsonl"))


def test_fingerprint_follows_the_bytes(files):
    config = CorpusConfig(files=f"{files}/a.jsonl,{files}/a.txt")
    before = sources.fingerprint(config)
    assert before == sources.fingerprint(config)
    (files / "a.txt").write_text("別", encoding="utf-8")
    assert before != sources.fingerprint(config)
    assert sources.fingerprint(CorpusConfig()) != sources.fingerprint(CorpusConfig(seed=1))
