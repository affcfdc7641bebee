import gzip
from types import SimpleNamespace
from typing import NamedTuple

import openpyxl
import pytest
import xlrd

from slm.corpus import lexicon
from slm.corpus.lexicon import Entry

MANBYO = [["ID", "出現形", "出現形よみ", "ICDコード", "標準病名", "信頼度レベル", "頻度レベル"],
          ["1", "ｱﾄﾋﾟｰ性皮膚炎", "あとぴーせいひふえん", "L209", "アトピー性皮膚炎", "S", "5-10%"],
          ["2", "発熱", "はつねつ", "R509", "発熱", "S", "95-100%"],
          ["3", "ＡＭＬ", "えーえむえる", "C920", "急性骨髄性白血病", "F", ""],
          ["4", "", "", "", "", "", ""]]
MHLW = [["薬価基準収載品目リスト"], [], ["区分", "薬価基準収載\n医薬品コード", "成分名", "規格", "", "品　名", "メーカー名", "薬価"],
        ["内用薬", "1143001F1234", "アスピリン", "１００ｍｇ１錠", "", "アスピリン錠１００ｍｇ「トーワ」", "東和薬品", "5.7"],
        ["内用薬", "1143001F1242", "アスピリン", "１００ｍｇ１錠", "", "アスピリン錠１００ｍｇ「ＪＧ」", "日本ジェネリック", "5.7"],
        ["注射薬", "3231401A1014", "ブドウ糖", "５％２０ｍＬ１管", "", "５％ブドウ糖液", "ある製薬", "60"]]
MEDIS = [["病名管理番号", "病名表記", "病名表記カナ", "ＩＣＤ１０‐２０１３"], ["1", "気管支喘息", "キカンシゼンソク", "J459"]]


def table(rows, separator=","):
    return "".join(separator.join(f'"{cell}"' for cell in row) + "\r\n" for row in rows)


def sheet(path, rows):
    book = openpyxl.Workbook()
    book.active.append(["説明だけの表"])
    for row in rows:
        book.create_sheet("表").append(row) if row is rows[0] else book["表"].append([cell or None for cell in row])
    book.save(path)


def write(path, rows, encoding="utf-8-sig"):
    if path.suffix == ".xlsx":
        sheet(path, rows)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(table(rows).encode(encoding)))
    else:
        path.write_bytes(table(rows, "\t" if path.suffix == ".tsv" else ",").encode(encoding))
    return path


FORMS = [("a.csv", "utf-8-sig"), ("a.csv", "utf-8"), ("a.csv", "cp932"), ("a.csv", "utf-16"), ("a.tsv", "cp932"), ("a.csv.gz", "utf-8"),
         ("a.txt", "utf-8"), ("a.xlsx", "")]


@pytest.mark.parametrize("name, encoding", FORMS)
def test_manbyo_the_commonest_first(tmp_path, name, encoding):
    entries = lexicon.read(write(tmp_path / name, MANBYO, encoding))
    assert entries[0] == Entry("発熱", "disease", "はつねつ", "R509", "MANBYO", "CC BY 4.0")
    assert [entry.code for entry in entries] == ["R509", "L209", "C920"]


@pytest.mark.parametrize("name, encoding", FORMS)
def test_the_price_list_gives_ingredients_bare_names_and_products(tmp_path, name, encoding):
    entries = lexicon.merge(lexicon.read(write(tmp_path / name, MHLW, encoding)))
    assert [(entry.surface, entry.code) for entry in entries] == [
        ("アスピリン", "1143001"), ("アスピリン錠", "1143001F1234"), ("アスピリン錠100mg「トーワ」", "1143001F1234"),
        ("アスピリン錠100mg「JG」", "1143001F1242"), ("ブドウ糖", "3231401"), ("5%ブドウ糖液", "3231401A1014")]
    assert {(entry.kind, entry.source, entry.license) for entry in entries} == {
        ("drug", "MHLW", "MHLW public data terms 1.0")}


def test_tables_of_medis_shape_have_the_licence_that_is_given(tmp_path):
    path = write(tmp_path / "a.csv", MEDIS, "cp932")
    assert lexicon.read(path) == [Entry("気管支喘息", "disease", "キカンシゼンソク", "J459", "MEDIS", "unknown")]
    assert lexicon.load(f"{path}@MEDIS terms")[0].license == "MEDIS terms"


@pytest.mark.parametrize("name, kind", [("manbyo_diseases.txt", "disease"), ("病名.txt", "disease"), ("mhlw_drugs.txt", "drug"),
                                        ("医薬品.txt.gz", "drug"), ("words.txt", "term")])
def test_a_plain_list_is_told_by_its_name(tmp_path, name, kind):
    content = "肺炎\r\n\r\n1,25-ジヒドロキシ\"D\r\n".encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert lexicon.read(tmp_path / name) == [
        Entry(word, kind, source=name.split(".")[0], license="unknown") for word in ("肺炎", '1,25-ジヒドロキシ"D')]


def test_merging_normalises_and_keeps_the_first(tmp_path):
    entries = [Entry("ＣＯＰＤ", "disease", "ｼｰｵｰﾋﾟｰﾃﾞｨｰ", source="a", license="A"), Entry(" ", "drug"),
               Entry("COPD ", "term", source="b", license="B")]
    assert lexicon.merge(entries) == [Entry("COPD", "disease", "シーオーピーディー", source="a", license="A")]
    (tmp_path / "病.txt").write_text("肺炎\n", encoding="utf-8")
    (tmp_path / "薬.txt").write_text("肺炎\nアスピリン\n", encoding="utf-8")
    both = lexicon.load(f"{tmp_path}/病.txt@CC BY 4.0,{tmp_path}/薬.txt")
    assert [(e.surface, e.kind, e.license) for e in both] == [("肺炎", "disease", "CC BY 4.0"), ("アスピリン", "drug", "unknown")]


def test_without_a_path_the_names_the_project_brings():
    entries = lexicon.load("")
    assert {entry.kind for entry in entries} == {"disease", "drug", "term"}
    assert {(entry.source, entry.license) for entry in entries} == {("sample", "Apache-2.0")}


@pytest.mark.parametrize("product, bare", [
    ("アスピリン錠１００ｍｇ「トーワ」", "アスピリン錠"), ("タケプロンＯＤ錠１５", "タケプロンOD錠"), ("生理食塩液 100mL", "生理食塩液"),
    ("ロキソニンテープ100mg 10cm×14cm", "ロキソニンテープ"), ("リツキシマブ(遺伝子組換え)", "リツキシマブ"), ("５％ブドウ糖液", ""),
    ("4価髄膜炎菌ワクチン", "4価髄膜炎菌ワクチン"), ("3-ヨードベンジルグアニジン(123I)", "3-ヨードベンジルグアニジン")])
def test_bare_names(product, bare):
    assert lexicon.bare_name(product) == bare


UTF8 = "肺炎\nぜんそく\n".encode()


@pytest.mark.parametrize("name, content, message", [
    ("a.csv", "名前,読み\n肺炎,はいえん\n".encode(), r"no known header \(its widest row has 2 columns\): name the columns 出現形"),
    ("a.csv", "出現形,よみ\n肺炎,はいえん\n".encode(), r"no known header"),
    ("a.csv", "出現形,標準病名\n".encode(), r"holds no entry"),
    ("a.csv", ("出現形,標準病名\n\"肺炎,肺炎\n" + "喘息,喘息\n" * 30_000).encode(), r"is not a row of a table .*quotation mark"),
    ("a.txt", b"", r"holds no entry"),
    ("a.txt", b"\n \n", r"holds no entry"),
    ("a.txt", UTF8.replace("そ".encode(), b"\xe3\x81"), r"line 2 is neither UTF-8 \(byte 0xE3\) nor CP932: convert"),
    ("a.txt", b"\xff\xfe\n", r"is not utf-16.* after line 0, as its byte order mark says: save it again as UTF-8"),
    ("a.txt", b"\xef\xbb\xbfx\n\xff", r"is not utf-8 after line 0, as its byte order mark says"),
    ("a.txt", "肺炎\nA\n".encode("utf-16-le"), r"holds NUL bytes, so it is neither UTF-8 nor CP932 text"),
    ("a.txt", "肺炎\n気管支喘息\n".encode("euc_jp"), r"line 1 is neither UTF-8|line 1\): convert it with iconv"),
    ("a.txt", "漢字\n".encode("euc_jp"), r"a\.txt.*convert it with iconv"),
    ("a.txt", "肺炎\n".encode("iso2022_jp"), r"is ISO-2022-JP: convert it with iconv -f ISO-2022-JP -t UTF-8"),
    ("a.txt", b"PK\0\0", r"holds NUL bytes.*name a workbook \.xlsx"),
    ("a.txt", b"A01\tB02\nC03\tD04\n", r"no known header \(its widest row has 2 columns\)"),
    ("a.txt", "1,二,三\n4,五,六\n".encode("cp932"), r"no known header \(its widest row has 3 columns\)"),
    ("a.tsv", "A01\tB02\n".encode("utf-16"), r"no known header \(its widest row has 2 columns\)"),
    ("a.txt", ("肺炎\n" + "長" * 201).encode(), r"line 2 has 201 characters, more than 200"),
    ("a.txt", b"x\n" + b"y" * 10_001, r"line 2 is longer than 10,000 characters"),
    ("a.txt.gz", gzip.compress(UTF8 * 500)[:-20], r"breaks off after line \d+ .*download it again"),
    ("a.txt.gz", UTF8, r"breaks off after line 0"),
    ("a.xlsx", b"no workbook", r"is not a whole xlsx file"),
    ("a.xls", b"\xd0\xcf\x11\xe0" * 9, r"a\.xls is not a whole xls file \(\w+\): save it as \.xlsx or \.csv"),
])
def test_bad_files_are_named_with_location_and_fix(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        lexicon.load(str(tmp_path / name))
    assert str(tmp_path / name) in str(error.value)


def test_a_workbook_cut_short_or_without_the_columns(tmp_path):
    whole = write(tmp_path / "a.xlsx", MANBYO).read_bytes()
    (tmp_path / "b.xlsx").write_bytes(whole[:len(whole) // 2])
    with pytest.raises(ValueError, match=r"b\.xlsx is not a whole xlsx file"):
        lexicon.read(tmp_path / "b.xlsx")
    with pytest.raises(ValueError, match=r"c\.xlsx has no known header \(its widest row has 1 columns\)"):
        lexicon.read(write(tmp_path / "c.xlsx", [["名前"], ["肺炎"]]))


def test_all_sheets_of_a_workbook_the_commonest_first(tmp_path, capsys):
    book = openpyxl.Workbook()
    book.active.append(["表紙"])
    for name, rows in (("急性", [["二", "しゅ", "K10", "二", "S", "5%"]]), ("慢性", [["三", "さん", "K20", "三", "S", "50%"]])):
        for row in [MANBYO[0][1:], *rows]:
            (book[name] if name in book.sheetnames else book.create_sheet(name)).append(row)
    book.save(tmp_path / "a.xlsx")
    assert [(entry.surface, entry.code) for entry in lexicon.read(tmp_path / "a.xlsx")] == [("三", "K20"), ("二", "K10")]
    assert "a.xlsx: 1 sheets without a known header are left out" in capsys.readouterr().err


def test_sheets_of_the_old_excel_format(tmp_path, monkeypatch):
    class Cell(NamedTuple):
        value: object
        ctype: int = xlrd.XL_CELL_TEXT

    class Sheet:
        def __init__(self, rows):
            self.get_rows = lambda: iter(rows)
    sheets = [Sheet([[Cell("病名表記"), Cell("ICD10")], [Cell(name), Cell(code, kind)]]) for name, code, kind in (
        ("甲炎", 401.0, xlrd.XL_CELL_NUMBER), ("乙症", "I10", xlrd.XL_CELL_TEXT))]
    monkeypatch.setattr(xlrd, "open_workbook", lambda path, logfile: SimpleNamespace(sheets=lambda: sheets))
    assert [(entry.surface, entry.code) for entry in lexicon.read(tmp_path / "a.xls")] == [("甲炎", "401"), ("乙症", "I10")]


def test_a_workbook_that_unfolds_without_end_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "a.xlsx", MANBYO)
    monkeypatch.setattr(lexicon, "LARGEST_WORKBOOK", 1000)
    with pytest.raises(ValueError, match=r"a\.xlsx unfolds to [\d,]+ bytes, more than 1,000: save it as \.csv"):
        lexicon.read(path)


def test_the_master_of_disease_names_without_a_header(tmp_path, capsys):
    rows = [["0", f"2005{i:04d}", f"試験病{i}", "シケンビョウ", "1", f"{'A1'[i % 2]}11C", f"E1{i}0", "", "2020"] for i in range(3)]
    (tmp_path / "nmain.txt").write_bytes(table(rows).encode("cp932"))
    assert lexicon.read(tmp_path / "nmain.txt")[1] == Entry("試験病1", "disease", "シケンビョウ", "E110", "MEDIS", "unknown")
    assert "nmain.txt is not UTF-8: it is read as CP932" in capsys.readouterr().err


def test_commas_and_at_signs_in_a_path_belong_to_it(tmp_path):
    folder = tmp_path / "a,b[1]@x"
    folder.mkdir()
    (folder / "病@y,z.txt").write_text("肺炎\n", encoding="utf-8")
    (tmp_path / "薬.txt").write_text("甲錠\n", encoding="utf-8")
    for pattern in (folder / "病@y,z.txt", f"{folder}/*.txt"):
        entries = lexicon.load(f"{pattern}@CC0,{tmp_path}/薬.txt")
        assert [(entry.surface, entry.license) for entry in entries] == [("肺炎", "CC0"), ("甲錠", "unknown")]
        assert [entry.license for entry in lexicon.load(f"{tmp_path}/薬.txt,{pattern}")] == ["unknown"] * 2
