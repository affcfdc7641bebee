"""Licences by name."""

import re
import unicodedata

_PARTS = {
    "nc": r"(?<![a-z])nc(?![a-z])|bync|non[- ]?commercial|非営利|商用(?:利用)?(?:不可|禁止)",
    "nd": r"(?<![a-z])nd(?![a-z])|by(?:nc)?nd|no[- ]?deriv|改変禁止",
    "sa": r"(?<![a-z])sa(?![a-z])|by(?:nc)?sa|share[- ]?alike|継承",
    "unknown": r"^\s*(?:none|null|n/?a|nan|noassertion)?\s*$|unknown|不明"}


def forbidden(license_name: str, names: str) -> str | None:
    """The first of `names`, or None. NAME[,NAME…]: NC, ND, SA, unknown, or any part of a licence's name."""
    for name in filter(None, (part.strip().lower() for part in names.split(","))):
        if re.search(_PARTS.get(name, re.escape(name)), unicodedata.normalize("NFKC", license_name).lower()):
            return name
    return None
