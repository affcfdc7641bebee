"""The corpus pipeline, whole: every document accounted for, any number of processes the same, killed runs go on."""

import dataclasses
import fcntl
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow
import pytest

from slm import sample
from slm.corpus import curation_report, data_card, dataset, duplicates, pipeline, sources, steps
from slm.corpus.recipes import NCVC
from slm.corpus.sources import CorpusConfig, SourceConfig

PAGES = [document for document in sample.documents(0.25, seed=5) if document["source"] != "sample-prose"]
PROSE = [document["text"] for document in sample.prose()]
ITEM = "42歳の男性。健康診断で尿酸値の上昇を指摘された。飲酒歴はビール1日1,000 mLを20年間。この患者の生活指導として適切でないのはどれか。"
SPAM = "無修正の巨乳動画。人妻と熟女の乱交。デリヘル情報はこちら。"


def rows():
    for i, document in enumerate(PAGES):
        yield {"id": f"page{i}", "text": document["text"], "source": "notes", "license": "CC-BY-4.0"}
    for i, text in enumerate(PROSE[:20]):
        yield {"id": f"prose{i}", "text": text, "source": "wikipedia", "license": "CC-BY-SA-4.0"}
    yield {"id": "copy", "text": PAGES[3]["text"], "source": "notes", "license": "CC-BY-4.0"}
    # The longer of two that are nearly the same stays.
    yield {"id": "longer", "text": PROSE[1] + "以上が要点である。", "source": "wikipedia", "license": "CC-BY-SA-4.0"}
    yield {"id": "spam", "text": SPAM, "source": "notes", "license": "CC-BY-4.0"}
    yield {"id": "exam", "text": f"問題を一つ紹介する。{ITEM}考えてみてほしい。", "source": "notes", "license": "CC-BY-4.0"}
    yield {"id": "empty", "text": "", "source": "notes", "license": "CC-BY-4.0"}
    yield {"id": "broken", "text": "肺炎\ud800の治療", "source": "notes", "license": "CC-BY-4.0"}
    yield {"id": "nc", "text": PROSE[22], "source": "notes", "license": "CC BY-NC 4.0"}
    yield {"id": "private", "text": "患者氏名:山田太郎様、電話 03-5321-1111。" + PROSE[23], "source": "notes",
           "license": "CC-BY-4.0"}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    every = list(rows())
    for name, part in (("a", every[::2]), ("b", every[1::2])):
        lines = (json.dumps(row) for row in part)
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "bench.jsonl").write_text(json.dumps({"problem_text": ITEM, "answer": "c"}) + "\n", encoding="utf-8")
    return CorpusConfig(files=f"{folder}/[ab].jsonl", curated=True, forbidden_licenses="NC", validation_share=0.1,
                        benchmarks=f"{folder}/bench.jsonl", workers=1, excerpts=True)


def made(config, folder, monkeypatch, part_bytes=60_000, **arguments):
    monkeypatch.setattr(pipeline, "_PART_BYTES", part_bytes)
    folder.mkdir()
    return pipeline.run(config, folder, **arguments)


@pytest.fixture(scope="module")
def corpus(config, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("made") / "corpus"
        return folder, made(config, folder, patch)


def content(folder):
    """Every document of each shard, in order; the bytes of a record differ as protobuf orders its fields."""
    shards = sorted(path.name for path in folder.glob("corpus-*"))
    return shards, {split: [{**row, "quality": str(row["quality"])} for row in dataset.read(folder, split)]
                    for split in dataset.SPLITS}


def test_every_document_is_accounted_for(corpus):
    folder, report = corpus
    assert curation_report.reconciles(report)
    assert report["documents_in"] == len(list(rows()))
    assert report["documents_out"] == report["documents_train"] + report["documents_validation"]
    assert report["documents_out"] == sum(len(dataset.read(folder, split)) for split in dataset.SPLITS)
    planted = ("duplicate", "contaminated", "license_nc", "empty", "broken_characters", "words")
    assert {reason: report["dropped"][reason] for reason in planted} == dict.fromkeys(planted, 1)
    [benchmark] = report["contaminated"]
    assert benchmark.endswith("/bench.jsonl")
    hit, = report["contaminated_documents"]
    assert (hit["source"], hit["benchmark"]) == ("notes", benchmark)
    name, line = hit["dropped"].split(", line ")
    assert json.loads((folder / name).read_text(encoding="utf-8").splitlines()[int(line) - 1])["id"] == "exam"
    counted = [step for step in report["steps"] if "documents_in" in step]
    assert all(after["documents_in"] == before["documents_out"] for before, after in itertools.pairwise(counted))
    assert {"documents_in", "documents_out", "characters_in", "characters_out", "dropped", "masked", "contaminated",
            "by_source", "seconds"} <= set(json.loads((folder / "report.json").read_text(encoding="utf-8")))


def test_what_the_dataset_holds(corpus):
    folder, report = corpus
    documents = {row["id"].decode(): row for split in dataset.SPLITS for row in dataset.read(folder, split)}
    assert "longer" in documents and "prose1" not in documents  # the best of a cluster
    assert ("page3" in documents) != ("copy" in documents)  # the first of the two files holds one, the second the other
    private = documents["private"]["text"].decode()
    assert private.startswith("患者氏名:[氏名]様、電話 [電話番号]。")
    assert (report["masked"]["name"], report["masked"]["phone"]) == (1, 1)
    assert documents["prose0"]["license"] == b"CC-BY-SA-4.0"
    assert np.isnan(documents["private"]["quality"])
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith("corpus-")) == [
        "dataset_info.json", "dropped", "features.json", "report.json"]


def test_examples_are_redacted_and_few(corpus):
    _, report = corpus
    assert report["examples"] and all(len(examples) <= 5 for examples in report["examples"].values())
    assert "03-5321-1111" not in json.dumps(report, ensure_ascii=False)


def test_two_processes_make_the_same_dataset_as_one(corpus, config, tmp_path, monkeypatch):
    report = made(dataclasses.replace(config, workers=2), tmp_path / "two", monkeypatch)
    assert content(tmp_path / "two") == content(corpus[0])
    assert {key: report[key] for key in ("dropped", "by_source")} == {
        key: corpus[1][key] for key in ("dropped", "by_source")}


def test_a_killed_run_goes_on_and_ends_the_same(corpus, config, tmp_path, monkeypatch):
    """The first run dies by kill -9 in the middle of the first stage."""
    monkeypatch.setattr(pipeline, "_PART_BYTES", 60_000)
    code = (
        "import sys; from pathlib import Path; from slm.corpus import pipeline, steps; from slm.corpus.sources import "
        "CorpusConfig\nimport os, signal\npipeline._PART_BYTES = 60_000\nkeep = steps.Keep.run\n"
        "def run(self, data, rank=0, world_size=1):\n"
        "    if rank == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    yield from keep(self, data, rank, world_size)\n"
        f"steps.Keep.run = run\npipeline.run(CorpusConfig(**{vars(config)!r}), Path({str(tmp_path / 'made')!r}))")
    (tmp_path / "made").mkdir()
    # Its own session: datatrove's manager process outlives a killed run, and would hold a pipe open.
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, start_new_session=True)
    assert process.wait(60) == -signal.SIGKILL
    os.killpg(process.pid, signal.SIGKILL)
    finished = sorted(path.name for path in (tmp_path / "made" / "stages" / "curate" / "completions").iterdir())
    assert finished == ["00000", "00001"]
    assert not list((tmp_path / "made").glob("corpus-*"))  # nothing that looks whole
    before = (tmp_path / "made" / "kept" / "00000.jsonl").stat().st_mtime_ns
    seen = []
    monkeypatch.setattr(pipeline.shutil, "rmtree", lambda path, **_: seen.append(path))  # keep the stages to look at
    pipeline.run(config, tmp_path / "made")
    assert (tmp_path / "made" / "kept" / "00000.jsonl").stat().st_mtime_ns == before
    assert content(tmp_path / "made") == content(corpus[0])


def test_a_killed_run_leaves_no_process_at_work(config, tmp_path):
    """Workers end when their run is killed: its successor must be alone with the files."""
    code = (
        "from pathlib import Path; import time\nfrom slm.corpus import pipeline, steps, sources\n"
        "from slm.corpus.sources import CorpusConfig\npipeline._PART_BYTES = 60_000\n"
        f"pipeline.run(CorpusConfig(**{vars(config) | {'workers': 2}!r}), Path({str(tmp_path / 'made')!r}))")
    slow = tmp_path / "slow.py"
    slow.write_text("import slm.corpus.sources as s, time\nread = s.read_part\n"
                    "def slowly(*a):\n    for document in read(*a):\n        time.sleep(0.2)\n        yield document\n"
                    "s.read_part = slowly\n", encoding="utf-8")
    (tmp_path / "sitecustomize.py").write_text("import os\nif os.environ.get('SLM_SLOW'):\n    import slow\n",
                                               encoding="utf-8")
    (tmp_path / "made").mkdir()
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}", "SLM_SLOW": "1"}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL,
                               start_new_session=True)

    def children():
        found = subprocess.run(["pgrep", "-f", "multiprocess.forkserver"], capture_output=True, text=True).stdout.split()
        return {pid for pid in found if "SLM_SLOW=1\0" in _environment(pid) and str(tmp_path) in _environment(pid)}

    try:
        deadline = time.time() + 30
        while len(children()) < 3 and time.time() < deadline:  # the fork server and two workers
            time.sleep(0.2)
        assert len(children()) >= 3
        process.kill()
        process.wait()
        deadline = time.time() + 10
        while children() and time.time() < deadline:
            time.sleep(0.2)
        assert not children()
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def _environment(pid):
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""


def test_scores_decide_and_are_kept(config, tmp_path, monkeypatch):
    report = made(dataclasses.replace(config, threshold=0.5, near_duplicates=False), tmp_path / "scored", monkeypatch,
                  scorer=_by_length)
    documents = [row for split in dataset.SPLITS for row in dataset.read(tmp_path / "scored", split)]
    assert all(row["quality"] >= 0.5 for row in documents)
    assert report["dropped"]["low_quality"] > 0 and curation_report.reconciles(report)


def _by_length(texts):
    return np.array([min(1.0, len(text) / 1000) for text in texts], np.float32)


def test_sources_have_names_profiles_and_licences(tmp_path, monkeypatch):
    (tmp_path / "w.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in PROSE), encoding="utf-8")
    config = CorpusConfig(curated=True, workers=1, validation_share=0.2, sources=(
        SourceConfig("articles", f"{tmp_path}/w.jsonl", "encyclopedia", "CC-BY-SA-4.0", weight=2.0),
        SourceConfig("own", "sample", "clinical")), sample_megabytes=0.2)
    report = made(config, tmp_path / "made", monkeypatch)
    assert set(report["by_source"]) == {"articles", "own"}
    # The sample begins with the same prose: each text once, of the source that comes first.
    assert report["by_source"]["own"]["dropped"]["duplicate"] >= 0.9 * len(PROSE)
    assert set(report["licenses"]) == {"CC-BY-SA-4.0", "Apache-2.0"}
    card = data_card.card(report, config)
    assert report["by_source"]["articles"]["documents_in"] == len(PROSE)
    assert f"| articles | {len(PROSE)} | " in card and "| 2 |" in card and "clinically verified" in card


def test_the_papers_recipe_on_small_files_of_its_formats(tmp_path, monkeypatch):
    long = [text for text in PROSE if len(text) > 700]
    pages = "".join(f"<page><title>記事{i}</title><ns>0</ns><id>{i + 1}</id><revision><id>{i + 900}</id><timestamp>"
                    f"2024-01-02T03:04:05Z</timestamp><text>'''{text}{{{{Characters}}}}\n== 脚注 ==\n* 注</text></revision></page>"
                    for i, text in enumerate(long[:6]))
    (tmp_path / "jawiki.xml").write_text(
        f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="ja"><siteinfo>'
        f"<sitename>Wikipedia</sitename></siteinfo>{pages}</mediawiki>", encoding="utf-8")

    def crawled(number, text, categories=None):
        return json.dumps({"content": text, "warc_headers": {"warc-record-id": f"<urn:{number}>", "warc-target-uri":
                           "https://example.jp/"}, "metadata": {"quality_warnings": None, "categories": categories}})
    rows_of_oscar = [*(crawled(i, text) for i, text in enumerate(long[6:12])), crawled(99, long[12], ["adult"])]
    with pyarrow.output_stream(str(tmp_path / "o.jsonl.zst"), compression="zstd") as file:
        file.write("\n".join(rows_of_oscar).encode() + b"\n")
    for name, texts in (("web", long[13:15]), ("textbooks", [row["text"] for row in PAGES[:30]])):
        lines = (json.dumps({"text": text, "license": "Apache-2.0"}) for text in texts)
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    files = {"wikipedia": "jawiki.xml", "oscar": "o.jsonl.zst", "web_medical": "web.jsonl", "textbooks": "textbooks.jsonl"}
    config = dataclasses.replace(NCVC, workers=1, validation_share=0.2, sources=tuple(
        dataclasses.replace(source, files=str(tmp_path / files[source.name])) for source in NCVC.sources))
    report = made(config, tmp_path / "made", monkeypatch)
    assert {name: source["documents_in"] for name, source in report["by_source"].items()} == {
        "wikipedia": 6, "oscar": 7, "web_medical": 2, "textbooks": 30}
    assert report["by_source"]["oscar"]["dropped"]["warned_adult"] == 1 and curation_report.reconciles(report)
    assert {"CC-BY-SA-4.0", "Apache-2.0"} <= set(report["licenses"])
    assert report["dropped_templates"] == {"characters": 6}
    assert report["examples"] == {}  # corpus.excerpts was not asked for
    texts = [row["text"].decode() for split in dataset.SPLITS for row in dataset.read(tmp_path / "made", split)]
    assert texts and not any("脚注" in text for text in texts)


def test_near_duplicates_are_found_at_the_rate_of_the_bands():
    """Planted pairs of a known overlap s are found with probability 1 − (1 − s⁸)¹⁴, up to four standard errors."""
    rng = random.Random(0)
    signatures = duplicates.Signatures.__new__(duplicates.Signatures)
    duplicates.MinhashDedupSignature.__init__(signatures, "unused", duplicates.CONFIG, language=duplicates.MeCabTokenizer())
    for overlap in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        found, pairs, size = 0, 300, 200
        for _ in range(pairs):
            shared = round(overlap * size)
            rest = size - shared
            numbers = np.array(rng.sample(range(2**60), size + rest), np.uint64)
            one, other = numbers[:size], np.concatenate([numbers[:shared], numbers[size:size + rest]])
            jaccard = shared / (size + rest)
            bands = [signatures.get_signature(part.reshape(-1, 1)) for part in (one, other)]
            found += any(left == right for left, right in zip(*bands))
        expected = 1 - (1 - jaccard**8) ** 14
        error = 4 * max(expected * (1 - expected) / pairs, 1 / pairs**2) ** 0.5
        assert abs(found / pairs - expected) <= error, (overlap, found / pairs, expected)


def test_signatures_equal_datatroves_in_one_piece():
    signatures = duplicates.Signatures.__new__(duplicates.Signatures)
    duplicates.MinhashDedupSignature.__init__(signatures, "unused", duplicates.CONFIG, language=duplicates.MeCabTokenizer())
    shingles = np.random.default_rng(0).integers(0, 2**63, (3 * duplicates._CHUNK + 17, 1), np.uint64)
    assert signatures.get_signature(shingles) == duplicates.MinhashDedupSignature.get_signature(signatures, shingles)


def test_a_bad_line_is_named_and_nothing_looks_whole(tmp_path, monkeypatch):
    (tmp_path / "bad.jsonl").write_text('{"text": "肺炎"}\n{"text": \n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"bad\.jsonl, line 2 is not JSON"):
        made(CorpusConfig(files=f"{tmp_path}/bad.jsonl", curated=True, workers=1), tmp_path / "made", monkeypatch)
    assert not list((tmp_path / "made").glob("*.array_record*"))


@pytest.mark.parametrize("arguments, message", [
    ({"executor": "slurm", "executor_options": "partition"}, "'partition' is not NAME=VALUE"),
    ({"executor": "slurm", "executor_options": "queue=cpu"}, "does not fit datatrove's SlurmPipelineExecutor"),
])
def test_options_of_the_executor_are_checked(config, tmp_path, monkeypatch, arguments, message):
    with pytest.raises(ValueError, match=message):
        made(dataclasses.replace(config, **arguments), tmp_path / "made", monkeypatch)


def test_a_run_killed_while_it_cleans_up_resumes(corpus, config, tmp_path, monkeypatch):
    """Shards half renamed, then the report written and the folders half removed."""
    monkeypatch.setattr(pipeline, "_PART_BYTES", 60_000)
    monkeypatch.setattr(pipeline, "write_json", lambda *_: 1 / 0)
    folder = tmp_path / "made"
    folder.mkdir()
    with pytest.raises(ZeroDivisionError):
        pipeline.run(config, folder)
    assert list(folder.glob("corpus-*")) and (folder / "stages").exists()
    monkeypatch.undo()
    monkeypatch.setattr(pipeline, "_PART_BYTES", 60_000)
    rmtree, removed = pipeline.shutil.rmtree, []

    def stop_after_two(path, **options):
        removed.append(path)
        if len(removed) == 3:
            raise KeyboardInterrupt
        rmtree(path, **options)
    monkeypatch.setattr(pipeline.shutil, "rmtree", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(config, folder)
    monkeypatch.setattr(pipeline.shutil, "rmtree", rmtree)
    report = pipeline.run(config, folder)
    assert report["documents_out"] == corpus[1]["documents_out"] and content(folder) == content(corpus[0])
    assert not (folder / "stages").exists()


def test_a_killed_run_lets_go_of_its_product(config, tmp_path, monkeypatch):
    """datatrove's manager process outlives a kill -9 of the run, and must not keep its lock."""
    code = ("import os, signal; from slm.products import build; from slm.corpus import steps\nfrom slm.corpus.sources import "
            "CorpusConfig\ndef run(self, data, rank=0, world_size=1):\n    os.kill(os.getpid(), signal.SIGKILL)\n    "
            f"yield\nsteps.Keep.run = run\nbuild.corpus(CorpusConfig(**{vars(config)!r}))")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL,
                               start_new_session=True)
    try:
        assert process.wait(60) == -signal.SIGKILL  # of the run alone
        [making] = (tmp_path / "runs" / "products").glob("corpus-*.making")
        lock = os.open(making, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(lock)
    finally:
        os.killpg(process.pid, signal.SIGKILL)


NOTE = "患者氏名:山田太郎。主治医は佐藤花子。"


@pytest.mark.parametrize("name, claims", [
    ("ward_notes", {}), ("textbook_cases_2024", {}), ("wikipedia-draft-ward", {}), ("aozora", {}), ("oscar_ward", {}),
    ("notes", {"source": "wikipedia", "url": "https://ja.wikipedia.org/wiki/X"}), ("notes", {"source": "textbooks"}),
    ("notes", {"source": "oscar-2301", "profile": "encyclopedia", "warnings": ["adult"]}),
    ("notes", {"source": "sample-textbook", "license": "CC-BY-SA-4.0"}),
])
def test_no_file_name_and_no_field_switches_off_the_masking_of_names(name, claims, tmp_path):
    path = tmp_path / "wikipedia" / "oscar" / f"{name}.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"text": NOTE, **claims}) + "\n", encoding="utf-8")
    assert curated(CorpusConfig(files=str(path), curated=True), path) == [
        ("clinical", "患者氏名:[氏名]。主治医は[氏名]。")]


def test_a_named_profile_and_a_public_format_are_taken_at_their_word(tmp_path):
    path = tmp_path / "notes.jsonl"
    path.write_text(json.dumps({"text": NOTE}) + "\n", encoding="utf-8")
    assert curated(CorpusConfig(files=str(path), curated=True, profile="textbook"), path) == [("textbook", NOTE)]
    named = CorpusConfig(curated=True, sources=(SourceConfig("articles", str(path), "encyclopedia"),))
    assert curated(named, path) == [("encyclopedia", NOTE)]
    path.write_text(json.dumps({"content": NOTE, "warc_headers": {}}) + "\n", encoding="utf-8")
    assert curated(CorpusConfig(files=str(path), curated=True), path)[0][0] == "web"
    by_source = {document.source: document.profile
                 for document in sources.read_part(CorpusConfig(sample_megabytes=0.3), Path(sources.SAMPLE))}
    assert by_source == {"sample-prose": "clinical", "sample-textbook": "textbook", "sample-case": "clinical",
                         "sample-nursing": "clinical", "sample-exam": "clinical"}


def curated(config, path):
    """(profile, masked text) of each document of a file, without the rules between."""
    documents = steps.Mask(None).run(item for item in steps.Read(config, [(0, str(path), 0, 1)]).run()
                                     if steps.Clean().filter(item))
    return [(document.metadata["profile"], document.text) for document in documents]


@pytest.mark.slow  # half a minute: every task is a process of its own
def test_slurm_gets_one_task_array_a_stage(corpus, config, tmp_path, monkeypatch):
    """`sbatch`, `srun`, `squeue` and `scontrol` are stubs that run each task of the array here."""
    stubs = tmp_path / "bin"
    stubs.mkdir()
    scripts = {
        "sbatch": f"""script="$PWD/job.sh"; for last; do :; done; cp "$last" "{tmp_path}/job.sh"
echo "$@" >> "{tmp_path}/sbatch.log"; grep -E '^#SBATCH' "{tmp_path}/job.sh" >> "{tmp_path}/sbatch.log"
array=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "{tmp_path}/job.sh")
if [ -n "$array" ]; then for task in $(seq 0 "$array"); do
  SLURM_ARRAY_TASK_ID=$task SLURM_NODELIST=here bash "{tmp_path}/job.sh" >> "{tmp_path}/tasks.log" 2>&1; done; fi
echo Submitted batch job 7""",
        "srun": 'while [[ "$1" == -* ]]; do [ "$1" = -n ] && shift; shift; done; exec "$@"',
        "squeue": "exit 0", "scontrol": "echo here"}
    for name, text in scripts.items():
        (stubs / name).write_text(f"#!/bin/bash\n{text}\n")
        (stubs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{stubs}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    slurm = dataclasses.replace(config, executor="slurm", executor_options="partition=cpu,time=01:00:00", workers=0)
    made(slurm, tmp_path / "made", monkeypatch)
    assert content(tmp_path / "made") == content(corpus[0])
    log = (tmp_path / "sbatch.log").read_text()
    assert log.count("--partition=cpu") >= 5 and "--time=01:00:00" in log and "slm-curate" in log
