import pytest

from slm.corpus import sources
from slm.corpus.sources import CorpusConfig


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "一つ目"}\n{"text": "二つ目"}\n', encoding="utf-8")
    (tmp_path / "a.txt").write_text("三つ目", encoding="utf-8")
    return tmp_path


def test_files_are_found_sorted_and_once(files):
    assert sources.find([f"{files}/*.txt", f"{files}/*"]) == [files / "a.txt", files / "a.jsonl"]


def test_documents_come_in_the_order_of_the_config(files):
    config = CorpusConfig(files=f"{files}/a.txt,{files}/a.jsonl")
    assert [document.text for document in sources.documents(config)] == ["三つ目", "一つ目", "二つ目"]


def test_a_glob_without_files_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*matches '.*nothing\.jsonl'"):
        sources.find([str(tmp_path / "nothing.jsonl")])


def test_fingerprint_follows_the_bytes(files):
    config = CorpusConfig(files=f"{files}/a.jsonl,{files}/a.txt")
    before = sources.fingerprint(config)
    assert before == sources.fingerprint(config)
    (files / "a.txt").write_text("別", encoding="utf-8")
    assert before != sources.fingerprint(config)
    assert sources.fingerprint(CorpusConfig()) != sources.fingerprint(CorpusConfig(seed=1))
