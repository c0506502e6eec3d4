"""A primary that dies in the middle of commits: what had a receipt stays off. ``sentinels.py`` does it ten times."""

import sentinels


async def test_what_had_a_receipt_stays_off_when_the_primary_dies():
    report = await sentinels.run(kills=1)
    assert report.kills == 1
    assert report.asked > 0
    assert report.reopened == []
