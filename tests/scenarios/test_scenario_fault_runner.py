"""Ten faults by a fixed seed, under load and kills; ``python tests/scenarios/faults.py --faults 200`` does more of them."""

import faults

SEED = 4
FAULTS = 10


async def test_no_receipt_lies_whatever_dies_and_service_returns():
    report = await faults.run(SEED, FAULTS)
    print(f"\n{report}")
    assert report.violations == []
    assert report.stuck == []
    assert report.broken == []
    assert report.faults == FAULTS
    assert report.receipts >= FAULTS, "operators went on meanwhile"
