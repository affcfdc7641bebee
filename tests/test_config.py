import dataclasses
import importlib.util
from pathlib import Path

import ml_collections
import pytest

from slm import config, jobs

ROOT = Path(__file__).parent.parent


def get_config(job, argument=None):
    spec = importlib.util.spec_from_file_location(job, ROOT / "configs" / f"{job}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(argument)


@pytest.mark.parametrize("job", jobs.JOBS)
def test_every_job_has_a_config_that_freezes(job):
    frozen = config.freeze(jobs.JOBS[job].config_class(), get_config(job))
    assert frozen.job == job
    with pytest.raises(dataclasses.FrozenInstanceError):
        frozen.job = "other"
    assert config.freeze(type(frozen), config.to_config_dict(frozen)) == frozen


def test_variants_and_keys_after_the_colon():
    chosen = get_config("pretrain", "ncvc_slm_1,train.steps=7,optimizer.name=muon,train.tensorboard=false")
    assert (chosen.variant, chosen.model.preset) == ("ncvc_slm_1", "ncvc_slm_1")
    assert (chosen.train.steps, chosen.optimizer.name, chosen.train.tensorboard) == (7, "muon", False)


@pytest.mark.parametrize("argument, message", [
    ("huge", "has no variant 'huge': choose one of laptop, "),
    ("debug,train.step=3", r"'train\.step' after configs/pretrain\.py:debug is not a setting: known are .*train\.steps"),
    ("debug,model=3", "'model' after .* is not a setting"),
    ("debug,x.y=2", r"'x\.y' after .* is not a setting"),
    ("debug,train.steps=many", r"train\.steps='many' .*expected int"),
    ("debug,steps", "'steps' after .* is not key=value"),
])
def test_wrong_arguments_list_the_known_ones(argument, message):
    with pytest.raises(ValueError, match=message):
        get_config("pretrain", argument)


@pytest.mark.parametrize("change, message", [
    ({"train": {"steps": "3"}}, r"config\.train\.steps='3' is a str, expected int"),
    ({"optimizer": {"name": "sgd"}}, r"config\.optimizer\.name='sgd': choose one of 'adamw', 'muon'"),
    ({"corpora": {}}, "config has no setting 'corpora': known are job, variant"),
    ({"model": {"vocabulary_size": 9000}}, r"tokenizer\.size=\d+ and model\.vocabulary_size=9000 conflict: set both"),
    ({"rows": {"seq_len": 4096}}, r"rows\.seq_len=4096 is longer than model\.context=\d+"),
    ({"step": {"grad_accum_steps": 3}}, r"rows\.batch_size=\d+ is no multiple of step\.grad_accum_steps=3"),
    ({"step": {"loss_chunk": 7}}, r"step\.loss_chunk=7 does not divide rows\.seq_len=\d+"),
    ({"train": {"steps": 0}}, r"train\.steps=0: give at least 1"),
    ({"corpus": {"benchmarks": "a.csv"}}, r"corpus\.benchmarks='a\.csv' needs corpus\.curated=true"),
    ({"corpus": {"profile": "blog"}}, r"config\.corpus\.profile='blog': choose one of 'auto', 'web'"),
    ({"corpus": {"validation_share": 0.0}}, r"corpus\.validation_share=0\.0: give a share between 0 and 1"),
])
def test_settings_that_are_wrong_or_conflict_are_refused(change, message):
    values = get_config("pretrain").to_dict()
    for name, setting in change.items():
        values[name] = {**values.get(name, {}), **setting}
    with pytest.raises(ValueError, match=message):
        config.freeze(jobs.JOBS["pretrain"].config_class(), values)


def test_whole_numbers_are_taken_for_fractions():
    values = get_config("pretrain").to_dict()
    values["optimizer"]["learning_rate"] = 1
    assert config.freeze(jobs.JOBS["pretrain"].config_class(), values).optimizer.learning_rate == 1.0


def test_sources_of_a_mixture_are_set_by_their_names():
    chosen = get_config("corpus", "ncvc,corpus.sources.oscar.files=X/*.zst,corpus.sources.textbooks.weight=5")
    frozen = config.freeze(jobs.JOBS["corpus"].config_class(), chosen)
    assert [source.name for source in frozen.corpus.sources] == ["oscar", "textbooks", "web_medical", "wikipedia"]
    assert frozen.corpus.sources[0].files == "X/*.zst" and frozen.corpus.weights["textbooks"] == 5.0
    assert hash(frozen.corpus) == hash(config.freeze(jobs.JOBS["corpus"].config_class(), chosen).corpus)
    assert config.freeze(jobs.JOBS["corpus"].config_class(), get_config("corpus")).corpus.sources == ()


def test_files_and_sources_conflict():
    values = get_config("corpus", "ncvc").to_dict()
    values["corpus"]["files"] = "a.jsonl"
    with pytest.raises(ValueError, match=r"corpus\.files='a\.jsonl' and corpus\.sources \(oscar, textbooks, .*conflict"):
        config.freeze(jobs.JOBS["corpus"].config_class(), values)


def test_the_papers_model_reads_the_papers_corpus():
    of_model, of_corpus = get_config("pretrain", "ncvc_slm_1").corpus, get_config("corpus", "ncvc").corpus
    assert of_model.to_dict() == of_corpus.to_dict() and of_model.curated


@pytest.mark.parametrize("job", jobs.JOBS)
def test_every_setting_can_be_set_by_a_flag(job):
    """A field named like a method of ConfigDict (items, keys, lock, …) cannot."""
    def names(kind):
        for field in dataclasses.fields(kind):
            yield field.name
            if dataclasses.is_dataclass(field.default):
                yield from names(type(field.default))
    assert not [name for name in names(jobs.JOBS[job].config_class()) if hasattr(ml_collections.ConfigDict, name)]
