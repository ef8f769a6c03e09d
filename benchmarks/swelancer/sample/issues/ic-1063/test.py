import pytest


@pytest.fixture
def bob(sign_up):
    return sign_up("bob")


NOT_THERE = (404, {"error": "there is no such expense"})


def test_expenses_of_others_are_out_of_reach(ada, bob):
    made = ada.spend("2024-02-03", "12.50", note="secret")
    address = f"/api/expenses/{made['id']}"
    for reply in (bob.get(address), bob.patch(address, {"note": "mine"}), bob.delete(address)):
        assert (reply.status, reply.json) == NOT_THERE
    assert ada.get(address).json == made


def test_categories_of_others_are_out_of_reach(ada, bob):
    address = f"/api/categories/{ada.categories()['Fun']}"
    assert bob.patch(address, {"name": "Mine"}).status == 404
    assert bob.delete(address).status == 404
    assert "Fun" in ada.categories()


def test_nothing_moves_into_categories_of_others(ada, bob):
    bob.spend("2024-02-03", "1.00")
    theirs, own = ada.categories()["Food"], bob.categories()["Food"]
    assert bob.delete(f"/api/categories/{own}?move_to={theirs}").status == 404
    assert bob.get("/api/expenses").json["items"][0]["category"] == "Food"


def test_owners_can_still_do_everything(ada):
    made = ada.spend("2024-02-03", "12.50")
    assert ada.patch(f"/api/expenses/{made['id']}", {"note": "x"}).json["note"] == "x"
    assert ada.delete(f"/api/expenses/{made['id']}").status == 204
    assert ada.patch(f"/api/categories/{ada.categories()['Fun']}", {"name": "Games"}).status == 200
