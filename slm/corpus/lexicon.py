"""Lists of diseases and drugs → entries with source and licence.

The columns decide the format: MANBYO / J-MeDic, the MHLW drug price list, a table with the columns of MEDIS (with or
without a header), or a plain list of one word a line, the commonest first. All sheets of a workbook are read.
"""

import csv
import dataclasses
import io
import itertools
import os
import re
import sys
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from slm import files, sample
from slm.corpus import sources
from slm.text.normalize import normalize

VERSION = 2  # raise it when the same list gives other entries

LONGEST_LINE = 10_000  # characters; a longer line is neither a row of a table nor a word
LONGEST_WORD = 200  # characters of a line of a plain list; the longest of 380,000 real ones has 60
LARGEST_WORKBOOK = 500_000_000  # bytes, unfolded
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
    named = map(_with_license, sources.split(paths, _names_a_file))
    return [read(path, license) for pattern, license in named for path in sources.find(pattern)]


def _with_license(part: str) -> tuple[str, str]:
    """PATH[@LICENSE] → path and licence; an @ in the name of a file or folder that exists belongs to the path."""
    for end in (len(part), *(match.start() for match in reversed(list(re.finditer("@", part))))):
        if files.literal_folder(part[:end])[0].count("@") == part[:end].count("@"):
            break
    return part[:end], part[end + 1:]


def _names_a_file(text: str) -> bool:
    pattern, license = _with_license(text)
    return os.path.exists(pattern) and "," not in license


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
      ValueError: unknown columns, neither UTF-8, UTF-16 nor CP932, empty, cut short, a line too long, or not a
        workbook; the message names file, location and fix.
    """
    name = path.name.lower()
    if name.endswith((".xlsx", ".xlsm", ".xls")):
        entries = _commonest_first(_sheets(path, license))
    else:
        lines = list(files.text_lines(path, LONGEST_LINE))
        delimiter = "\t" if any("\t" in line for line in lines[:HEADER_ROWS]) else ","
        try:
            head = list(csv.reader(lines[:HEADER_ROWS], delimiter=delimiter))
        except csv.Error:
            head = []
        if _header(head):
            entries = _commonest_first(_ranked(_rows(lines, delimiter, path), license))
        elif ".csv" in name or ".tsv" in name or _has_columns(head, delimiter):
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


def _header(head: list[list[str]]) -> tuple[int, str, dict[str, int]] | None:
    """The number of rows up to the header, the source and its columns; None for a table of an unknown kind."""
    for number, row in enumerate(head, start=1):
        if match := _format(row):
            return number, *match
    # MEDIS publishes its master of disease names (nmain….txt) without a header: flag, number, name, reading, codes.
    rows = list(filter(any, head))
    first = rows[0] if rows else []
    if len(first) > 4 and re.fullmatch(r"\d{8}", first[1]) and re.fullmatch("[ァ-ヺー・A-Z0-9 ]+", normalize(first[3])):
        codes = [i for i in range(4, len(first)) if first[i] and all(
            re.fullmatch(r"[A-Z]\d{2}[0-9A-Z.\-]{0,3}|", cell) for row in rows for cell in row[i:i + 1])]
        return 0, "MEDIS", {"disease": 2, "reading": 3} | ({"code": codes[0]} if codes else {})
    return None


def _has_columns(head: list[list[str]], delimiter: str) -> bool:
    """Whether rows of equal width show that a file is a table, not a list of words some of which have a comma."""
    widths = [len(row) for row in head if row]
    least_rows = {1: HEADER_ROWS + 1, 2: 1 if delimiter == "\t" else 5}.get(widths[0] if widths else 1, 2)
    return len({*widths}) == 1 and len(widths) >= least_rows


def _commonest_first(ranked: list[tuple[float, Entry]]) -> list[Entry]:
    return [entry for _, entry in sorted(ranked, key=lambda pair: -pair[0])]  # stable


def _ranked(rows: Iterable[list[str]], license: str) -> list[tuple[float, Entry]]:
    """(frequency, entry) of the rows below the header, in their order; none where there is no header."""
    rows = iter(rows)
    head = list(itertools.islice(rows, HEADER_ROWS))
    header = _header(head)
    if header is None:
        return []
    number, source, columns = header
    license = license or FORMATS[source][0]
    entries: list[tuple[float, Entry]] = []
    for row in itertools.chain(head[number:], rows):
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
    return entries


def _rows(lines: Iterable[str], delimiter: str, path: Path) -> Iterator[list[str]]:
    rows = csv.reader(lines, delimiter=delimiter)
    try:
        yield from rows
    except csv.Error as error:
        raise ValueError(f"{path}, line {rows.line_num} is not a row of a table ({error}): close its quotation mark"
                         ) from None


def _no_header(path: Path, head: list[list[str]]) -> ValueError:
    return ValueError(f"{path} has no known header (its widest row has {max(map(len, head), default=0)} columns): name "
                      "the columns 出現形 and 標準病名 or ICD10 (MANBYO), 品名 and 成分名 (the drug price list) or "
                      "病名表記 (MEDIS), or give a plain list, .txt, of one word a line")


def _sheets(path: Path, license: str) -> list[tuple[float, Entry]]:
    """(frequency, entry) of the rows of all sheets that have a header."""
    heads: list[list[str]] = []
    entries: list[tuple[float, Entry]] = []
    skipped = 0
    for rows in _xls(path) if path.suffix.lower() == ".xls" else _xlsx(path):
        head = list(itertools.islice(rows, HEADER_ROWS))
        heads += head
        skipped += _header(head) is None and any(map(any, head))
        entries += _ranked(itertools.chain(head, rows), license)
    if not entries:
        raise _no_header(path, heads)
    if skipped:
        print(f"{path}: {skipped} sheets without a known header are left out", file=sys.stderr, flush=True)
    return entries


def _xlsx(path: Path) -> Iterator[Iterator[list[str]]]:
    try:
        import openpyxl  # late: for this format only
    except ImportError:
        raise RuntimeError(f"{path} needs openpyxl: pip install openpyxl, or save the file as .csv") from None
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
        if size > LARGEST_WORKBOOK:
            raise ValueError(f"{path} unfolds to {size:,} bytes, more than {LARGEST_WORKBOOK:,}: save it as .csv")
        warnings.filterwarnings("ignore", module="openpyxl")  # they quote cells and properties
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        for sheet in book.worksheets:
            sheet.reset_dimensions()  # some programs write them wrongly
            yield (["" if cell is None else str(cell) for cell in row] for row in sheet.iter_rows(values_only=True))
    # Not a zip file, one that is cut short, or one that holds something else.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, SyntaxError, TypeError) as error:
        raise ValueError(f"{path} is not a whole xlsx file ({type(error).__name__}): download it again, or save it as "
                         ".csv") from None


def _xls(path: Path) -> Iterator[Iterator[list[str]]]:
    try:
        import xlrd
    except ImportError:
        raise RuntimeError(f"{path} needs xlrd: pip install xlrd, or save the file as .xlsx or .csv") from None
    try:
        book = xlrd.open_workbook(path, logfile=io.StringIO())
    # xlrd checks little: a broken file raises whatever its bytes lead to, with some of them in the message.
    except Exception as error:
        raise ValueError(f"{path} is not a whole xls file ({type(error).__name__}): save it as .xlsx or .csv"
                         ) from None
    for sheet in book.sheets():
        yield ([str(int(cell.value)) if cell.ctype == xlrd.XL_CELL_NUMBER and cell.value.is_integer()
                else str(cell.value) for cell in row] for row in sheet.get_rows())


# Text ---------------------------------------------------------------------------------------------------------

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
