"""Lists of diseases and drugs → entries with source and licence.

The columns decide the format: MANBYO / J-MeDic, the MHLW drug price list, a table with the columns of MEDIS, or a plain
list of one word a line, the commonest first.
"""

import csv
import dataclasses
import gzip
import io
import itertools
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from slm import sample
from slm.corpus import sources
from slm.text.normalize import normalize

VERSION = 1  # raise it when the same list gives other entries

LONGEST_LINE = 10_000  # bytes; a longer line is neither a row of a table nor a word
LONGEST_WORD = 200  # characters of a line of a plain list; the longest of 380,000 real ones has 60
HEADER_ROWS = 20  # titles and notes may stand above the header


@dataclasses.dataclass(frozen=True)
class Entry:
    """One name of a disease, a drug or something else (`term`), and its origin."""
    surface: str
    kind: str
    reading: str = ""
    code: str = ""  # ICD-10 code of a disease, price list code of a drug
    source: str = ""
    license: str = "unknown"


_DOSE_OR_MAKER = r"[「(]|\d[\d.,]*\s*(?:mg|μg|g|kg|mL|L|%|cm|mm|MBq|kBq|mEq|[万億]|単位|国際単位|吸入|$)"


def load(paths: str) -> list[Entry]:
    """The merged entries of `PATH[@LICENSE][,PATH[@LICENSE]…]`, globs too; empty: of the bundled sample's names."""
    return merge(itertools.chain.from_iterable(lists(paths)))


def lists(paths: str) -> list[list[Entry]]:
    """As `load`, but list by list, neither merged nor normalised."""
    if not paths:
        return [[Entry(surface, kind if kind in ("disease", "drug") else "term", source="sample", license="Apache-2.0")
                 for surface in surfaces] for kind, surfaces in sample.terms().items()]
    result = []
    for part in paths.split(","):
        pattern, _, license = part.partition("@")
        result += [read(path, license) for path in sources.find([pattern])]
    return result


def merge(entries: Iterable[Entry]) -> list[Entry]:
    """Entries with normalised surface and reading; of several with the same surface, the first."""
    merged: dict[str, Entry] = {}
    for entry in entries:
        surface = normalize(entry.surface).strip()
        if surface and surface not in merged:
            merged[surface] = dataclasses.replace(entry, surface=surface, reading=normalize(entry.reading).strip())
    return list(merged.values())


def bare_name(product: str) -> str:
    """A product's name without dose and maker: アスピリン錠 of アスピリン錠100mg「トーワ」, "" of 5%ブドウ糖液."""
    name = re.split(_DOSE_OR_MAKER, normalize(product), maxsplit=1, flags=re.IGNORECASE)[0]
    return name.strip(" ・-_/")


def read(path: Path, license: str = "") -> list[Entry]:
    """The entries of one file, in its order; the commonest first if it is a table with frequencies.

    Args:
      license: of the file's words; empty: the licence of its format, if that has one.

    Raises:
      ValueError: unknown columns, neither UTF-8 nor CP932, empty, cut short, a line too long, or not an xlsx file; the
        message names file, location and fix.
    """
    name = path.name.lower()
    if name.endswith(".xls"):
        raise ValueError(f"{path} has the old Excel format: save it as .xlsx or as .csv")
    if name.endswith((".xlsx", ".xlsm")):
        entries = _read_sheets(path, license)
    else:
        text = _text(path)
        lines = text.split("\n")
        delimiter = "\t" if "\t" in "".join(lines[:HEADER_ROWS]) else ","
        try:
            head = list(csv.reader(lines[:HEADER_ROWS], delimiter=delimiter))
        except csv.Error:
            head = []
        if any(map(_format, head)):
            entries = _table(_rows(text, delimiter, path), license)
        elif ".csv" in name or ".tsv" in name:
            raise _no_header(path, head)
        else:
            entries = list(_plain_list(lines, path, license))
    if not entries:
        raise ValueError(f"{path} holds no entry: download it again, or leave it out")
    return entries


# Tables -------------------------------------------------------------------------------------------------------

# Source → licence, columns that identify the format, further columns it may have; as patterns of header names.
FORMATS: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    "MANBYO": ("CC BY 4.0", {"disease": "出現形", "identified by": "標準病名|ICD.*"},
               {"reading": "(出現形|しゅつげんけい)?(よみ|ヨミ|読み).*", "code": "ICD.*", "frequency": "頻度.*"}),
    "MHLW": ("MHLW public data terms 1.0", {"product": "品名", "ingredient": "成分名"},
             {"code": "薬価基準収載医薬品コード"}),
    "MEDIS": ("unknown", {"disease": "病名表記"}, {"reading": "病名表記カナ|病名カナ", "code": "ICD.*"}),
}


def _format(row: list[str]) -> tuple[str, dict[str, int]] | None:
    """The source and the index of each column, read from a header row; None for any other row."""
    names = [re.sub(r"\s", "", normalize(cell)).upper() for cell in row]
    for source, (_, required, optional) in FORMATS.items():
        columns = {meaning: i for meaning, pattern in (required | optional).items()
                   for i, name in reversed(list(enumerate(names))) if re.fullmatch(pattern, name)}
        if required.keys() <= columns.keys():
            return source, columns
    return None


def _table(rows: Iterable[list[str]], license: str) -> list[Entry]:
    rows = iter(rows)
    source, columns = next(filter(None, map(_format, rows)))
    license = license or FORMATS[source][0]
    entries: list[tuple[float, Entry]] = []
    for row in rows:
        cells = {meaning: row[i].replace("\n", "").strip() for meaning, i in columns.items() if i < len(row)}
        code, product = cells.get("code", ""), cells.get("product", "")
        if "disease" in columns:
            frequency = max(map(float, re.findall(r"\d+(?:\.\d+)?", cells.get("frequency", ""))), default=0.0)
            names = {cells.get("disease", ""): code}
        else:  # the first seven characters of the price list's code are the ingredient's
            frequency, names = 0.0, {cells.get("ingredient", ""): code[:7], bare_name(product): code, product: code}
        kind = "disease" if "disease" in columns else "drug"
        entries += [(frequency, Entry(name, kind, cells.get("reading", ""), code, source, license))
                    for name, code in names.items() if name]
    entries.sort(key=lambda pair: -pair[0])  # stable: without frequencies the order of the file
    return [entry for _, entry in entries]


def _rows(text: str, delimiter: str, path: Path) -> Iterator[list[str]]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        yield from rows
    except csv.Error as error:
        raise ValueError(f"{path}, line {rows.line_num} is not a row of a table ({error}): close its quotation mark"
                         ) from None


def _no_header(path: Path, head: list[list[str]]) -> ValueError:
    first = [cell for cell in (head[0] if head else []) if cell][:12]
    return ValueError(f"{path} has no known header (its first row is {first}): name the columns 出現形 and 標準病名 "
                      "or ICD10 (MANBYO), 品名 and 成分名 (the drug price list) or 病名表記 (MEDIS), or give a plain "
                      "list, .txt, of one word a line")


def _read_sheets(path: Path, license: str) -> list[Entry]:
    try:
        import openpyxl  # late: for this format only
    except ImportError:
        raise RuntimeError(f"{path} needs openpyxl: pip install openpyxl, or save the file as .csv") from None
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        heads = []
        for sheet in book.worksheets:
            sheet.reset_dimensions()  # some programs write them wrongly
            values = sheet.iter_rows(values_only=True)
            rows = (["" if cell is None else str(cell) for cell in row] for row in values)
            head = list(itertools.islice(rows, HEADER_ROWS))
            if any(map(_format, head)):
                return _table(itertools.chain(head, rows), license)
            heads += head
    # Not a zip file, one that is cut short, or one that holds something else.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, SyntaxError, TypeError) as error:
        raise ValueError(f"{path} is not a whole xlsx file ({error}): download it again, or save it as .csv") from None
    raise _no_header(path, heads)


# Text ---------------------------------------------------------------------------------------------------------

def _text(path: Path) -> str:
    """The text of a file, gz or plain, UTF-8 or CP932."""
    lines: list[bytes] = []
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            while line := file.readline(LONGEST_LINE + 1):
                lines.append(line)
                if len(line) > LONGEST_LINE:
                    raise ValueError(f"{path}, line {len(lines)} is longer than {LONGEST_LINE:,} bytes: a list holds "
                                     "one word or row a line; give another file")
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} breaks off after line {len(lines)} ({error}): download it again") from None
    content = b"".join(lines)
    if b"\0" in content:
        raise ValueError(f"{path} holds NUL bytes, so it is not text: name a workbook .xlsx, a compressed list .gz")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        broken = error
    text: str | None
    try:
        text = content.decode("cp932")
    except UnicodeDecodeError:
        text = None
    # Python's CP932 also decodes most broken UTF-8 files: kana then begin with these kanji, which hardly occur
    # otherwise; and it maps the four bytes that CP932 leaves unused to the other characters.
    if text is None or re.search("[縺繧繝\x80\uf8f0-\uf8f3]", text):
        number = content.count(b"\n", 0, broken.start) + 1
        raise ValueError(f"{path}, line {number} is neither UTF-8 (byte 0x{content[broken.start]:02X}) nor CP932: "
                         "convert it with iconv, or download it again")
    return text


def _plain_list(lines: Iterable[str], path: Path, license: str) -> Iterator[Entry]:
    name = path.name.split(".")[0]
    # The name of a plain list is the only hint at its kind.
    kinds = {"disease": "disease|病|manbyo", "drug": "drug|薬|medicine"}
    kind = next((kind for kind, pattern in kinds.items() if re.search(pattern, name.lower())), "term")
    for number, line in enumerate(lines, start=1):
        word = line.strip()
        if len(word) > LONGEST_WORD:
            raise ValueError(f"{path}, line {number} has {len(word)} characters, more than {LONGEST_WORD}: a plain "
                             "list holds one word a line; give a list, not a text")
        if word:
            yield Entry(word, kind, source=name, license=license or "unknown")
