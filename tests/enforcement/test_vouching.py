"""What members say is believed by the key of now, and by those it was before."""

from gateway.enforcement.vouching import KEEP_FORMER, Voucher

SAID = {"rev": 3, "hash": "h", "swept": 3, "streams_cut": 0, "draining": 0, "finishing": ""}


def said_by(voucher: Voucher, **fields):
    said = {**SAID, **fields}
    return {**said, "mac": voucher.renewal("m", said)}


def test_what_was_said_under_a_former_key_is_believed_and_nothing_else():
    old, told, other = Voucher(b"old"), Voucher(b"old"), Voucher(b"other")
    before = said_by(old)
    told.turn(b"new")
    assert told.vouches("m", before)
    assert told.vouches("m", said_by(told))
    assert not old.vouches("m", said_by(told)), "who has not heard of it does not know the new key"
    assert not told.vouches("m", said_by(other))
    assert not told.vouches("another", before)
    assert not told.vouches("m", {**before, "rev": 4})
    assert not told.vouches("m", {**before, "mac": None})


def test_a_leave_is_no_renewal_and_the_other_way_round():
    voucher = Voucher(b"key")
    assert voucher.vouches("m", {"left": True, "left_mac": voucher.leave("m")})
    assert not voucher.vouches("m", {"left": True, "left_mac": voucher.renewal("m", SAID)})
    assert not voucher.vouches("m", {**SAID, "mac": voucher.leave("m")})


def test_only_so_many_former_keys_are_kept():
    voucher, first = Voucher(b"0"), said_by(Voucher(b"0"))
    for number in range(1, KEEP_FORMER + 1):
        voucher.turn(b"%d" % number)
        voucher.turn(b"%d" % number)
    assert voucher.vouches("m", first)
    voucher.turn(b"one more")
    assert not voucher.vouches("m", first)
