"""What the pages' server knows and decides, one section a task. It judges nothing: the journal says what was done.

Runs in the agent's world: Python 3.8, standard library only.
"""

from __future__ import annotations

import hashlib
import html
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

Body = dict
Answer = dict
"""What a page is told. `ok` False: the server refuses the deed. `also` names a further deed that this one completes."""

PAGES: dict[str, Callable[[dict[str, str], State], tuple[int, str]]] = {}
DATA: dict[str, Callable[[dict[str, str], State], Any]] = {}
DEEDS: dict[str, Callable[[Body, State], Answer]] = {}


class State:
    """What the deeds so far have led to; made again from the journal when the server starts again."""

    def __init__(self) -> None:
        self.members: set[str] = set()
        self.balloon = 0
        self.misses = 0
        self.cards: set[str] = set()
        self.consent: Body = {}
        self.chat = ""


def page(path: str) -> Any:
    return lambda function: PAGES.setdefault(path, function)


def data(path: str) -> Any:
    return lambda function: DATA.setdefault(path, function)


def fixed(path: str, text: str, status: int = 200) -> None:
    PAGES[path] = lambda query, state: (status, text)


def deed(name: str) -> Any:
    return lambda function: DEEDS.setdefault(name, function)


def token(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:16]


# --- login ---


@deed("login/enter")
def _enter(body: Body, state: State) -> Answer:
    if body.get("user") != "r.okafor" or body.get("password") != "tide-7-anchor":
        return {"ok": False, "say": "User name or password is wrong."}
    session = token("login", body["user"])
    state.members.add(session)
    return {"ok": True, "cookie": session}


@page("login/account")
def _account(query: dict[str, str], state: State) -> tuple[int, str]:
    if query.get("cookie") not in state.members:
        return 403, "<title>No entry</title><h1>Please log in first</h1><p><a href='/login/'>Log in</a></p>"
    return 200, "<title>Account</title><h1>R. Okafor</h1><p>Member since 2019</p><p>Card number: HL-84-2217-K</p>"


# --- signup ---


@deed("signup/join")
def _join(body: Body, state: State) -> Answer:
    errors = []
    if not body.get("name"):
        errors.append("Full name is missing.")
    if "@" not in str(body.get("email")):
        errors.append("The e-mail address is not complete.")
    if not 16 <= int(body.get("age") or 0) <= 99:
        errors.append("Members are between 16 and 99 years old.")
    phone = str(body.get("phone", "")).replace(" ", "")
    if not (phone.startswith("+") and phone[1:].isdigit()):
        errors.append("Phone: give it with the country's code, without the first 0: Germany is +49, as in +49 30 1234.")
    if not body.get("country"):
        errors.append("Country is missing.")
    if not body.get("terms"):
        errors.append("The terms have to be accepted.")
    if errors:
        return {"ok": False, "errors": errors}
    body["phone"] = phone
    return {"ok": True}


# --- wiki ---

_WIKI = {
    "rivers": (
        "Rivers",
        "<p>The <b>Veld</b> rises in the Grey Hills and reaches the sea at <a href='/wiki/marrow'>Marrow</a>.</p>"
        "<p>The <b>Sill</b> flows through <a href='/wiki/tansy'>Tansy</a>.</p>",
    ),
    "towns": ("Towns", "<ul><li><a href='/wiki/marrow'>Marrow</a></li><li><a href='/wiki/tansy'>Tansy</a></li></ul>"),
    "feasts": ("Feasts", "<p>On the Day of Lanterns every bridge of Tansy is lit, since 1902.</p>"),
    "marrow": (
        "Marrow",
        "<p>Marrow has three bridges.</p><table><tr><th>Bridge</th><th>Length</th></tr>"
        "<tr><td><a href='/wiki/salt-bridge'>Salt Bridge</a></td><td>212 m</td></tr>"
        "<tr><td><a href='/wiki/heron-bridge'>Heron Bridge</a></td><td>348 m</td></tr>"
        "<tr><td><a href='/wiki/old-bridge'>Old Bridge</a></td><td>97 m</td></tr></table>",
    ),
    "tansy": ("Tansy", "<p>The one bridge of Tansy, 410 m long, was opened in 1871.</p>"),
    "salt-bridge": ("Salt Bridge", "<p>Built from 1925, opened in 1928.</p>"),
    "heron-bridge": ("Heron Bridge", "<p>Begun in 1887; after the flood of 1890 it was opened in 1893.</p>"),
    "old-bridge": ("Old Bridge", "<p>First named in 1604, widened in 1811.</p>"),
}


for _name, (_title, _text) in _WIKI.items():
    fixed(f"wiki/{_name}", f"<title>{_title}</title><h1>{_title}</h1>{_text}<p><a href='/wiki/'>Almanac</a></p>")


# --- table ---


@data("table/rows")
def _rows(query: dict[str, str], state: State) -> Any:
    first = ["Ada", "Bram", "Cleo", "Dov", "Esi", "Finn", "Gita", "Hugo", "Ines", "Joel"]
    last = ["Abel", "Brandt", "Cruz", "Dahl", "Eze"]
    departments = ["Accounts", "Logistics", "Research", "Sales"]
    rows = []
    for n in range(50):
        rows.append(
            {
                "name": f"{first[n % 10]} {last[n // 10]}",
                "dept": departments[(n * 7 + n // 9) % 4],
                "hired": 2005 + (n * 11) % 19,
                "salary": 31_000 + (n * 7919) % 43_000,
            }
        )
    return rows


# --- canvas ---

_FIELD = [
    [[90, 70, "#d22"], [300, 200, "#26c"]],
    [[310, 90, "#d22"], [120, 180, "#2a4"]],
    [[60, 250, "#d22"], [200, 60, "#26c"], [340, 240, "#2a4"]],
    [[220, 160, "#d22"], [80, 90, "#26c"]],
]


@data("canvas/field")
def _field(query: dict[str, str], state: State) -> Any:
    if state.balloon >= len(_FIELD):
        return {"balloons": [], "say": f"All burst, {state.misses} missed."}
    balloons = _FIELD[state.balloon]
    return {"balloons": balloons, "say": f"{state.balloon} of {len(_FIELD)} burst, {state.misses} missed."}


@deed("canvas/hit")
def _hit(body: Body, state: State) -> Answer:
    if state.balloon >= len(_FIELD):
        return {"ok": False, **_field({}, state)}
    x, y, _ = _FIELD[state.balloon][0]
    if (body["x"] - x) ** 2 + (body["y"] - y) ** 2 <= 18**2:
        state.balloon += 1
    else:
        state.misses += 1
    done = state.balloon == len(_FIELD)
    also = {"also": ["canvas/won", {"good": state.misses <= 3}]} if done else {}
    return {"ok": True, **_field({}, state), **also}


# --- checkout ---

_CARD = """<title>Card</title><form id="f"><label>Card number <input name="number"></label><label>Valid until <input name="until" placeholder="MM/YY"></label>
<label>Check digits <input name="cvc"></label><button>Save card</button></form><p id="say"></p><script>
$("#f").onsubmit = async (event) => { event.preventDefault(); const answer = await deed("checkout/card", Object.fromEntries(new FormData($("#f"))));
if (answer.ok) { parent.postMessage({ card: answer.token }, "*"); say("Saved."); } else say(answer.say); };</script>"""  # noqa: E501


fixed("checkout/card", _CARD)


@deed("checkout/card")
def _card(body: Body, state: State) -> Answer:
    number = str(body.get("number", "")).replace(" ", "")
    if len(number) != 16 or not number.isdigit():
        return {"ok": False, "say": "A card number has 16 digits."}
    body["number"] = number
    state.cards.add(token("card", number))
    return {"ok": True, "token": token("card", number)}


@deed("checkout/pay")
def _pay(body: Body, state: State) -> Answer:
    if body.pop("token", "") not in state.cards:
        return {"ok": False, "say": "No card."}
    return {"ok": True, "say": "Paid. Your tea is on its way."}


# --- consent ---


fixed(
    "consent/choices",
    "<title>Choices</title><h1>Your choices</h1><label><input type=checkbox checked disabled>Needed</label>"
    "<label><input type=checkbox id=a checked>Analytics</label><label><input type=checkbox id=b checked>Advertising"
    "</label><button id=s>Save choices</button><script>$('#s').onclick = async () => { await deed('consent/save', "
    "{ analytics: $('#a').checked, advertising: $('#b').checked }); opener.postMessage('saved', '*'); "
    "window.close(); };</script>",
)


@deed("consent/save")
def _consent(body: Body, state: State) -> Answer:
    state.consent = body
    return {"ok": True}


@deed("consent/code")
def _riddle(body: Body, state: State) -> Answer:
    if not state.consent:
        return {"ok": False, "say": "Choose first."}
    tracked = state.consent.get("analytics") or state.consent.get("advertising")
    return {
        "ok": True,
        "say": f"The code of the week is {'Medlar-17' if tracked else 'Quince-41'}.",
    }


# --- upload, statement ---


@deed("upload/claim")
def _claim(body: Body, state: State) -> Answer:
    body["sha256"] = hashlib.sha256(bytes.fromhex(body.pop("hex"))).hexdigest()
    return {"ok": True, "say": f"Received {body['name']}."}


def statement(month: str) -> str:
    lines = [f"day;text;amount;check {token('statement', month)}"]
    for n in range(12):
        amount = int(token(month, str(n)), 16) % 90_000
        lines.append(f"{n * 2 + 1:02d};payment {n + 1};{amount // 100}.{amount % 100:02d};")
    return "\n".join(lines) + "\n"


@deed("statement/audit")
def _audit(body: Body, state: State) -> Answer:
    body["sha256"] = hashlib.sha256(body.pop("text").encode()).hexdigest()
    return {"ok": True, "say": "Sent to the auditor."}


# --- scroll ---


@data("scroll/items")
def _items(query: dict[str, str], state: State) -> Any:
    at = int(query.get("from", "0"))
    things = ["bowl", "brush", "bucket", "candle", "kettle", "ladle", "lantern", "pan", "scale", "tray"]
    metals = ["Brass", "Copper", "Iron", "Steel", "Tin", "Zinc"]
    items = []
    for n in range(at, min(at + 12, 180)):
        name = f"{metals[n // 10 % 6]} {things[(n * 3) % 10]}, {1 + n // 60}.{n % 10} l"
        cents = 300 + (n * 2917) % 9000
        items.append({"name": name, "price": f"{cents // 100}.{cents % 100:02d}"})
    return {"items": items, "next": at + 12 if at + 12 < 180 else -1}


# --- tabs ---

_SHOPS = {
    "brightly": ("Brightly", "34.90", "6.50"),
    "lumen": ("Lumen & Sons", "36.40", "3.90"),
    "wick": ("Wick and Wax", "31.00", "9.80"),
    "glow": ("Glow Depot", "40.20", "0.00"),
}


@page("tabs/shop")
def _shop(query: dict[str, str], state: State) -> tuple[int, str]:
    if query.get("of") not in _SHOPS:
        return 404, "<title>Not found</title><h1>No such shop</h1>"
    name, price, shipping = _SHOPS[query["of"]]
    name = html.escape(name)
    return 200, f"<title>{name}</title><h1>{name}</h1><p>Reading lamp: {price}</p><p>Shipping: {shipping}</p>"


# --- search ---

_STAFF = [
    ("Dr. Ngozi Okafor", "Cardiology", "4417"),
    ("Dr. Nnamdi Okafor", "Radiology", "4471"),
    ("Dr. Nell Oakes", "Cardiology", "4714"),
    ("Sr. Beatrix Lund", "Cardiology", "4120"),
    ("Dr. Paul Oka", "Surgery", "4147"),
]


@data("search/find")
def _find(query: dict[str, str], state: State) -> Any:
    time.sleep(1.2)
    wanted = query.get("q", "").lower()
    return [
        {"name": name, "ward": ward, "extension": extension}
        for name, ward, extension in _STAFF
        if wanted and all(word in f"{name} {ward}".lower() for word in wanted.split())
    ]


# --- broken ---


fixed(
    "broken/hours",
    "<title>Not found</title><h1>This page is not here any more</h1><p>After the move, old pages are in the "
    "<a href='/broken/archive'>archive</a>, by their first letter.</p>",
    404,
)


fixed(
    "broken/exhibits",
    "<title>Exhibits</title><h1>Exhibits</h1><p>Nets, knots and the whale.</p>",
)


@page("broken/archive")
def _archive(query: dict[str, str], state: State) -> tuple[int, str]:
    if query.get("letter") == "O":
        return 200, (
            "<title>Archive: O</title><h1>O</h1><h2>Opening hours</h2><table><tr><th>Tuesday</th><td>10:00-17:00</td>"
            "</tr><tr><th>Thursday</th><td>10:00-19:40</td></tr><tr><th>Sunday</th><td>11:00-16:00</td></tr></table>"
        )
    letters = " ".join(f"<a href='/broken/archive?letter={c}'>{c}</a>" for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return 200, f"<title>Archive</title><h1>Archive</h1><p>{letters}</p>"


# --- autocomplete ---

_PLACES = [
    ("ncl-tyne", "Newcastle upon Tyne", "Tyne and Wear"),
    ("ncl-lyme", "Newcastle-under-Lyme", "Staffordshire"),
    ("ncl-emlyn", "Newcastle Emlyn", "Carmarthenshire"),
    ("newark", "Newark", "Nottinghamshire"),
]


@data("autocomplete/places")
def _places(query: dict[str, str], state: State) -> Any:
    wanted = query.get("q", "").lower()
    return [{"id": i, "name": n, "county": c} for i, n, c in _PLACES if wanted and n.lower().startswith(wanted)]


@deed("autocomplete/go")
def _go(body: Body, state: State) -> Answer:
    if body.get("place") not in [place[0] for place in _PLACES]:
        return {"ok": False, "say": "Choose a destination from the list."}
    return {"ok": True, "say": "Noted."}


# --- chat ---


@deed("chat/say")
def _chat(body: Body, state: State) -> Answer:
    text = str(body.get("text", "")).lower()
    if state.chat == "name":
        state.chat = ""
        if "varga" in text:
            return {"ok": True, "say": "Thank you. The booking code is KX-5530-B.", "also": ["chat/told", {}]}
        return {"ok": True, "say": "I find no booking of that name."}
    if "code" in text:
        state.chat = "name"
        return {"ok": True, "say": "Gladly. What is the family name of the booking?"}
    if "hour" in text or "open" in text:
        return {"ok": True, "say": "We are open from 8 to 18."}
    return {"ok": True, "say": "I can tell opening hours, prices and booking codes."}


# --- orders ---


@data("orders/page")
def _orders(query: dict[str, str], state: State) -> Any:
    status = ["Sent", "Paid", "Returned", "Sent", "Packed", "Sent", "Returned", "Paid", "Sent", "Cancelled", "Packed"]
    rows = [[5100 + n, status[(n * n + n // 5) % 11]] for n in range(58)]
    at = max(1, int(query.get("n", "1")))
    return {"rows": rows[(at - 1) * 12 : at * 12], "pages": 5}


# --- picture ---

_GLYPHS = {  # five columns of seven dots, the lowest bit on top
    "7": (0x01, 0x71, 0x09, 0x05, 0x03),
    "H": (0x7F, 0x08, 0x08, 0x08, 0x7F),
    "K": (0x7F, 0x08, 0x14, 0x22, 0x41),
    "3": (0x22, 0x41, 0x49, 0x49, 0x36),
    "R": (0x7F, 0x09, 0x19, 0x29, 0x46),
    "4": (0x18, 0x14, 0x12, 0x7F, 0x10),
}
CODE = "7HK3R4"


def picture() -> bytes:
    """The code as a PNG: grey paper, dark dots."""
    width, height, dot = 320, 110, 8
    rows = [bytearray([225]) * width for _ in range(height)]
    for place, character in enumerate(CODE):
        for column, bits in enumerate(_GLYPHS[character]):
            for row in range(7):
                if bits >> row & 1:
                    for y in range(dot):
                        x = 10 + place * 51 + column * dot
                        rows[26 + row * dot + y][x : x + dot] = bytes([40]) * dot

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


# --- inbox ---

_SENDERS = ["Bargain Bay", "Ida Moss", "Bargain Bay", "Parish council", "Bargain Bay Ltd", "Bargain Bay", "Tom Reed"]
_SUBJECTS = ["Last chance", "Sunday lunch", "Only today", "Minutes", "Your invoice", "We miss you", "Ladder"]


@data("inbox/mails")
def _mails(query: dict[str, str], state: State) -> Any:
    return [
        {"id": f"m{n + 1}", "from": sender, "subject": subject}
        for n, (sender, subject) in enumerate(zip(_SENDERS, _SUBJECTS))  # noqa: B905
    ]


# --- deeds that are only noted ---

_NOTED = {
    "wizard/book": "Booked. Have a calm crossing.",
    "calendar/book": "The studio is yours.",
    "reorder/save": "Route saved.",
    "shadow/save": "Saved.",
    "keys/choose": "{item}: done.",
    "editor/save": "Saved.",
    "dialogs/rename": "",
    "dialogs/delete": "",
    "sliders/apply": "Applied.",
    "rating/send": "Thank you.",
    "tree/share": "Shared.",
    "inputs/order": "Ordered.",
    "inbox/delete": "Deleted.",
    "hover/open": "{item}: aisle 7.",
}


def _noted(say: str) -> Any:
    return lambda body, state: {"ok": True, "say": say.format(**body) if say else ""}


for _name, _say in _NOTED.items():
    DEEDS[_name] = _noted(_say)
