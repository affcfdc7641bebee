"""Licences by name."""

import re

_PARTS = {"nc": r"(?<![a-z])nc(?![a-z])|non-?commercial|非営利", "nd": r"(?<![a-z])nd(?![a-z])|no-?deriv|改変禁止",
          "sa": r"(?<![a-z])sa(?![a-z])|share-?alike", "unknown": r"^\s*$|unknown|不明"}


def forbidden(license_name: str, names: str) -> str | None:
    """The first of `names`, or None. NAME[,NAME…]: NC, ND, SA, unknown, or any part of a licence's name."""
    for name in filter(None, (part.strip().lower() for part in names.split(","))):
        if re.search(_PARTS.get(name, re.escape(name)), license_name.lower()):
            return name
    return None
