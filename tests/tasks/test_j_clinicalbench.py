"""Findings of J-ClinicalBench, on rows made up in its format."""

import json

import pytest

from slm.benchmarks import REGISTRY
from slm.data import sets
from slm.data.sets import Access, SetConfig
from slm.tasks import j_clinicalbench
from slm.tasks.annotated import spans
from slm.tasks.benchmark import Provenance
from slm.tasks.j_clinicalbench import JClinicalBenchConfig

BENCHMARK = REGISTRY["j_clinicalbench"]
STOCK = "架空の胸水は認めません。"
REPORT = ["左の架空葉に大きさ約三センチの丸い架空結節があります。", "右の架空葉には古い炎症のあとと思われる細い索状影を認めます。"]


def row(document, sentence, text, *entities):
    return {"ID": [document, sentence], "text": text, "annotated_sentence": "", "entities": [
        {"name": name, "span": [text.index(name), text.index(name) + len(name)], "type_id": 0, "type": kind}
        for name, kind in entities]}


ROWS = {
    "train_rr": [row(0, 1, STOCK, ("胸水", "d_negative")), row(0, 2, "架空の腫瘤を疑います。", ("腫瘤", "d_suspicious")),
                 row(1, 1, "".join(REPORT), ("索状影", "d_positive")), row(1, 2, "架空期T2です。", ("T2", "d_"))],
    "train_cr": [row(0, 1, "架空病の家族歴がある。", ("架空病", "d_general"))],
    "test_rr": [row(0, 1, STOCK, ("胸水", "d_negative")), row(0, 2, "架空の腹部は造影していないので評価が困難です。"),
                *(row(1, number, text) for number, text in enumerate(REPORT))]}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / j_clinicalbench.FOLDER).mkdir(parents=True)
    for name, rows in ROWS.items():
        (tmp_path / j_clinicalbench.FOLDER / f"{name}.json").write_text("".join(map("{}\n".format, map(json.dumps, rows))))
    return tmp_path


def test_rows_labels_and_documents(folder):
    task, = BENCHMARK.tasks(JClinicalBenchConfig(str(folder)), Provenance(), ()).values()
    assert (task.name, task.kind, task.metrics) == ("findings", "tagging", ("label_f1", "span_f1"))
    assert [(item.id, item.document, item.answer) for item in task.items] == [
        ("test_rr:0", "test_rr-0", ("3-5:negative",)), ("test_rr:1", "test_rr-0", ()),
        ("test_rr:2", "test_rr-1", ()), ("test_rr:3", "test_rr-1", ())]
    learned = j_clinicalbench.training(folder, "P1").items
    assert [item.document for item in learned] == ["train_rr-0", "train_rr-0", "train_rr-1", "train_rr-1", "train_cr-0"]
    assert [item.question[start:end] + " " + label for item in learned for start, end, label in spans(item.answer)] == [
        "胸水 negative", "腫瘤 suspicious", "索状影 positive", "T2 unspecified", "架空病 general"]


def test_p2_leaves_out_test_sentences_and_test_reports(folder):
    """The first training report has one test sentence; the second is a test report cut into other sentences."""
    assert [item.id for item in j_clinicalbench.training(folder, "P2").items] == ["train_rr:1", "train_cr:0"]


def test_what_may_be_learned_under_a_protocol(folder):
    settings = JClinicalBenchConfig(str(folder))
    task, = BENCHMARK.tasks(settings, Provenance(), ()).values()
    assert [len(BENCHMARK.training(settings, task, Provenance(name))) for name in ("P0", "P1", "P2")] == [0, 5, 2]
    learned, = BENCHMARK.training_tasks(settings, "findings", "P2", None, 0)
    assert learned.items == BENCHMARK.training(settings, task, Provenance("P2"))
    with pytest.raises(ValueError, match="no task 'crade' here: its task is findings"):
        BENCHMARK.training_tasks(settings, "crade", "P2", None, 0)
    with pytest.raises(ValueError, match="under the protocols P1 and P2, not CV"):
        BENCHMARK.training_tasks(settings, "findings", "CV", 0, 0)
    assert BENCHMARK.protocol(Provenance("P2", {"jmed_llm": ("crade",)})) == (
        "P2 (has seen JMED-LLM, which shares reports)")


def test_no_texts_are_written_for_it(folder):
    access = Access(j_clinicalbench=JClinicalBenchConfig(str(folder)))
    entries = sets.read(SetConfig("findings", "j_clinicalbench"), access, 0)
    assert entries and all([message["role"] for message in entry.messages] == ["user"] for entry in entries)


def test_it_is_not_downloaded(tmp_path):
    with pytest.raises(ValueError, match="data_dir is empty: the benchmark states no licence"):
        BENCHMARK.prepare(JClinicalBenchConfig())
    with pytest.raises(FileNotFoundError, match=r"test_rr\.json is missing: copy it again"):
        BENCHMARK.tasks(JClinicalBenchConfig(str(tmp_path)), Provenance(), ())


@pytest.mark.parametrize("change", [
    {"ID": 3}, {"ID": [1, 2, 3]}, {"text": None}, {"entities": {}}, {"entities": [{"span": [0, 1], "type": "d_秘密"}]},
    {"entities": [{"span": [0], "type": "d_positive"}]}, {"entities": [{"span": [0, 1], "type": []}]}])
def test_other_rows_are_refused_without_their_text(folder, change):
    path = folder / j_clinicalbench.FOLDER / "test_rr.json"
    path.write_text("".join(json.dumps(one) + "\n" for one in (row(0, 1, "秘密"), row(0, 2, "秘密") | change)))
    with pytest.raises(ValueError, match=r"test_rr\.json, line 2 is no row of J-ClinicalBench") as error:
        BENCHMARK.tasks(JClinicalBenchConfig(str(folder)), Provenance(), ())
    assert "秘密" not in str(error.value)
