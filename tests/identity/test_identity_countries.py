"""Countries, brought to one spelling."""

import pytest

from gateway.identity.countries import BEYOND, ISO_3166_1, NO_STATE, country


@pytest.mark.parametrize(
    ("code", "meant"),
    [
        ("US", "US"), ("USA", "US"), ("GB", "GB"), ("GBR", "GB"), ("DEU", "DE"), ("CHN", "CN"), ("IRN", "IR"),
        ("PRK", "KP"), ("KOR", "KR"), ("AUT", "AT"), ("AUS", "AU"), ("ROU", "RO"), ("HKG", "HK"), ("TWN", "TW"),
        # ICAO Doc 9303
        ("D", "DE"), ("GBD", "GB"), ("GBN", "GB"), ("GBO", "GB"), ("GBP", "GB"), ("GBS", "GB"),
        ("RKS", "XK"), ("XKX", "XK"), ("XK", "XK"), ("XXA", "XXA"), ("XXB", "XXB"), ("XXC", "XXC"),
    ],
)  # fmt: skip
def test_a_code_that_means_a_country_is_brought_to_alpha_2(code, meant):
    assert country(code) == meant


@pytest.mark.parametrize(
    "code",
    ["", "us", "Usa", " US", "US ", "U", "UK", "EU", "EUE", "UNO", "UNA", "UNK", "XPO", "XOM", "XXX", "XX", "ZZ", "ZZZ",
     "AAA", "ANT", "YUG", "840", "United States", "ＵＳ", "US\0"],
)  # fmt: skip
def test_what_is_no_country_means_none(code):
    assert country(code) is None


def test_iso_has_249_countries_each_with_one_code_of_either_kind():
    assert len(ISO_3166_1) == 249
    assert all(len(code) == 2 for code in ISO_3166_1)
    assert not ISO_3166_1 & BEYOND
    assert NO_STATE < BEYOND
