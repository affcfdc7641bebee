"""A product whose bytes change needs another VERSION, or the old one is reused.

When a test fails, raise the version that it names and replace its entry of EXPECTED. A product is built from those
above it in EXPECTED: start with the first failure. If only a library has changed, whose version is part of the
product's key, replace the digest alone.
"""

import dataclasses
import hashlib
import json

import pytest
from array_record.python import array_record_module

from slm import sample
from slm.corpus import dataset, lexicon, pipeline
from slm.corpus.sources import CorpusConfig
from slm.data import stream
from slm.products import build
from slm.text import filters, morphology, privacy
from slm.text import normalize as normalization
from slm.tokenization import segmented, vocabulary
from slm.tokenization.vocabulary import VocabularyConfig

# Product → (where its versions are, the versions, digest of the product).
EXPECTED = {
    "corpus": ("VERSION of slm/corpus/dataset.py or slm/text/normalize.py", [3, 2], "c494d4536021424f"),
    "curated corpus": ("VERSION of slm/corpus/pipeline.py, or of slm/text/filters.py, slm/text/privacy.py or "
                       "slm/corpus/lexicon.py", [3, 1, 2, 2], "c07b3049fb24690e"),
    "dictionary": ("DICTIONARY_VERSION of slm/text/morphology.py", [2], "446b48074b027de6"),
    "segmented": ("VERSION of slm/tokenization/segmented.py", [1], "cf03fd37706b3416"),
    "tokenizer": ("VERSION of slm/tokenization/vocabulary.py", [3], "9908a268c80b8f70"),
    "stream": ("VERSION of slm/data/stream.py", [3], "829fbb9353ba1c13"),
}
VERSIONS = {
    "corpus": [dataset.VERSION, normalization.VERSION],
    "curated corpus": [pipeline.VERSION, filters.VERSION, privacy.VERSION, lexicon.VERSION],
    "dictionary": [morphology.DICTIONARY_VERSION], "segmented": [segmented.VERSION],
    "tokenizer": [vocabulary.VERSION], "stream": [stream.VERSION],
}


@pytest.fixture(scope="module")
def products(tmp_path_factory):
    """{product: its folder}, each built by its builder in an empty folder."""
    folder = tmp_path_factory.mktemp("products")
    prose = [document["text"] for document in sample.prose()]
    texts = [*prose, prose[0], prose[1] + "以上である。", "ＡＢＣ ½錠 10⁶/μL", "", "今すぐ購入。" * 50,
             "患者氏名:山田太郎様、電話 03-5321-1111、みどりの丘療養所に通院中。" + prose[2]]
    rows = [{"id": f"{i}", "text": text, "source": ("notes", "articles")[i % 2]} for i, text in enumerate(texts)]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "diseases.txt").write_text("糖尿病性網膜症\n市中肺炎\n心不全\n", encoding="utf-8")
    (folder / "facilities.txt").write_text("みどりの丘療養所\n", encoding="utf-8")
    plain = CorpusConfig(files="texts.jsonl", validation_share=0.2)
    curated = dataclasses.replace(plain, curated=True, facilities="facilities.txt", workers=1)
    tokenizer = VocabularyConfig(size=2500, lexicons="diseases.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        paths = {"corpus": build.corpus(plain), "curated corpus": build.corpus(curated),
                 "dictionary": build.dictionary(tokenizer).parent, "segmented": build.segmented(tokenizer, plain),
                 "tokenizer": build.tokenizer(tokenizer, plain), "stream": build.stream(tokenizer, plain)}
        return {name: path.absolute() for name, path in paths.items()}


def digest(folder):
    """A hash of a corpus' documents; of other products, of every file, and of the records of ArrayRecord files."""
    if (folder / dataset.REPORT_FILE).exists():
        rows = [sorted(row.items()) for split in dataset.SPLITS for row in dataset.read(folder, split)]
        return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]
    parts = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        parts.update(path.relative_to(folder).as_posix().encode())
        if path.suffix == ".array_record":
            parts.update(b"\0".join(array_record_module.ArrayRecordReader(str(path)).read_all()))
        else:
            parts.update(path.read_bytes())
    return parts.hexdigest()[:16]


@pytest.mark.parametrize("name", EXPECTED)
def test_changed_bytes_have_another_version(name, products):
    where, *expected = EXPECTED[name]
    actual = [VERSIONS[name], digest(products[name])]
    assert actual == expected, (f"{name}: versions and digest are {actual}, expected {expected}: if the bytes changed, "
                                f"raise {where}, then write both into EXPECTED")
