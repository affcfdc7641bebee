"""What a licence's name forbids."""

import pytest

from slm.corpus.licenses import forbidden


@pytest.mark.parametrize("license_name, names, expected", [
    ("CC BY-NC 4.0", "NC", "nc"), ("CC-BY-NC-SA-4.0", "ND,SA", "sa"), ("Creative Commons NonCommercial", "nc", "nc"),
    ("unknown", "NC,unknown", "unknown"), ("", "unknown", "unknown"), ("unknown (annotations: CC0-1.0)", "unknown", "unknown"),
    ("CC BY 4.0", "NC,ND,unknown", None), ("public-domain (JP)", "nc,nd,sa,unknown", None), ("CC BY-NC 4.0", "", None),
    ("MHLW public data terms 1.0", "mhlw", "mhlw"), ("Apache-2.0", "NC", None),
    ("ＣＣ　ＢＹ－ＮＣ", "NC", "nc"), ("CCBYNCND4.0", "ND", "nd"), ("表示-継承", "SA", "sa"), ("商用利用不可", "NC", "nc"),
    ("None", "unknown", "unknown"), ("MIT; CC BY-NC", "NC", "nc"),
])
def test_forbidden(license_name, names, expected):
    assert forbidden(license_name, names) == expected
