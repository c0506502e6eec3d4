"""Names that were refused as unknown: counted, bounded, and several workers' as one."""

from gateway.observability.refused import MOST, RefusedNames, merged


def test_names_are_counted_with_their_last_time():
    names = RefusedNames()
    for at in (1.0, 3.0):
        names.add("openai", "gpt-7", at)
    names.add("anthropic", "gpt-7", 2.0)
    assert sorted(names.rows()) == [("anthropic", "gpt-7", 1, 2.0), ("openai", "gpt-7", 2, 3.0)]


def test_who_makes_names_up_pushes_out_the_least_lately_wanted():
    names = RefusedNames()
    names.add("openai", "wanted", 0.0)
    for number in range(MOST * 3):
        names.add("openai", f"made-up-{number}", float(number))
        names.add("openai", "wanted", float(number))
    found = {name: times for _, name, times, _ in names.rows()}
    assert len(found) == MOST
    assert found["wanted"] == MOST * 3 + 1
    assert f"made-up-{MOST * 3 - 1}" in found
    assert "made-up-0" not in found


def test_workers_are_added_up():
    rows = [("openai", "a", 1, 5.0), ("openai", "b", 9, 1.0), ["openai", "a", 2, 4.0]]
    assert merged(rows) == [("openai", "b", 9, 1.0), ("openai", "a", 3, 5.0)]
    assert merged([]) == []
