"""The text the project brings: deterministic, a prefix of any larger corpus, marked, and true to its tables."""

import itertools
import random
import re

import pytest

from slm import sample
from slm.sample import corpus as sample_corpus
from slm.sample import items as sample_items
from slm.sample import notes as sample_notes
from slm.sample import phrases
from slm.sample import tables as sample_tables

MEGABYTES = 2.0


@pytest.fixture(scope="module")
def corpus() -> list[dict[str, str]]:
    return list(sample.documents(MEGABYTES, seed=0))


@pytest.fixture(scope="module")
def items() -> list[sample.ExamItem]:
    return [sample.exam_item(random.Random(seed)) for seed in range(2000)]


def strings(node) -> list[str]:
    if isinstance(node, str):
        return [node]
    if isinstance(node, dict):
        node = node.values()
    return [text for child in node for text in strings(child)] if hasattr(node, "__iter__") else []


def test_same_seed_same_documents_other_seed_others(corpus):
    assert list(sample.documents(MEGABYTES, seed=0)) == corpus
    other = {document["text"] for document in sample.documents(MEGABYTES, seed=1) if "prose" not in document["source"]}
    assert not other & {document["text"] for document in corpus}


def test_larger_corpus_starts_with_the_smaller(corpus):
    for megabytes in (0.01, 0.3, 1.0):
        small = list(sample.documents(megabytes, seed=0))
        assert 0 < len(small) < len(corpus) and corpus[:len(small)] == small


def test_a_document_does_not_depend_on_those_before_it(corpus):
    generated = [document for document in corpus if document["source"] != "sample-prose"]
    assert generated[777] == sample.generate(777, seed=0)


@pytest.mark.parametrize("megabytes", [0.05, 0.5, MEGABYTES])
def test_budget_is_reached_by_the_last_document(megabytes):
    sizes = [len(document["text"].encode()) for document in sample.documents(megabytes, seed=3)]
    assert sum(sizes[:-1]) < megabytes * 1e6 <= sum(sizes)


def test_no_budget_no_document():
    assert list(sample.documents(0.0, seed=0)) == []


def test_texts_and_ids_are_all_different(corpus):
    for key in ("text", "id"):
        assert len({document[key] for document in corpus}) == len(corpus)


def test_prose_comes_first_then_the_kinds_by_turns(corpus):
    sources = [document["source"].removeprefix("sample-") for document in corpus]
    prose = sources.count("prose")
    assert set(sources[:prose]) <= {"prose"}
    assert sources[prose:] == list(itertools.islice(itertools.cycle(sample_corpus.ORDER), len(sources) - prose))
    assert set(sample_corpus.ORDER) == set(sample_corpus.WRITERS)


def test_documents_have_their_fields(corpus):
    for document in corpus:
        assert list(document) == ["id", "text", "source", "license", "url"]
        assert (document["license"], document["url"]) == ("Apache-2.0", "")
        assert document["id"].startswith(document["source"])
    assert any(re.fullmatch(r"sample-case-\d{6}", document["id"]) for document in corpus)


def test_generated_documents_say_that_they_are_synthetic(corpus):
    for document in corpus:
        if document["source"] != "sample-prose":
            first, *_, last = document["text"].split("\n")
            assert "合成" in first + last, document["id"]


def test_text_is_clean(corpus):
    for document in corpus:
        text = document["text"]
        assert text.encode().decode() == text  # a lone surrogate would not encode
        assert "\ufffd" not in text and "\r" not in text and text == text.strip()
        if document["source"] != "sample-prose":
            assert not re.search(r"[{}\[\]|<>]|。。|、。|、、|None", text), (document["id"], text)
            assert 300 <= len(text) <= 1500, (document["id"], len(text))


def test_templates_are_well_formed():
    every = strings(phrases.lists())
    assert len(every) > 700
    for text in every:
        depths = list(itertools.accumulate({"[": 1, "]": -1}.get(c, 0) for c in text))
        assert not depths or (set(depths) <= {0, 1} and depths[-1] == 0), f"alternatives nested or open: {text}"
        assert all(part.count("/") == 1 for part in re.findall(r"<([^>]*)>", text)), f"style without two forms: {text}"


def test_every_template_can_be_filled():
    """Each phrase of a chapter has its values in some row: none is dead."""
    for prefix, draw, table in (("disease_sections", sample_notes.disease_values, "diseases"),
                                ("drug_sections", sample_notes.drug_values, "drugs")):
        keys = {key for row in sample_tables.rows(table) for key in draw(random.Random(0), row)}
        chapters = [rows for name, rows in phrases.lists().items() if name.startswith(prefix)]
        assert len(chapters) >= 18
        for text in strings(chapters):
            assert phrases.parse(text)[1] <= keys, text


def test_tables_resolve():
    tables = sample_tables.tables()
    for disease in tables["diseases"].values():
        assert set(disease["symptoms"]) <= tables["symptoms"].keys(), disease["name"]
        assert set(disease["drugs"]) <= tables["drugs"].keys(), disease["name"]
        tests = {item.split(":")[0] for item in disease["examinations"]}
        assert tests <= tables["examinations"].keys(), disease["name"]
        assert {item.split(":")[0] for item in disease["labs"]} <= sample_tables.labs().keys(), disease["name"]
        assert {item.split(":")[0] for item in disease["vitals"]} <= sample_notes.USUAL_VITALS.keys(), disease["name"]
        assert disease["part"] in tables["body_parts"], disease["name"]
        assert re.fullmatch(r"[A-Z]\d\d", disease["icd10"]), disease["name"]
        assert disease["sex"] in "男女両" and disease["onset"] in sample_notes.TEMPO, disease["name"]
        assert disease["setting"] in ("入院", "外来"), disease["name"]
        assert disease["outcome"] in ("治癒", "寛解", "慢性", "進行"), disease["name"]
    for symptom in tables["symptoms"].values():
        assert symptom["part"] in tables["body_parts"] and symptom["kind"] in ("自覚", "他覚"), symptom["name"]
    for table in tables.values():
        for row in table.values():
            assert None not in row and None not in row.values(), f"{row['name']}: a wrong number of columns"
    least = {"diseases": 60, "drugs": 60, "symptoms": 50, "examinations": 40, "body_parts": 40}
    assert all(len(tables[name]) >= count for name, count in least.items())


def test_ranges_go_from_low_to_high():
    for disease in sample_tables.rows("diseases"):
        for item in [*disease["labs"], *disease["vitals"], f"ages:{disease['ages']}"]:
            low, high = sample_tables.bounds(item.split(":")[1].rstrip("!"))
            assert low < high, (disease["name"], item)
    for lab in sample_tables.labs().values():
        for sex in "男女":
            low, high = map(float, sample_tables.reference(lab, sex))
            assert low < high, lab["name"]


def test_terms_cover_the_tables():
    terms = sample.terms()
    assert terms.keys() == {"disease", "drug", "symptom", "examination", "body_part"}
    for kind, surfaces in terms.items():
        assert len(surfaces) == len(set(surfaces)) >= 40 and all(surfaces), kind
    assert {"市中肺炎", "心不全"} <= set(terms["disease"]) and "CRP" in terms["examination"]


def test_laboratory_goes_the_way_of_the_disease():
    pneumonia, anemia = (sample_tables.tables()["diseases"][name] for name in ("市中肺炎", "鉄欠乏性貧血"))
    for seed in range(50):
        values = {value["lab"]: value for value in sample_notes.laboratory(random.Random(seed), pneumonia, "男", 70)}
        white, crp = values["WBC"]["before"], values["CRP"]["before"]
        assert int(white.removesuffix("/μL").replace(",", "")) > 8600 and float(crp.removesuffix(" mg/dL")) > 0.14
        assert values["CRP"]["change"] == "低下" and float(values["CRP"]["after"].split()[0]) < float(crp.split()[0])
        hemoglobin = sample_notes.laboratory(random.Random(seed), anemia, "女", 30)[0]
        assert float(hemoglobin["before"].split()[0]) < 11.6 and hemoglobin["change"] == "上昇"


def test_exam_items_have_five_choices_and_give_their_answer(items):
    for item in items:
        assert len(item.choices) == len(set(item.choices)) == 5 and 0 <= item.answer < 5
        assert f"「{item.choices[item.answer]}」" in item.explanation
        assert item.question.endswith("。")
    assert {item.answer for item in items} == set(range(5))


def test_exam_treatment_has_one_right_choice(items):
    tables, seen = sample_tables.tables(), 0
    for item in items:
        asked = item.question
        diseases = [name for name in tables["diseases"] if f"{name}の" in asked or f"{name}と診断" in asked]
        if set(item.choices) <= tables["drugs"].keys() and diseases:
            disease = tables["diseases"][max(diseases, key=len)]
            assert [choice in disease["drugs"] for choice in item.choices].index(True) == item.answer
            assert sum(choice in disease["drugs"] for choice in item.choices) == 1, item.question
            seen += 1
    assert seen > 50


def test_exam_definition_and_class_items_are_right_by_the_tables(items):
    tables, seen = sample_tables.tables(), set()
    facts = {("definition", row["definition"]): name for name, row in tables["diseases"].items()}
    facts |= {("mechanism", row["mechanism"]): name for name, row in tables["drugs"].items()}
    for item in items:
        for kind in ("definition", "mechanism"):
            owners = [facts.get((kind, choice)) for choice in item.choices]
            if all(owners):
                assert owners[item.answer] in item.question and sum(owner in item.question for owner in owners) == 1
                seen.add(kind)
    assert seen == {"definition", "mechanism"}


@pytest.mark.parametrize("kind", sample_items.KINDS)
def test_every_kind_always_finds_four_wrong_choices(kind):
    for seed in range(400):
        values, (right, _), wrong = sample_items.KINDS[kind](random.Random(seed))
        assert len({text for text, _ in wrong} - {right}) >= 4
        assert phrases.known(phrases.phrases(f"stems.{kind}"), values)


def test_exam_document_marks_the_right_letter():
    for seed in range(200):
        item, text = sample.exam_item(random.Random(seed)), sample_items.exam(random.Random(seed))
        letter = re.search(r"^(?:正解[:　]|【正解】|答え:|［正答］)([a-e])$", text, re.M).group(1)
        assert item.choices["abcde".index(letter)] == item.choices[item.answer]
