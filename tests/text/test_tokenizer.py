import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm.text import tokenizer as tokens
from slm.text.normalize import normalize
from slm.text.tokenizer import UnigramTokenizer, load_tokenizer

EDGES = ["", "\0", "▁", "a\r\nb", "全角　空白", "😀👩‍⚕️", "𠮟る驫麤", "<s></s><|user|><unk>", "\t\n  \n", "␟", " 前後 ", "<0xE3>"]


@settings(max_examples=300)
@given(text=st.one_of(st.text(), st.lists(st.sampled_from([*EDGES, "患者は37.8℃の発熱", "10⁶/μL"])).map("".join)))
def test_decoding_gives_the_normalised_text_back(words, text):
    assert words.decode(words.encode(text)) == normalize(text)


@pytest.mark.parametrize("text", EDGES)
def test_free_mode_gives_the_text_back_too(products, words, text):
    free = load_tokenizer(products / "tokenizer", mecab_free=True)
    assert free.morphology is None
    assert free.decode(free.encode(text)) == normalize(text)


def test_lone_surrogate_is_refused(words):
    with pytest.raises(ValueError, match="lone surrogate"):
        words.encode("\ud800")


def test_no_piece_crosses_a_morpheme(words):
    text = normalize("患者は2日前から38.5℃の発熱と咳嗽があり、肺炎と診断された。")
    cuts, position = set(), 0
    for morpheme in words.morphology.split(text):
        cuts.add(position := position + len(morpheme))
    ends, position = set(), 0
    for piece in words.pieces(words.encode(text)):
        ends.add(position := position + len(piece))
    assert cuts <= ends


def test_spelled_out_control_symbols_are_text(words):
    special = {words.special(symbol) for symbol in (*tokens.CONTROL_SYMBOLS, tokens.END_OF_DOCUMENT)}
    assert len(special) == len(tokens.CONTROL_SYMBOLS) + 1
    assert not special & set(words.encode("<|user|></s><|end|>"))
    assert words.decode([words.special("<|user|>"), *words.encode("発熱"), words.end_of_document]) == "発熱"
    with pytest.raises(KeyError, match="患者"):
        words.special("患者")


def test_cached_encoding_equals_the_first(words):
    text = "肺炎の患者に抗菌薬を投与した。" * 3
    first = UnigramTokenizer(words._pieces.serialized_model_proto(), words.morphology, "").encode(text)
    assert words.encode(text) == words.encode(text) == first


def test_another_mecab_or_normaliser_is_refused(products, tmp_path):
    folder = tmp_path / "tokenizer"
    shutil.copytree(products / "tokenizer", folder)
    settings_file = folder / tokens.SETTINGS_FILE
    made = json.loads(settings_file.read_text())
    settings_file.write_text(json.dumps(made | {"morphology": "0000"}))
    with pytest.raises(ValueError, match=f"MeCab and its dictionaries at 0000, but this machine has {made['morphology']}"):
        load_tokenizer(folder)
    load_tokenizer(folder, mecab_free=True)
    settings_file.unlink()
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json is missing; make one with"):
        load_tokenizer(folder)
