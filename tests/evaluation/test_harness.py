"""The lm-evaluation-harness on a tiny random checkpoint; what needs lm_eval itself is skipped where it is missing."""

import csv
import dataclasses
import functools
import json
import math
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from slm import benchmarks
from slm.evaluation import candidates, harness, harness_tasks, leaderboard
from slm.evaluation.candidates import Candidate
from slm.evaluation.harness import Chat, HarnessConfig, Requests
from slm.inference.engine import Engine
from slm.model import decoder
from slm.model.presets import PRESETS
from slm.sample import tasks as sample_tasks
from slm.scoring import answer_modes
from slm.scoring.metrics import METRICS
from slm.scoring.models import Checkpoint
from slm.tasks import igakuqa, jmed_llm
from slm.tasks.benchmark import Provenance
from slm.tasks.igakuqa import IgakuQAConfig
from slm.tasks.jmed_llm import JmedLlmConfig
from slm.tasks.kinds import KINDS
from slm.text import chat
from slm.text.normalize import normalize
from slm.text.tokenizer import UnigramTokenizer

MODEL = dataclasses.replace(PRESETS["debug"], context=1024)
MESSAGES = [{"role": "system", "content": "一文字で答える。"}, {"role": "user", "content": "発熱はあるか。<|end|>A. はい\n"}]
TEXTS = ["患者は65歳男性。胸痛を主訴に来院した。", "Ca 8.5 mg/dL、WBC 10⁶/μL。", "The catheter was removed.", "糖尿病性網膜症の治療"]


@pytest.fixture(scope="module")
def model(words):
    params = jax.jit(functools.partial(decoder.initialize, MODEL))(jax.random.key(0))
    params = jax.tree.map(lambda x: x * 4 if x.ndim > 1 else x, params)  # so that it has opinions
    return Checkpoint(Engine(params, MODEL, batch_tokens=2048), words, "random")


@pytest.fixture(scope="module")
def scores(model):
    """ids → log P of each next token, by one plain forward pass of the whole text."""
    @jax.jit
    def forward(tokens):
        shape = tokens[None].shape
        hidden, _ = decoder.hidden_states(model.engine.params, MODEL, tokens[None], np.ones(shape, np.int32),
                                          np.arange(len(tokens))[None])
        return jax.nn.log_softmax(decoder.logits(model.engine.params, hidden))[0]
    return lambda ids: np.asarray(forward(np.array([*ids, *[0] * (256 - len(ids))], np.int32)))[:len(ids)]


def expected(scores, context, own):
    table = scores([*context, *own])
    places = [len(context) - 1 + index for index in range(len(own))]
    return (sum(float(table[place, token]) for place, token in zip(places, own)),
            all(table[place].argmax() == token for place, token in zip(places, own)))


def asked(*arguments):
    return [SimpleNamespace(args=own) for own in arguments]


# Ids ----------------------------------------------------------------------------------------------------------------

def test_a_continuation_is_scored_whole_wherever_a_text_is_cut(model, words):
    requests, moved = Requests(model), 0
    for text in TEXTS:
        for cut in range(len(text)):
            context, own = requests._encode_pair(text[:cut], text[cut:])
            assert context[0] == words.end_of_document
            assert own and words.decode(own) == normalize(text[cut:])
            assert words.decode(context) == normalize(text[:cut])
            whole = words.encode(text)
            if context[1:] == whole[:len(context) - 1]:
                assert own == whole[len(context) - 1:]
            else:  # sliced as the harness slices, other tokens would be scored, or none
                moved += 1
                assert own == words.encode(text[cut:]) != whole[len(context) - 1:]
    assert moved >= 5
    whole, context = words.encode("が"), words.encode("か")
    assert whole[len(context):] == [] and requests._encode_pair("か", "\u3099")[1]


def test_a_conversation_has_the_ids_of_the_chat_template(model, words):
    requests = Requests(model)
    context, own = requests._encode_pair(requests.apply_chat_template(MESSAGES), "A")
    assert context == chat.encode(words, MESSAGES, reply=True).ids and own == words.encode("A")
    assert context.count(words.special("<|end|>")) == 2  # the one that is spelled out is text
    begun = [*MESSAGES, {"role": "assistant", "content": "答え:"}]
    opened = requests.apply_chat_template(begun, add_generation_prompt=False)
    assert opened.endswith("<|assistant|>答え:")
    assert requests._encode_pair(opened, "A")[0] == [*context, *words.encode("答え:")]
    with pytest.raises(ValueError, match="unknown role"):
        requests.apply_chat_template([{"role": "tool", "content": ""}])


def test_the_text_of_a_conversation_is_what_the_jinja_template_makes(model):
    jinja2 = pytest.importorskip("jinja2")
    template = jinja2.Environment().from_string(Requests(model).chat_template(True))
    for open_turn in (True, False):
        assert Chat.of(MESSAGES, open_turn) == template.render(messages=MESSAGES, add_generation_prompt=open_turn)


def test_what_does_not_fit_is_cut_and_counted(model, words):
    requests, long = Requests(model), "頭" + "胸痛と呼吸困難。" * 300 + "尾"
    ids = requests._context(requests.apply_chat_template([MESSAGES[0], {"role": "user", "content": long}]), 24)
    assert len(ids) == 1000 and words.decode(ids).startswith("一文字で答える。頭") and words.decode(ids).endswith("尾")
    begun = [{"role": "user", "content": long}, {"role": "assistant", "content": "答え:"}]
    ids = requests._context(requests.apply_chat_template(begun, add_generation_prompt=False), 24)
    assert len(ids) == 1000 and words.decode(ids).endswith("尾答え:")
    ids = requests._context(long, 24)
    assert len(ids) == 1000 and ids == words.encode(long)[-1000:]
    requests._context(long, 25)
    requests._context("短い", 24)
    assert len(requests.cut) == 3
    with pytest.raises(ValueError, match="asks for 1024 tokens after its context, and the model's context is 1024"):
        requests._context("短い", 1024)
    with pytest.raises(ValueError, match="1000 tokens and 26 that continue them"):
        model.engine.score([([5] * 1000, [5] * 26)])


# Scores -------------------------------------------------------------------------------------------------------------

def test_log_likelihoods_equal_one_whole_forward_pass(model, words, scores):
    eod = words.end_of_document
    contexts = [[eod], [eod, *words.encode(TEXTS[0])], [eod, *words.encode(TEXTS[1] * 4)]]
    greedy = int(scores(contexts[1])[-1].argmax())
    then = int(scores([*contexts[1], greedy])[-1].argmax())
    pairs = [(context, words.encode(own)) for context in contexts for own in ("A", "はい、そうです。", TEXTS[2])]
    pairs += [(contexts[1], [greedy, then]), (contexts[1], [greedy]), (contexts[1], [greedy, then + 1]), (contexts[2], [])]
    found = model.engine.score(pairs)
    for (context, own), (value, likeliest) in zip(pairs, found):
        right, is_greedy = expected(scores, context, own)
        assert value == pytest.approx(right, abs=1e-3)
        assert likeliest == is_greedy
    assert [likeliest for _, likeliest in found[-4:]] == [True, True, False, True]


def test_one_by_one_is_the_same_as_together(model, words):
    pairs = [([words.end_of_document, *words.encode(text)], words.encode(own)) for text in TEXTS for own in ("A", "胸痛")]
    together = model.engine.score(pairs)
    for pair, (value, likeliest) in zip(pairs, together):
        [(alone, also)] = model.engine.score([pair])
        assert alone == pytest.approx(value, abs=1e-4) and also == likeliest


def test_letters_have_the_likelihoods_of_our_own_readout(model):
    requests = Requests(model)
    prompts = [[MESSAGES[0], {"role": "user", "content": text}] for text in TEXTS]
    pairs = [requests._encode_pair(Chat.of(prompt), letter) for prompt in prompts for letter in "ABCD"]
    found = np.array(model.engine.score(pairs))[:, 0].reshape(-1, 4)
    np.testing.assert_allclose(found, model.log_likelihoods([(prompt, "ABCD") for prompt in prompts]), atol=1e-4)


# Under the harness ----------------------------------------------------------------------------------------------------

@pytest.fixture
def lm_eval():
    pytest.importorskip("lm_eval")
    harness._refuse_missing()
    import lm_eval
    return lm_eval


def test_without_the_harness_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lm_eval", None)
    with pytest.raises(RuntimeError, match=r"pip install 'slm\[lm-eval\]'"):
        harness.adapt(None)


def test_texts_longer_than_the_context_are_measured_in_windows(lm_eval, model, words, scores):
    short = dataclasses.replace(MODEL, context=32)
    adapted = harness.adapt(Checkpoint(Engine(model.engine.params, short), words, "random"))
    text = "".join(TEXTS)
    ids, total, start = words.encode(text), 0.0, 0
    assert len(ids) > 64
    assert (adapted.eot_token_id, adapted.max_length) == (words.end_of_document, 32)
    total += expected(scores, [words.end_of_document], ids[:32])[0]
    for start in range(32, len(ids), 32):  # the last window sees as much as fits before what is left
        end = min(start + 32, len(ids))
        seen = ids[end - 33:start]
        total += expected(scores, seen, ids[start:end])[0]
    found = adapted.loglikelihood_rolling(asked((text,), ("",), (TEXTS[2],)))
    assert found[0] == pytest.approx(total, abs=1e-2)
    assert found[1] == 0
    assert found[2] == pytest.approx(expected(scores, [words.end_of_document], words.encode(TEXTS[2]))[0], abs=1e-3)


@pytest.mark.slow
def test_generations_are_our_own_and_end_where_the_task_says(lm_eval, model, words, capsys):
    adapted = harness.adapt(model)
    greedy = {"max_gen_toks": 12, "until": []}
    conversation = [MESSAGES[0], {"role": "user", "content": TEXTS[0]}]
    own = model.generate([conversation, MESSAGES], 12)
    contexts = [Chat.of(conversation), Chat.of(MESSAGES), TEXTS[1]]
    found = adapted.generate_until(asked(*[(context, greedy) for context in contexts]))
    assert found[:2] == own and len(own[0]) > 3
    assert found[2] and found[2] == adapted.generate_until(asked((TEXTS[1], greedy)))[0]
    stop = own[0][2]
    cut = adapted.generate_until(asked((contexts[0], greedy | {"until": ["", stop], "num_beams": 2})))
    assert cut == [own[0].partition(stop)[0]]
    assert "left out of what tasks ask of a generation: num_beams\n" in capsys.readouterr().err
    drawn = greedy | {"do_sample": True, "temperature": 2.0}
    first, second = (adapted.generate_until(asked((contexts[0], drawn), (contexts[0], drawn))) for _ in range(2))
    assert first == second and first[0] != first[1]


def documents(**_):
    """Of a task of anyone's."""
    import datasets
    rows = [{"text": text, "choices": [" はい", " いいえ"], "gold": place % 2} for place, text in enumerate(TEXTS)]
    return {"test": datasets.Dataset.from_list(rows)}


def test_any_task_of_the_harness_runs(lm_eval, model, words, scores):
    common = {"custom_dataset": documents, "test_split": "test", "doc_to_text": "text", "num_fewshot": 1}
    choice = {**common, "task": "own_choice", "output_type": "multiple_choice", "doc_to_choice": "choices",
              "doc_to_target": "gold", "target_delimiter": ""}
    perplexity = {**common, "task": "own_text", "output_type": "loglikelihood_rolling", "doc_to_text": "",
                  "doc_to_target": "text", "num_fewshot": 0}
    written = {**common, "task": "own_words", "doc_to_target": "text", "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8}}
    found = lm_eval.simple_evaluate(
        model=harness.adapt(model), tasks=[choice, perplexity, written], bootstrap_iters=0,
        task_manager=lm_eval.tasks.TaskManager(include_defaults=False))
    right = 0
    for own in found["samples"]["own_choice"]:
        assert own["arguments"][0][0].endswith(own["doc"]["text"]) and len(own["arguments"][0][0]) > len(own["doc"]["text"]) + 5
        values = [expected(scores, *harness.Requests(model)._encode_pair(*pair))[0] for pair in own["arguments"]]
        right += int(np.argmax(values)) == own["doc"]["gold"]
    assert found["results"]["own_choice"]["acc,none"] == right / len(TEXTS)
    bits = -sum(expected(scores, [words.end_of_document], words.encode(text))[0] for text in TEXTS) / math.log(2)
    size = sum(len(text.encode()) for text in TEXTS)
    assert found["results"]["own_text"]["bits_per_byte,none"] == pytest.approx(bits / size, rel=1e-5)
    assert found["results"]["own_words"]["exact_match,none"] == 0


# Our two benchmarks ---------------------------------------------------------------------------------------------------

ROWS = 12


@pytest.fixture(scope="module")
def jmed(tmp_path_factory):
    """A JMED-LLM in small: eight files of sample tasks; the extractions have few answers, so that chance finds some."""
    folder, drawn = tmp_path_factory.mktemp("jmed"), sample_tasks.tasks(test_rows=5 * ROWS)
    (folder / "datasets").mkdir()
    choices, extractions = drawn["sample_choice"].items, drawn["sample_extraction"].items
    entities = [["発熱", "咳嗽"], ["発熱"], [], ["胸痛", "発熱", "咳嗽"]]
    for place, (name, source) in enumerate(jmed_llm.SOURCES.items()):
        chosen = source.kind == "choice"
        columns = ["tag", "question", *(["optionA", "optionB", "optionC", "optionD"] if chosen else []), "answer"]
        with open(folder / f"datasets/{name}.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            for row in range(ROWS):
                item = (choices if chosen else extractions)[place % 5 * ROWS + row]
                writer.writerow({"question": item.question, "tag": item.tag} | (
                    {f"option{letter}": text for letter, text in item.options} | {"answer": item.answer[0]} if chosen
                    else {"answer": repr(entities[row % 4])}))
    return folder


@pytest.fixture(scope="module")
def exams(tmp_path_factory):
    """An IgakuQA in small: one year; of each section a problem with one answer, one with two, and a number."""
    folder = tmp_path_factory.mktemp("exams")

    def lines(path, rows):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")

    def problem(name, text, answer, choices=("架空熱", "仮想咳", "空想痛", "想定麻痺", "作り話疹")):
        return {"problem_id": name, "problem_text": text, "choices": list(choices), "text_only": True,
                "answer": list(answer), "points": "1"}
    for place, letter in enumerate("ABCDEF"):
        name = f"112{letter}"
        rows = [problem(f"{name}1", f"架空の病{place}はどれか。", "abcdea"[place]),
                problem(f"{name}2", f"作った問い{place}。2つ選べ。", ("ab", "ce", "bd", "de", "ac", "bc")[place]),
                problem(f"{name}3", f"架空指数{place}を求めよ。", ["1"], ())]
        lines(folder / f"data/2018/112-{letter}.jsonl", rows)
        lines(folder / f"data/2018/112-{letter}_metadata.jsonl", [
            {"problem_id": row["problem_id"], "category": "架空科", "kinki": [], "human_accuracy": "50"} for row in rows])
    lines(folder / "scripts/prompts/prompt.jsonl", [
        problem(f"100A{n}", f"作例{n}。", answer) for n, answer in ((1, "e"), (2, "ab"), (3, "c"))])
    return folder


class Listing(UnigramTokenizer):
    """Decodes what a random model writes to one of a few answers: as it stands, no metric would tell two models apart."""
    TEXTS = ("['発熱']", "['発熱', '咳嗽']", "['胸痛']", "A", "b", "B,C", "わからない", "a,b", "1")

    def __init__(self, words):
        vars(self).update(vars(words))

    def decode(self, ids):
        return self.TEXTS[sum(map(int, ids)) % len(self.TEXTS)]


@pytest.fixture
def answering(model, words, monkeypatch):
    """(our model, where the job loads it)"""
    model = Checkpoint(model.engine, Listing(words), "random")
    monkeypatch.setattr(candidates, "find", lambda *_: Candidate("somewhere", {(0, None): "somewhere"}))
    monkeypatch.setattr(Checkpoint, "load", lambda *_: model)
    return model


def scores_of(model, task, items, mode):
    """Ours: {metric: value}, and the share of what could not be read."""
    task = dataclasses.replace(task, items=tuple(items))
    answers = answer_modes.answers(model, task, items, mode)
    gold, read = leaderboard.compared(task, [answer.value for answer in answers])
    scores = {name: METRICS[name](gold, read) for name in KINDS[task.kind].metrics}
    return scores | {"unread": sum(answer.unread for answer in answers) / len(answers)}


def of_harness(found):
    return {name.removesuffix(",none"): value for name, value in found.items()
            if name.endswith(",none") and "stderr" not in name}


@pytest.mark.slow
def test_jmed_llm_scores_equal_ours(lm_eval, answering, jmed, tmp_path):
    found = harness.run(HarnessConfig(tasks="jmed_llm,jmed_llm_free", jmed_llm=JmedLlmConfig(str(jmed))), tmp_path)
    assert (found["model"], found["protocol"], found["truncated"]) == ("somewhere", "P0", 0)
    tasks = jmed_llm.test(jmed)
    assert len(found["tasks"]) == 5 + 8
    seen = set()
    for name, task in tasks.items():
        ways = {"": "likelihood", "_free": "free"} if task.kind == "choice" else {"": "free"}
        for suffix, mode in ways.items():
            ours = scores_of(answering, task, task.items, mode)
            assert of_harness(found["tasks"][f"jmed_llm_{name}{suffix}"]) == ours, (name, mode)
            assert found["tasks"][f"jmed_llm_{name}{suffix}"]["sample_len"] == ROWS
            seen.add((mode, *(round(value, 6) for value in ours.values())))
    assert len(seen) >= 10  # the scores are not all alike


def test_igakuqa_scores_equal_ours(lm_eval, answering, exams, tmp_path):
    found = harness.run(HarnessConfig(tasks="igakuqa,igakuqa_likelihood", igakuqa=IgakuQAConfig(str(exams))), tmp_path)
    task, _ = igakuqa.load(exams)
    lettered = [item for item in task.items if item.options]
    assert of_harness(found["tasks"]["igakuqa"]) == scores_of(answering, task, task.items, "free")
    likelihood = of_harness(found["tasks"]["igakuqa_likelihood"])
    assert likelihood == scores_of(answering, task, lettered, "likelihood")
    assert 0 < likelihood["accuracy"] < 1
    assert found["tasks"]["igakuqa_likelihood"]["sample_len"] == len(lettered) == 12


def test_prompts_and_lengths_are_ours(lm_eval, jmed, exams):
    settings = {"jmed_llm": JmedLlmConfig(str(jmed)), "igakuqa": IgakuQAConfig(str(exams))}
    seen = 0
    for benchmark, of_benchmark in settings.items():
        tasks = benchmarks.REGISTRY[benchmark].tasks(of_benchmark, Provenance(), ())
        configs = harness_tasks.configs(benchmark, tasks, 0)
        manager = lm_eval.tasks.TaskManager(include_defaults=False)
        loaded = manager.load(list(configs.values()))["tasks"]
        assert list(loaded) == list(configs)
        for name, task_of_harness in loaded.items():
            seen += 1
            task = next(task for key, task in tasks.items() if name.removesuffix("_free").removesuffix(
                "_likelihood") in (key, f"{benchmark}_{key}"))
            items = [item for item in task.items if item.options or not name.endswith("igakuqa_likelihood")]
            assert len(task_of_harness.eval_docs) == len(items)
            for document, item in zip(task_of_harness.eval_docs, items):
                context = task_of_harness.fewshot_context(
                    document, num_fewshot=task_of_harness.config.num_fewshot, apply_chat_template=True,
                    fewshot_as_multiturn=True, chat_template=Chat.of)
                assert context.messages == task.prompt(item) and context.asks
                assert task_of_harness.doc_to_target(document) == task.reply(item)
            if benchmark == "igakuqa":
                bare = task_of_harness.fewshot_context(document, num_fewshot=0, apply_chat_template=True,
                                                       chat_template=Chat.of)
                assert bare.messages == igakuqa.load(exams, shots=0)[0].prompt(item)
            assert set(task_of_harness.aggregation()) == {*KINDS[task.kind].metrics, "unread"}
            if task_of_harness.config.output_type == "generate_until":
                assert task_of_harness.config.generation_kwargs == {
                    "max_gen_toks": KINDS[task.kind].max_tokens, "until": []}
    assert seen == 5 * 2 + 3 + 2


def test_a_limit_is_spread_over_our_tasks(lm_eval, answering, jmed, tmp_path):
    config = HarnessConfig(tasks="jmed_llm_crade", limit=5, jmed_llm=JmedLlmConfig(str(jmed)))
    task = jmed_llm.test(jmed)["crade"]
    items = [task.items[place] for place in (0, 2, 4, 7, 9)]
    found = harness.run(config, tmp_path)["tasks"]["jmed_llm_crade"]
    assert of_harness(found) == scores_of(answering, task, items, "likelihood")
    assert found["sample_len"] == 5


@pytest.mark.slow  # the harness lists its 14,000 tasks
def test_an_unknown_task_is_named(lm_eval, answering, tmp_path):
    with pytest.raises(ValueError, match=r"nor .* has a task jmed_crade: .* these are ours: "):
        harness.run(HarnessConfig(tasks="jmed_crade"), tmp_path)


def test_bad_settings_are_refused(lm_eval, answering, exams, jmed, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder of YAML tasks"):
        harness.run(HarnessConfig(include="nowhere", jmed_llm=JmedLlmConfig(str(jmed))), tmp_path)
    learned = Candidate("somewhere", {(0, None): "x"}, Provenance("P0", {"igakuqa": ("2018",)}))
    monkeypatch.setattr(candidates, "find", lambda *_: learned)
    with pytest.raises(ValueError, match="trained on the exams of 2018"):
        harness.run(HarnessConfig(tasks="igakuqa", igakuqa=IgakuQAConfig(str(exams))), tmp_path)
    monkeypatch.setattr(candidates, "find", lambda *_: Candidate("many", {(0, None): "first", (1, None): "second"}, Provenance("P2")))
    with pytest.raises(ValueError, match=r"many holds 2 models, the harness runs one: .*--config.checkpoint=first"):
        harness.run(HarnessConfig(jmed_llm=JmedLlmConfig(str(jmed))), tmp_path)


def test_bad_configs_are_refused():
    with pytest.raises(ValueError, match="chat=false asks jmed_llm in a wording"):
        HarnessConfig(chat=False)
    assert not HarnessConfig(tasks="hellaswag", chat=False).chat
    with pytest.raises(ValueError, match="limit=-1"):
        HarnessConfig(limit=-1)
    with pytest.raises(ValueError, match=r"igakuqa.shots=0: here .*--config.shots"):
        HarnessConfig(igakuqa=IgakuQAConfig(shots=0))
