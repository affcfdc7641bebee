import itertools
import json
import shutil

import numpy as np
import pytest

from slm.corpus import dataset
from slm.data import stream
from slm.tokenization import segmented


def texts(products, split):
    return {row["id"].decode(): row["text"].decode() for row in dataset.read(products / "corpus", split)}


def test_segmented_shards_hold_every_document(products):
    for split in dataset.SPLITS:
        read = {document.id: "".join(document.morphemes)
                for shard in segmented.shards(products / "segmented", split) for document in segmented.read(shard)}
        assert read == texts(products, split)


def test_the_stream_is_every_document_with_its_end(products, words):
    for split in dataset.SPLITS:
        streams = stream.streams(products / "stream", split)
        assert set(streams) == {f"sample-{kind}" for kind in ("prose", "textbook", "case", "nursing", "exam")}
        found = []
        for tokens in streams.values():
            bounds = [*tokens.starts, len(tokens)]
            for start, stop in itertools.pairwise(bounds):
                ids = tokens[start:stop]
                assert ids.dtype == np.uint16 and ids[-1] == words.end_of_document
                assert words.end_of_document not in ids[:-1]
                found.append(words.decode(ids))
            assert tokens.bytes == sum(len(text.encode()) for text in found[-len(tokens.starts):])
        assert sorted(found) == sorted(texts(products, split).values())


@pytest.mark.parametrize("start, length", [(0, 10), (4090, 12), (0, 10**9), (8191, 1), (100, 0)])
def test_any_span_can_be_read(products, start, length):
    tokens = stream.streams(products / "stream", "train")["sample-textbook"]
    whole = np.concatenate([tokens[i:i + 1000] for i in range(0, len(tokens), 1000)])
    assert len(whole) == len(tokens) > 8192
    np.testing.assert_array_equal(tokens[start:start + length], whole[start:start + length])


def test_several_processes_and_a_killed_run_make_the_same_bytes(products, tmp_path, monkeypatch):
    monkeypatch.setattr(segmented, "_SHARD_BYTES", 100_000)
    dictionary = products / "user.dic"
    segmented.write(products / "corpus", dictionary, tmp_path / "one", processes=1)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    # As a kill leaves it: no manifest, a shard missing, another half-written under its own name aside.
    (tmp_path / "two" / segmented.MANIFEST_FILE).unlink()
    shard = sorted((tmp_path / "two").glob("train-*"))[1]
    shard.rename(shard.with_name(f"{shard.name}.123.writing"))
    segmented.write(products / "corpus", dictionary, tmp_path / "two", processes=2)
    (tmp_path / "two" / f"{shard.name}.123.writing").unlink()
    stream.write(tmp_path / "one", products / "tokenizer", tmp_path / "stream_one", processes=1)
    stream.write(tmp_path / "two", products / "tokenizer", tmp_path / "stream_two", processes=2)
    for a, b in (("one", "two"), ("stream_one", "stream_two")):
        files = {path.relative_to(tmp_path / a): path.read_bytes() for path in (tmp_path / a).rglob("*") if path.is_file()}
        assert files == {path.relative_to(tmp_path / b): path.read_bytes()
                         for path in (tmp_path / b).rglob("*") if path.is_file()}
        assert len(files) > 4


def test_a_truncated_shard_is_refused(products, tmp_path):
    shutil.copytree(products / "stream", tmp_path / "stream")
    path = next((tmp_path / "stream" / "train" / "sample-case").glob("*[0-9].array_record"))
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(ValueError, match=f"its manifest says {len(content)} bytes, on disk is {len(content) - 100}"):
        stream.streams(tmp_path / "stream", "train")
    path.unlink()
    with pytest.raises(ValueError, match="on disk is no such file"):
        stream.streams(tmp_path / "stream", "train")


def test_shards_of_another_dictionary_are_refused(products, tmp_path):
    segmented.write(products / "corpus", None, tmp_path / "segmented", processes=1)
    with pytest.raises(ValueError, match="was segmented with the dictionary"):
        stream.write(tmp_path / "segmented", products / "tokenizer", tmp_path / "stream", processes=1)


def test_sources_with_odd_names_keep_apart():
    slugs = {stream._slug(name) for name in ("a/b", "a b", "a-b", "日本", "語")}
    assert len(slugs) == 5
    assert all(slug.replace("-", "").isalnum() for slug in slugs)
    assert json.dumps(stream._slug("sample-case")) == '"sample-case"'
