import pytest


@pytest.mark.parametrize(("count", "pages"), [(4, [2, 2]), (3, [2, 1]), (2, [2]), (1, [1]), (0, [0]), (5, [2, 2, 1])])
def test_following_next_reads_everything_once(ada, count, pages):
    for day in range(1, count + 1):
        ada.spend(f"2024-02-{day:02d}", "1.00")
    sizes, dates, address = [], [], "/api/expenses?per_page=2"
    while address and len(sizes) < 10:
        page = ada.get(address).json
        sizes.append(len(page["items"]))
        dates += [item["date"] for item in page["items"]]
        address = page["next"]
    assert sizes == pages
    assert dates == [f"2024-02-{day:02d}" for day in range(count, 0, -1)]
