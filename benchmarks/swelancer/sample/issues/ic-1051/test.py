def fail(person, times):
    return [person.sign_in("wrong horse").status for _ in range(times)]


def test_success_starts_the_count_anew(ada):
    assert fail(ada, 4) == [401] * 4
    assert ada.sign_in().status == 200
    assert fail(ada, 1) == [401]
    assert ada.sign_in().status == 200
    assert fail(ada, 4) == [401] * 4
    assert ada.sign_in().status == 200


def test_five_in_a_row_still_lock(ada):
    assert ada.sign_in().status == 200
    assert fail(ada, 5) == [401] * 5
    reply = ada.sign_in()
    assert (reply.status, reply.headers["Retry-After"]) == (429, "900")


def test_others_do_not_help(ada, sign_up):
    bob = sign_up("bob")
    assert fail(ada, 4) == [401] * 4
    assert bob.sign_in().status == 200
    assert fail(ada, 1) == [401]
    assert ada.sign_in().status == 429
