import unicodedata

import pytest

from slm.tasks import split

REPORT = ("患者は架空の町に住む陶芸家で、春から右手の指先に違和感を覚えていた。\n"
          "窯の温度を上げた翌週に発疹が広がり、テストマイシンを内服したところ三日で消退した。")
OTHER = ("海辺の灯台を守る男性が、冬の朝に階段で転び、左の足首を腫らして来院した。\n"
         "骨折はなく、包帯で固定して帰宅し、二週間後には元どおり歩けるようになった。")
THIRD = "山小屋の主人は毎晩よく眠れず、昼間の眠気を訴えて外来を受診したが、検査に異常はなかった。"
POST = "湖でくしゃみ連発した"  # ten characters: six 5-grams

EMPTY = {test: [] for tests in split.TESTS.values() for test in tests}


def crade(entity: str, report: str) -> str:
    return f"以下の症例報告において、「{entity}」がADE（有害事象）である可能性は？\n「{report}」"


def extraction(report: str) -> str:
    return f"以下の症例報告において、薬品名は？\n「{report}」"


def post(text: str) -> str:
    return f"SNSで以下の投稿をした本人は、風邪でしたか？\n「{text}」"


def pair(first: str, second: str) -> str:
    return f"以下の2つの文の意味の類似度は？\nS1: {first}\nS2: {second}"


def splits(name: str, questions: list[str], **tests: list[str]) -> list[str]:
    return [each.split for each in split.assign({name: questions}, EMPTY | tests)[name]]


@pytest.mark.parametrize("question, document", [
    (crade("発疹", "発疹が出た。\n薬は　ＡＢＣ。"), "発疹が出た。薬はABC。"),  # not the 「発疹」 of the question
    (post("「寒い」と彼は言う"), "寒い」と彼は言う"),  # marks at either end go, all of them
    (post("彼は「寒い」"), "彼は「寒い"),
    (post("一つ\n「二つ」\n三つ"), "一つ「二つ」三つ"),
    (pair("熱が ある", "熱はない"), "熱がある熱はない"),
    ("「陶酔」とは何か？", "陶酔」とは何か?"),
    ("体温は？ 次から選べ", "体温は?次から選べ"),
    (f"規則に従え。\n{post('寒い')}\nA. 風邪である\nB. 風邪でない\nA", "寒い"),  # a whole conversation
])
def test_the_document_of_a_question(question, document):
    assert split.document(question) == document


def test_a_document_across_lines_ends_at_the_last_mark_that_ends_a_line():
    assert split.document(post("一つ」\n二つ") + "\n選択肢:\n") == "一つ」二つ"


def test_folds_are_of_the_document_not_of_the_question():
    # sha256("abc") = ba7816bf…15ad, which is 1 modulo 5 and 5 modulo 8
    number = 0xba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
    assert (split.fold("abc"), split.fold("ａ b\nc"), split.fold("abc", 8)) == (number % 5, number % 5, number % 8)
    rows = split.assign({"CRADE": [crade("発疹", REPORT), crade("違和感", REPORT)]}, EMPTY)["CRADE"]
    assert rows[0].fold == rows[1].fold == split.fold(REPORT)
    assert len({split.fold(f"document {i}") for i in range(100)}) == 5


def test_each_class_of_row():
    near = REPORT[:len(REPORT) * 2 // 3] + THIRD
    rows = [crade("発疹", REPORT), crade("違和感", REPORT), crade("発疹", near), crade("腫脹", OTHER)]
    assert splits("CRADE", rows, crade=rows[:1]) == ["test", "shares_test_document", "near_duplicate", "train"]
    # The same document in other characters is the same document.
    wide = crade("発疹", REPORT.replace("\n", "　\n ").replace("、", "､"))
    assert splits("CRADE", [wide], crade=rows[:1]) == ["shares_test_document"]


def test_half_of_the_5_grams_of_the_smaller_document_is_near():
    test, host = "abcdefghijklmn", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # ten 5-grams in the test
    for kept, expected in ((9, "near_duplicate"), (8, "train")):  # five of ten, four of ten
        assert splits("SMDIS", [post(test[:kept] + host)], smdis=[post(test)]) == [expected]
        assert splits("SMDIS", [post(test)], smdis=[post(test[:kept] + host)]) == [expected]
    # A 5-gram that comes again counts once: "aaaaaaaaaaaa" has one.
    assert splits("SMDIS", [post("aaaaaaaaaaaa" + test)], smdis=[post("aaaaa" + host)]) == ["train"]


def test_documents_shorter_than_a_5_gram_are_only_equal_or_not():
    rows = [post("寒いなあ"), post("今日も寒いなあと言う")]
    assert splits("SMDIS", rows, smdis=rows[:1]) == ["test", "train"]


def test_a_set_is_held_against_its_own_tests_only():
    question = extraction(REPORT)
    assert splits("CRNER", [question], mrner_medicine=[question]) == ["test"]
    assert splits("CRNER", [question], mrner_disease=[question]) == ["test"]
    assert splits("CRNER", [question], nrner=[question]) == ["train"]
    assert splits("JCSTS", [pair("雨が降る朝", "雨の降る朝")], jcsts=[pair("雨が降る朝", "雨の降る朝")]) == ["test"]


def test_joint_training_leaves_out_the_documents_of_the_other_tests():
    sets = {"CRADE": [crade("発疹", REPORT), crade("腫脹", OTHER), crade("眠気", THIRD)],
            "CRNER": [extraction(REPORT), extraction(OTHER), extraction(THIRD)],
            "SMDIS": [post(REPORT), post(THIRD)]}
    tests = EMPTY | {"crade": [crade("陶芸家", REPORT)], "mrner_disease": [extraction(OTHER)]}
    found = split.assign(sets, tests)
    assert [(each.split, each.joint) for each in found["CRADE"]] == [
        ("shares_test_document", False), ("train", False), ("train", True)]
    assert [(each.split, each.joint) for each in found["CRNER"]] == [("train", False), ("test", False), ("train", True)]
    assert [(each.split, each.joint) for each in found["SMDIS"]] == [("train", True)] * 2  # no part of the group


def test_a_missing_test_and_an_unknown_set_are_refused():
    with pytest.raises(ValueError, match=r"mrner_medicine are missing.*give the tests mrner_disease, mrner_medicine"):
        split.assign({"RRTNM": [], "RRNER": []}, {"rrtnm": [], "crade": [], "nrner": [], "mrner_disease": []})
    with pytest.raises(ValueError, match="the set CRADES is unknown: the sets are CRADE"):
        split.assign({"CRADES": []}, EMPTY)


@pytest.mark.parametrize("change", [
    str,
    lambda text: unicodedata.normalize("NFKC", text),
    lambda text: text.replace("、", "､").replace("テストマイシン", "ﾃｽﾄﾏｲｼﾝ"),
    lambda text: "　\n".join(text),
    lambda text: text[:len(text) * 6 // 10],
    lambda text: text.replace("温度", "火力").replace("三日", "四日"),
])
def test_a_planted_document_is_found_in_a_longer_text(change):
    tests = {"crade": [crade("腫脹", OTHER), crade("発疹", REPORT), crade("違和感", REPORT)]}
    assert split.leaks([("clean", THIRD * 3), ("bad", THIRD + change(REPORT) + THIRD)], tests) == [
        ("bad", "crade", "1"), ("bad", "crade", "2")]


def test_an_excerpt_of_a_test_document_is_found():
    excerpt = REPORT[:26]
    tests = {"crade": [crade("発疹", REPORT)]}
    assert split.leaks([("excerpt", extraction(excerpt))], tests) == [("excerpt", "crade", "0")]
    conversation = f"{OTHER}\n{extraction(excerpt)}\n{THIRD}"  # what else is said is no part of the document
    assert split.leaks([("talk", conversation)], tests) == [("talk", "crade", "0")]
    assert split.leaks([("phrase", extraction(REPORT[:12]))], tests) == []


def test_a_short_document_is_found_whole_and_not_by_a_phrase_of_it():
    tests = {"smdis": [post(POST)]}
    assert split.leaks([("whole", f"{THIRD}{POST[:3]} {POST[3:]}。{THIRD}")], tests) == [("whole", "smdis", "0")]
    assert splits("SMDIS", [post(POST[2:])], smdis=tests["smdis"]) == ["near_duplicate"]
    assert split.leaks([("phrase", f"{THIRD}山で{POST[2:]}。")], tests) == []


def test_5_grams_that_are_scattered_over_a_long_text_are_no_document():
    test = "".join(chr(0x4E00 + i) for i in range(60))
    scattered = "".join(test[i:i + 5] + THIRD for i in range(0, 56))
    assert split.leaks([("scattered", scattered)], {"jmmlu_med": [test]}) == []
    assert split.leaks([("together", scattered + test)], {"jmmlu_med": [test]}) == [("together", "jmmlu_med", "0")]


def test_a_pair_is_found_with_its_labels_or_without():
    first, second = "検査の翌朝に微熱がみられたため退院を延期した", "検査の次の日に微熱があり退院は延期となった"
    tests = {"jcsts": [pair(first, second)]}
    for text in (pair(first, second), f"{THIRD}{first}。{second}。{THIRD}"):
        assert split.leaks([("", text)], tests) == [("", "jcsts", "0")]
    assert split.leaks([("", pair(THIRD, OTHER.replace("\n", "")))], tests) == []
